"""Logins and encryption: what is right works on every way to the server, what is wrong says so and gives nothing away."""

from __future__ import annotations

import ssl
import traceback
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.backend import OpenContext, WriteBatch
from gateway.errors import GatewayError, StoreError, StoreUnavailableError
from gateway.findings import Level
from gateway.query import Query
from gateway.records import ORDER_BOOK_SNAPSHOTS, TICK_PRICES, Row
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.codec import from_micros
from gateway.records.stamp import Stamper
from gateway_questdb.backend import QuestDbBackend
from gateway_questdb.examine import examine
from gateway_questdb.opening import open_backend
from gateway_questdb.plugin import SPEC
from gateway_questdb.schema import schema_of
from gateway_questdb.settings import QuestDbSettings
from tests.plugins.questdb.tls_front import TlsFront
from tests.servers import MissingServerError, QuestDbServer

USER, SECRET, WRONG = "bot", "s3cret;=&%/-right", "wr0ng;secret%41"
NOON = 1_788_000_000_000_000


@pytest.fixture(scope="module")
def guarded() -> Iterator[QuestDbServer]:
    """A server that asks for a login on both ways."""
    login = {"http.user": USER, "http.password": SECRET, "pg.user": USER, "pg.password": SECRET}
    try:
        made = QuestDbServer.default(settings=login)
    except MissingServerError as missing:
        pytest.skip(f"no server: {missing}")
    if made.given:
        pytest.skip("no server: this test asks for a login, and the server was given by URL")
    with made as server:
        yield server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Who vouches for the front's certificate."""
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that makes a client trust the front."""
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def front(guarded: QuestDbServer, authority: trustme.CA) -> Iterator[TlsFront]:
    """TLS in front of the server, with a certificate for 127.0.0.1."""
    yield from _front(guarded, authority, "127.0.0.1")


@pytest.fixture
def stranger(guarded: QuestDbServer, authority: trustme.CA) -> Iterator[TlsFront]:
    """The same with a certificate for another name."""
    yield from _front(guarded, authority, "db.example.com")


def _front(server: QuestDbServer, authority: trustme.CA, name: str) -> Iterator[TlsFront]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    with TlsFront(server, context) as made:
        yield made


def context_at(place: QuestDbServer | TlsFront, **settings: Any) -> OpenContext:
    """Return how to open a store behind these ports, as the right user unless settings say otherwise."""
    scheme = "https" if isinstance(place, TlsFront) else "questdb"
    chosen = {
        "url": f"{scheme}://127.0.0.1:{place.port}?pg_port={place.pg_port}",
        "user": USER,
        "password": SECRET,
        "retry_seconds": 0,
    }
    made = QuestDbSettings(**{**chosen, **settings})
    return OpenContext("questdb", made, BUILTIN_KINDS, Path())


def rows_of(stamper: Stamper) -> list[Row]:
    """Return a row that is written as a line, and one with arrays, which the official client writes."""
    moment = from_micros(NOON)
    tick = TICK_PRICES.model.model_validate({"timestamp": moment, "symbol": "BTC", "price": 1.5})
    book = ORDER_BOOK_SNAPSHOTS.model.model_validate(
        {"timestamp": moment, "condition_id": "0x1", "bids": [[1.0, 2.0]], "asks": [[3.0, 4.0]]}
    )
    return [stamper.stamp(TICK_PRICES, tick), stamper.stamp(ORDER_BOOK_SNAPSHOTS, book)]


async def use(store: QuestDbBackend) -> None:
    """Write and read on every way there is."""
    stamper = Stamper(str(uuid.uuid4()))
    rows = rows_of(stamper)
    await store.gateway_write(WriteBatch(rows))
    for row in rows:
        assert list(await store.gateway_query(Query(row.kind, stamper.tenant))) == [row]
    table = await store.gateway_read_columns(Query(TICK_PRICES, stamper.tenant), ("price",))
    assert table.column("price").to_pylist() == [1.5]


def silent(error: GatewayError, *secrets: str) -> None:
    """Make sure that neither an error nor anything that it came from tells a secret."""
    text = "".join(traceback.format_exception(error)) + repr(error)
    assert not [secret for secret in secrets if secret in text]


@pytest.mark.anyio
async def test_the_right_login_opens_every_way(guarded: QuestDbServer) -> None:
    """With user and password rows are written by both writers, read, exported and examined; nothing shows them."""
    context = context_at(guarded)
    store = await open_backend(context)
    await use(store)
    assert (await store.gateway_health()).ok
    assert not [one for one in examine(context) if one.level is Level.FAIL]
    shown = (store, context, context.settings, store._senders, store._readers, store._writer, store._address)
    assert SECRET not in "".join(map(repr, shown))
    await store.gateway_close()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "login",
    [
        {"password": WRONG},
        {"user": "nobody"},
        {"user": None, "password": None},
        {"user": USER, "password": None},
    ],
    ids=["password", "user", "none", "no password"],
)
async def test_a_wrong_or_missing_login_says_so(guarded: QuestDbServer, login: dict[str, Any]) -> None:
    """Opening, the schema and the doctor name the settings to correct, and neither the right nor the wrong secret."""
    context = context_at(guarded, **login)
    with pytest.raises(StoreError, match="refuses the login") as caught:
        await open_backend(context)
    assert not caught.value.transient
    silent(caught.value, SECRET, WRONG)
    with pytest.raises(StoreError, match="refuses the login") as caught:
        schema_of(context).check()
    silent(caught.value, SECRET, WRONG)
    (red,) = examine(context)
    assert red.level is Level.FAIL
    assert "refuses the login" in red.sentence
    assert WRONG not in repr(red)


@pytest.mark.anyio
async def test_a_wrong_token_fails_the_write_for_good(guarded: QuestDbServer) -> None:
    """A login that only HTTP refuses shows with the first write of either writer, and repeating cannot mend it."""
    store = await open_backend(context_at(guarded, token=WRONG))
    stamper = Stamper(str(uuid.uuid4()))
    for row in rows_of(stamper):
        with pytest.raises(StoreError, match="refuses the login") as caught:
            await store.gateway_write(WriteBatch([row]))
        assert not caught.value.transient
        silent(caught.value, SECRET, WRONG)
    with pytest.raises(StoreError, match="refuses the login"):
        await store.gateway_read_columns(Query(TICK_PRICES, stamper.tenant), ("price",))
    assert WRONG not in repr(store._address) + repr(store._senders) + repr(store._writer)
    await store.gateway_close()


@pytest.mark.anyio
async def test_behind_tls_every_way_is_encrypted(front: TlsFront, ca_file: Path) -> None:
    """With `https://` and the authority's file both writers, reads, exports and the doctor work, on both ports."""
    context = context_at(front, tls_ca=str(ca_file))
    store = await open_backend(context)
    await use(store)
    assert not [one for one in examine(context) if one.level is Level.FAIL]
    assert SPEC.settings is QuestDbSettings
    assert all(one.encrypted and one.verified for one in context.settings.endpoints())
    await store.gateway_close()


