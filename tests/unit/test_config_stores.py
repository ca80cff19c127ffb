"""The grammar of STORAGE_BACKENDS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.backend import Backend, BackendSpec, OpenContext
from gateway.errors import ConfigurationError, PluginError
from gateway.hookspecs import hookimpl
from gateway.locations import may_be_one, server_of
from gateway.registry import discover
from gateway.stores import StoreName, named_stores, parse_backends
from gateway.variables import Variables

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
LOCATIONS = st.text(
    alphabet=st.characters(codec="utf-8", exclude_characters=",@", exclude_categories=["Z", "C"]), max_size=40
).filter(lambda text: not text.startswith("//"))


def triples(text: str) -> list[tuple[str, str, str | None]]:
    """Return what a text means, without the source."""
    return [(store.instance, store.backend, store.location) for store in parse_backends(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sqlite", [("sqlite", "sqlite", None)]),
        ("json,sqlite", [("json", "json", None), ("sqlite", "sqlite", None)]),
        (" JSON , SQLite, ", [("json", "json", None), ("sqlite", "sqlite", None)]),
        ("sqlite:", [("sqlite", "sqlite", None)]),
        (
            "old=sqlite:/var/a.db,new=sqlite:/var/b.db",
            [("old", "sqlite", "/var/a.db"), ("new", "sqlite", "/var/b.db")],
        ),
        (r"old=json:C:\data\positions", [("old", "json", r"C:\data\positions")]),
        ("sqlite:/var/a=b.db", [("sqlite", "sqlite", "/var/a=b.db")]),
        ("new=sqlite:sqlite:///a.db", [("new", "sqlite", "sqlite:///a.db")]),
        ("sqlite:///a.db", [("sqlite", "sqlite", "sqlite:///a.db")]),
        ("db=postgresql+asyncpg://u:p@h:5432/d", [("db", "postgres", "postgresql://u:p@h:5432/d")]),
        (
            "json:/data/a@b,sqlite:/data/c@d",
            [("json", "json", "/data/a@b"), ("sqlite", "sqlite", "/data/c@d")],
        ),
    ],
)
def test_the_grammar(text: str, expected: list[tuple[str, str, str | None]]) -> None:
    """Instance, backend and location are told apart, whatever the location holds."""
    assert triples(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "sqlite,sqlite",
            "names 'sqlite' twice; name the instances, as in old=sqlite:LOCATION,new=sqlite:LOCATION",
        ),
        ("a=json,a=sqlite", "names 'a' twice"),
        ("a=json,b=json:x,c=sqlite", "names 3 stores"),
        (",", "names 0 stores"),
        ("=sqlite:", r"'=sqlite:|entry 1 is not"),
        ("9lives", "'9lives' is not"),
        ("sqlite;json", "entry 1 is not"),
        ("a b=json", "'a b=json' is not"),
        ("json,x=", "'x=' is not"),
        ("old=/var/a.db", "entry 1 is not"),
    ],
)
def test_what_is_no_list_of_stores_is_refused(text: str, expected: str) -> None:
    """Each sentence names the variable and shows how it is written."""
    if text == "=sqlite:":
        # An empty instance is as good as none.
        assert triples(text) == [("sqlite", "sqlite", None)]
        return
    with pytest.raises(ConfigurationError, match=expected) as caught:
        parse_backends(text)
    assert str(caught.value).startswith("STORAGE_BACKENDS")


def test_a_url_with_a_comma_is_refused_without_quoting_it() -> None:
    """A comma separates stores, so what follows it could be the rest of a password."""
    with pytest.raises(ConfigurationError, match=r"location with a comma.*STORAGE_<INSTANCE>_URL") as caught:
        parse_backends("server://bot:abc,def,ghi@h/d")
    assert not any(part in str(caught.value) for part in ("abc", "def", "ghi"))


@given(instance=NAMES, backend=NAMES, location=LOCATIONS)
def test_every_location_without_a_comma_comes_through_unchanged(
    instance: str, backend: str, location: str
) -> None:
    """What is put together by the grammar is taken apart again."""
    text = f"{instance}={backend}:{location}"
    assert triples(text) == [(instance, backend, location or None)]


@given(st.text(max_size=60))
def test_any_text_is_one_or_two_different_instances_or_an_error(text: str) -> None:
    """The parser accepts nothing that the router could not use."""
    try:
        stores = parse_backends(text)
    except ConfigurationError:
        return
    assert 1 <= len(stores) <= 2
    assert len({store.instance for store in stores}) == len(stores)


def test_the_representation_hides_the_password() -> None:
    """A store's name may hold a URL, and is printed in tests and debuggers."""
    (store,) = parse_backends("server:server://bot:hunter2@h/d")
    assert store == StoreName("server", "server", "server://bot:hunter2@h/d", "STORAGE_BACKENDS")
    assert repr(store) == "<StoreName server=server:server://bot:***@h/d>"


def test_a_scheme_that_two_backends_claim_must_be_resolved_by_name() -> None:
    """Guessing which backend a URL means would be guessing where the data goes."""

    async def opener(context: OpenContext) -> Backend:
        raise AssertionError(context.instance)

    class Rivals:
        @hookimpl
        def gateway_backends(self) -> list[BackendSpec]:
            return [BackendSpec(name, "", opener, url_schemes=("shared",)) for name in ("one", "two")]

    registry = discover(entry_points=list, extra_plugins={"rivals": Rivals()})
    with pytest.raises(PluginError, match="shared:// mean one and two"):
        named_stores(None, Variables({"DATABASE_URL": "shared://h"}), registry)


PLACES = st.builds(
    "//{}{}{}{}".format,
    st.sampled_from(["", "u@", "u:p@", "u:p/w@"]),
    st.sampled_from(["", "h", "H:1", "h:2", "g,h:1", "[::1]:1", "localhost"]),
    st.sampled_from(["", "/", "/d", "/%64", "/D"]),
    st.sampled_from(["", "?host=/run/x", "?host=h&port=1,2", "?dbname=d"]),
)


@given(PLACES | st.text(max_size=40), PLACES | st.text(max_size=40))
def test_whether_two_urls_may_be_one_database_is_a_question_without_sides(one: str, two: str) -> None:
    """Any two texts get an answer, the same the other way round; and a place may always be itself."""
    first, second = server_of(one), server_of(two)
    if first is not None:
        assert may_be_one(first, first)
        if second is not None:
            assert may_be_one(first, second) == may_be_one(second, first)


@given(PLACES, st.sampled_from(["", "v@", "v:q@", "v:q%40@"]))
def test_who_asks_makes_no_other_database(place: str, user: str) -> None:
    """The user part of a URL says who, not where."""
    bare = server_of(f"//{place.rpartition('@')[2].removeprefix('//')}")
    asked = server_of(f"//{user}{place.rpartition('@')[2].removeprefix('//')}")
    assert asked == bare
