"""TLS and ACL: what the server must prove, and which rights are enough."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cache.contract import Miss
from gateway.errors import CacheError
from gateway_redis.cache import RedisCache
from tests.plugins.redis.redis_lab import LONG, Holder, opened, settings
from tests.servers import RedisServer

DOCS = Path(__file__).parents[3] / "docs" / "redis.md"


def documented_rights() -> str:
    """Return the rights as the documentation tells an operator to give them."""
    lines = DOCS.read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith("ACL SETUSER bot ")]
    return line.partition(">PASSWORD ")[2]


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A server with a user who has the documented rights, and users who lack one of them each."""
    rights = documented_rights()
    users = {"bot": rights, "strange": rights.replace("~sg:*", "~other:*"), "bare": "~sg:* +@connection"}
    with RedisServer.made(users=users) as server:
        yield server


@pytest.mark.anyio
async def test_the_documented_rights_are_enough(guarded: RedisServer) -> None:
    """Connecting, the four operations, health, and scripts that the server forgot."""
    async with opened(guarded.url_of("bot"), key_prefix="sg") as held:
        await held.put("a", 1)
        assert await held.get("a") == b"version 1"
        assert await held.get("b") is Miss.LEASED
        await held.fill("b", 1)
        guarded.ask("SCRIPT", "FLUSH")
        assert await held.get("b") == b"version 1"
        held.terms = held.terms._replace(probation_ms=10)
        await held.get("c")
        assert (await held.cache.health()).ok


@pytest.mark.anyio
@pytest.mark.parametrize("rights", documented_rights().split())
async def test_each_documented_right_is_needed(rights: str) -> None:
    """Nothing is asked for that is not used: without any one of them something fails."""
    left = [one for one in documented_rights().split() if one != rights]
    with RedisServer.made(users={"bot": " ".join(left)}) as server:
        cache = RedisCache(settings(server.url_of("bot"), key_prefix="sg"))
        try:
            with pytest.raises(CacheError):
                await _everything(cache)
        finally:
            await cache.close()


async def _everything(cache: RedisCache) -> None:
    contact = await cache.contact()
    for probation in (10, 0):
        held = Holder(cache, contact, LONG._replace(probation_ms=probation))
        await held.get("a")
        await held.fill("a", 1)
        await held.begin("a", "one")
        await held.begin("a", "two")
        await held.end("a", 1, "one")
        await held.end("a", 1, "two")
        await held.get("a")


@pytest.mark.anyio
@pytest.mark.parametrize("user", ["strange", "bare"])
async def test_missing_rights_are_told(guarded: RedisServer, user: str) -> None:
    """With where to look, and without the password."""
    cache = RedisCache(settings(guarded.url_of(user), key_prefix="sg"))
    try:
        with pytest.raises(CacheError, match=r"docs/redis\.md") as caught:
            await cache.contact()
        assert guarded.password not in str(caught.value)
    finally:
        await cache.close()


@pytest.mark.anyio
async def test_tls_with_a_trusted_certificate(tls_server: RedisServer) -> None:
    """The whole round over an encrypted connection to a server that proved who it is."""
    url = tls_server.url().replace("redis:", "rediss:")
    async with opened(url, tls_ca=str(tls_server.ca_file)) as held:
        await held.put("a", 1)
        assert await held.get("a") == b"version 1"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("scheme", "more", "said"),
    [
        ("rediss", {}, "TLS"),
        ("rediss", {"tls": "verify-ca"}, "TLS"),
        ("redis", {}, "cannot be reached"),
    ],
    ids=["unknown authority", "unknown authority, any name", "plain text"],
)
async def test_tls_refuses(tls_server: RedisServer, scheme: str, more: dict[str, str], said: str) -> None:
    """A certificate that nobody vouches for is refused; a server with TLS alone does not talk in plain text."""
    cache = RedisCache(settings(tls_server.url().replace("redis:", f"{scheme}:"), **more))
    try:
        with pytest.raises(CacheError, match=said):
            await cache.contact()
    finally:
        await cache.close()


@pytest.mark.anyio
async def test_tls_checks_the_name(tls_server: RedisServer) -> None:
    """The certificate is for 127.0.0.1: under another name of the machine only weaker modes take it."""
    url = tls_server.url().replace("redis:", "rediss:").replace("127.0.0.1", "127.0.0.2")
    ca = str(tls_server.ca_file)
    cache = RedisCache(settings(url, tls_ca=ca))
    try:
        with pytest.raises(CacheError):
            await cache.contact()
    finally:
        await cache.close()
    plain = tls_server.url().replace("redis:", "rediss:")
    async with opened(plain, tls="require") as held:
        assert await held.get("a") is Miss.LEASED