@pytest.mark.anyio
async def test_an_untrusted_certificate_is_refused(
    guarded: QuestDbServer, front: TlsFront, stranger: TlsFront, ca_file: Path
) -> None:
    """Without the authority's file, or with a certificate for another name, nothing is sent on either way."""
    for place, settings in ((front, {}), (stranger, {"tls_ca": str(ca_file)})):
        with pytest.raises(StoreUnavailableError, match="STORAGE_QUESTDB_TLS_CA"):
            await open_backend(context_at(place, **settings))
        (red,) = examine(context_at(place, **settings))
        assert "STORAGE_QUESTDB_TLS_CA" in red.sentence
        only_http = context_at(
            guarded,
            url=f"https://127.0.0.1:{place.port}?pg_port={guarded.pg_port}",
            pg_tls=False,
            **settings,
        )
        store = await open_backend(only_http)
        stamper = Stamper(str(uuid.uuid4()))
        for row in rows_of(stamper):
            with pytest.raises(StoreUnavailableError, match="STORAGE_QUESTDB_TLS_CA") as caught:
                await store.gateway_write(WriteBatch([row]))
            silent(caught.value, SECRET)
        with pytest.raises(StoreUnavailableError, match="STORAGE_QUESTDB_TLS_CA"):
            await store.gateway_read_columns(Query(TICK_PRICES, stamper.tenant), ("price",))
        assert list(await store.gateway_query(Query(TICK_PRICES, stamper.tenant))) == []
        await store.gateway_close()


@pytest.mark.anyio
async def test_verification_can_be_switched_off(stranger: TlsFront) -> None:
    """With `tls_verify` off any certificate is taken, and the endpoints say that nobody proved anything."""
    context = context_at(stranger, tls_verify=False)
    store = await open_backend(context)
    await use(store)
    assert not any(one.verified for one in context.settings.endpoints())
    await store.gateway_close()


@pytest.mark.anyio
async def test_tls_where_there_is_none_is_an_error_with_a_way_out(
    guarded: QuestDbServer, front: TlsFront
) -> None:
    """Encrypted where the server speaks plainly, and plain where it does not, are errors and no hanging."""
    for url in (
        f"https://127.0.0.1:{guarded.port}?pg_port={guarded.pg_port}",
        f"questdb://127.0.0.1:{front.port}?pg_port={front.pg_port}",
    ):
        with pytest.raises(StoreError) as caught:
            await open_backend(context_at(guarded, url=url, connect_timeout=5))
        silent(caught.value, SECRET)
