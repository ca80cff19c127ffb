"""From variables to stores, settings and the plan; no test depends on this process's environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from gateway.backend import Backend, BackendSettings, BackendSpec, Capability, OpenContext
from gateway.cache.contract import Cache
from gateway.config import Configuration, denied_plugins, load_configuration, open_context
from gateway.errors import (
    ConfigurationError,
    PluginError,
    UnknownBackendError,
    UnknownKindError,
    UnknownVariableError,
)
from gateway.hookspecs import hookimpl
from gateway.lanes.outcomes import FullPolicy
from gateway.migration.phases import Phase
from gateway.mirror.bounds import JournalPolicy
from gateway.records import EVENTS, POSITIONS, TRADES
from gateway.registry import PluginRegistry, discover
from gateway.routing import MirrorMode


class FileSettings(BackendSettings):
    """Settings as a backend on files has them."""

    synchronous: str = "NORMAL"
    readers: Annotated[int, Field(ge=1, le=8)] = 2


class ServerSettings(BackendSettings):
    """Settings as a backend on a server has them."""

    password: SecretStr | None = None
    pool: int = 4


async def never_opened(context: OpenContext) -> Backend:
    """Stand where a backend's opener belongs; reading a configuration must not open anything."""
    raise AssertionError(context.instance)


async def never_opened_cache(context: OpenContext) -> Cache:
    """Stand where a cache's opener belongs."""
    raise AssertionError(context.instance)


LASTING = frozenset({Capability.DURABLE})
SPECS = (
    BackendSpec("json", "Files", never_opened, capabilities=LASTING, url_schemes=("json",)),
    BackendSpec("sqlite", "A file", never_opened, FileSettings, LASTING, url_schemes=("sqlite",)),
    BackendSpec("server", "A server", never_opened, ServerSettings, LASTING, url_schemes=("server",)),
    BackendSpec("memory", "Nothing lasts", never_opened),
    BackendSpec("cache", "A cache", store_of_record=False, open_cache=never_opened_cache),
)


class Backends:
    """A plugin that brings the backends of these tests."""

    @hookimpl
    def gateway_backends(self) -> tuple[BackendSpec, ...]:
        """Bring them."""
        return SPECS


REGISTRY: PluginRegistry = discover(entry_points=list, extra_plugins={"tests": Backends()})


def load(environ: Mapping[str, str] | None = None, **arguments: Any) -> Configuration:
    """Load a configuration from exactly these variables and arguments."""
    return load_configuration(REGISTRY, environ=environ or {}, env_file=None, overrides=arguments)


def sources(config: Configuration) -> dict[str, tuple[str, str]]:
    """Return value and source of every setting by its variable."""
    return {item.variable: (item.value, item.source) for item in config.values}


def test_nothing_set_means_sqlite_under_the_data_directory() -> None:
    """Without any variable there is one store, sqlite, alone in phase legacy."""
    config = load()
    (store,) = config.stores
    assert (store.instance, store.spec.name, store.settings.url) == ("sqlite", "sqlite", None)
    assert config.plan.default.phase is Phase.LEGACY
    assert config.plan.backends == ("sqlite",)
    assert config.settings.data_dir == Path("storage")
    assert config.control_path == Path("storage/control.db")


def test_two_backends_mean_dual_write() -> None:
    """The first named is the old store and leads; both are written."""
    plan = load({"STORAGE_BACKENDS": "json,sqlite"}).plan
    route = plan.listing(TRADES)
    assert (route.primary, route.mirrors, route.reader) == ("json", ("sqlite",), "json")


@pytest.mark.parametrize("phase", list(Phase))
def test_the_phase_can_be_set(phase: Phase) -> None:
    """Every phase is accepted with two stores, in any case."""
    config = load({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_PHASE": phase.value.upper()})
    assert config.plan.default.phase is phase


@pytest.mark.parametrize("phase", [Phase.DUAL_WRITE, Phase.SHADOW_READ, Phase.CUTOVER])
def test_a_phase_of_two_stores_needs_two_stores(phase: Phase) -> None:
    """An operator who believes that two stores are written is told that there is one."""
    with pytest.raises(ConfigurationError, match=f"STORAGE_PHASE={phase.value} needs two stores"):
        load({"STORAGE_BACKENDS": "sqlite", "STORAGE_PHASE": phase.value})


def test_kinds_are_cut_over_by_name_and_share() -> None:
    """STORAGE_CUTOVER moves kinds ahead of the phase; the others stay."""
    plan = load({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_CUTOVER": "trades,positions:25%"}).plan
    assert {name: (kind.phase, kind.share) for name, kind in plan.kinds.items()} == {
        "trades": (Phase.DUAL_WRITE, 100.0),
        "positions": (Phase.DUAL_WRITE, 25.0),
    }
    assert plan.listing(TRADES).primary == "sqlite"


def test_kinds_live_where_they_are_said_to_live() -> None:
    """Market data in one store, trades in both, the rest where the phase says: by configuration alone."""
    plan = load(
        {
            "STORAGE_BACKENDS": "json,sqlite",
            "STORAGE_PHASE": "legacy",
            "STORAGE_PLACES": "tick_prices:sqlite, trades:json+sqlite, alerts:sqlite+json, events:json",
        }
    ).plan
    routes = {
        name: plan.listing(REGISTRY.kinds.get(name))
        for name in ("tick_prices", "trades", "alerts", "events", "positions")
    }
    assert {name: (route.primary, route.mirrors) for name, route in routes.items()} == {
        "tick_prices": ("sqlite", ()),
        "trades": ("json", ("sqlite",)),
        "alerts": ("sqlite", ("json",)),
        "events": ("json", ()),
        "positions": ("json", ()),
    }


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STORAGE_PLACES": "trade:json"}, "STORAGE_PLACES: no record kind 'trade'"),
        (
            {"STORAGE_PLACES": "closed_positions:json"},
            "STORAGE_PLACES names 'closed_positions', whose rows move with",
        ),
        (
            {"STORAGE_PLACES": "trades:json", "STORAGE_CUTOVER": "trades"},
            "STORAGE_CUTOVER and STORAGE_PLACES both name 'trades'",
        ),
        ({"STORAGE_BACKENDS": "sqlite", "STORAGE_PLACES": "trades:sqlite"}, "only 'sqlite' is named"),
    ],
)
def test_a_place_that_cannot_be_is_refused(environ: dict[str, str], expected: str) -> None:
    """An unknown kind, a companion, a kind with two fates, a pair that is none: each has its sentence."""
    with pytest.raises((ConfigurationError, UnknownKindError), match=expected):
        load({"STORAGE_BACKENDS": "json,sqlite", **environ})


def test_a_cutover_of_an_unknown_kind_lists_the_known_ones() -> None:
    """A mistyped kind would be a cutover silently not made."""
    with pytest.raises(UnknownKindError, match=r"STORAGE_CUTOVER: no record kind 'trade'.*trades"):
        load({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_CUTOVER": "trade"})


def test_a_companion_is_cut_over_by_its_leading_kind_only() -> None:
    """Closed positions move with positions; naming them alone would do nothing."""
    with pytest.raises(ConfigurationError, match="move with 'positions'"):
        load({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_CUTOVER": "closed_positions"})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"STORAGE_BACKENDS": "sqlite", "STORAGE_CUTOVER": "trades"}, "STORAGE_CUTOVER needs two stores"),
        ({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_CUTOVER": "trades:x"}, "STORAGE_CUTOVER: 'trades:x'"),
        (
            {"STORAGE_BACKENDS": "json,sqlite", "STORAGE_PHASE": "legacy", "STORAGE_CUTOVER": "trades"},
            "nothing can be cut over in phase legacy",
        ),
    ],
)
def test_a_cutover_that_cannot_be_is_refused(environ: dict[str, str], expected: str) -> None:
    """One store, no share, or a phase with a single store: each has its sentence."""
    with pytest.raises(ConfigurationError, match=expected):
        load(environ)


def test_settings_of_an_instance_come_from_its_own_variables() -> None:
    """Two instances of one backend are told apart by their names."""
    config = load(
        {
            "STORAGE_BACKENDS": "old=sqlite:/var/a.db,new=sqlite",
            "STORAGE_OLD_SYNCHRONOUS": "FULL",
            "STORAGE_NEW_URL": "/var/b.db",
            "STORAGE_NEW_READERS": "4",
        }
    )
    old, new = config.store("old").settings, config.store("new").settings
    assert old == FileSettings(url="/var/a.db", synchronous="FULL")
    assert new == FileSettings(url="/var/b.db", readers=4)


def test_a_store_that_is_not_there_is_answered_with_those_that_are() -> None:
    """`Configuration.store` is asked with what a person typed."""
    with pytest.raises(ConfigurationError, match=r"no store 'sqlight' is configured.*sqlite"):
        load().store("sqlight")


def test_precedence_is_argument_environment_env_file_default(tmp_path: Path) -> None:
    """Each source wins over the next, and `values` tells which one it was."""
    env_file = tmp_path / ".env"
    env_file.write_text("STORAGE_LANE_ROWS=1\nSTORAGE_BATCH_ROWS=1\nSTORAGE_BUFFER_ROWS=1\n")
    config = load_configuration(
        REGISTRY,
        environ={"STORAGE_LANE_ROWS": "2", "STORAGE_BATCH_ROWS": "2"},
        env_file=env_file,
        overrides={"lane_rows": 3},
    )
    found = sources(config)
    assert found["STORAGE_LANE_ROWS"] == ("3", "argument")
    assert found["STORAGE_BATCH_ROWS"] == ("2", "environment")
    assert found["STORAGE_BUFFER_ROWS"] == ("1", ".env")
    assert found["STORAGE_BUFFER_CAPACITY"] == ("10000", "default")


def test_every_setting_is_listed_once_with_its_source() -> None:
    """`gateway config` shows the gateway's own settings and those of every store in use."""
    config = load({"STORAGE_BACKENDS": "old=json:/var/a,new=sqlite"})
    names = [item.variable for item in config.values]
    assert len(names) == len(set(names))
    expected = {f"STORAGE_{field.upper()}" for field in type(config.settings).model_fields}
    expected |= {"STORAGE_OLD_URL", "STORAGE_NEW_URL", "STORAGE_NEW_SYNCHRONOUS", "STORAGE_NEW_READERS"}
    assert set(names) == expected
    found = sources(config)
    assert found["STORAGE_OLD_URL"] == ("/var/a", "STORAGE_BACKENDS")
    assert found["STORAGE_NEW_URL"] == ("(chosen by the backend)", "default")
    assert found["STORAGE_PHASE"] == ("dual_write", "default")


@pytest.mark.parametrize(
    ("environ", "production", "source"),
    [
        ({}, False, "default"),
        ({"ENVIRONMENT": "Production"}, True, "ENVIRONMENT"),
        ({"RAILWAY_ENVIRONMENT": "production"}, True, "RAILWAY_ENVIRONMENT"),
        ({"ENVIRONMENT": "staging", "RAILWAY_ENVIRONMENT": "production"}, False, "ENVIRONMENT"),
        ({"STORAGE_ENVIRONMENT": "prod", "ENVIRONMENT": "staging"}, True, "environment"),
    ],
)
def test_the_environment_is_recognised_by_its_aliases(
    environ: dict[str, str], production: bool, source: str
) -> None:
    """STORAGE_ENVIRONMENT, then ENVIRONMENT, then RAILWAY_ENVIRONMENT."""
    config = load(environ)
    assert config.settings.is_production is production
    assert sources(config)["STORAGE_ENVIRONMENT"][1] == source


def test_a_file_does_not_talk_a_server_out_of_production(tmp_path: Path) -> None:
    """What the process is told comes before what the file says, under whichever of the names."""
    env_file = tmp_path / ".env"
    env_file.write_text("ENVIRONMENT=development\n")
    there = load_configuration(REGISTRY, environ={"RAILWAY_ENVIRONMENT": "production"}, env_file=env_file)
    assert there.settings.is_production
    assert sources(there)["STORAGE_ENVIRONMENT"][1] == "RAILWAY_ENVIRONMENT"
    assert not load_configuration(REGISTRY, environ={}, env_file=env_file).settings.is_production


def test_database_url_names_the_store_by_its_scheme() -> None:
    """An alias stands in for STORAGE_BACKENDS; SQLAlchemy's driver suffix is dropped."""
    config = load({"DATABASE_URL": "sqlite+aiosqlite:///shrinkage.db"})
    assert config.stores[0].instance == "sqlite"
    assert sources(config)["STORAGE_SQLITE_URL"] == ("sqlite:///shrinkage.db", "DATABASE_URL")


def test_position_backend_names_the_store() -> None:
    """POSITION_BACKEND=json keeps working for bots that have it."""
    assert load({"POSITION_BACKEND": "JSON"}).stores[0].instance == "json"


def test_storage_backends_wins_over_both_aliases() -> None:
    """The aliases count only when STORAGE_BACKENDS is not set; a contradiction then does not matter."""
    config = load({"DATABASE_URL": "server://h/d", "POSITION_BACKEND": "sqlite", "STORAGE_BACKENDS": "json"})
    assert config.plan.backends == ("json",)


def test_an_own_url_variable_wins_over_database_url() -> None:
    """DATABASE_URL is often set by the platform; the prefixed variable is set for the gateway."""
    config = load({"DATABASE_URL": "sqlite:///a.db", "STORAGE_SQLITE_URL": "/b.db"})
    assert config.stores[0].settings.url == "/b.db"


@pytest.mark.parametrize(
    ("environ", "error", "expected"),
    [
        ({"DATABASE_URL": "./plain.db"}, UnknownBackendError, "DATABASE_URL is no URL"),
        ({"DATABASE_URL": "mongodb://h/d"}, UnknownBackendError, "scheme 'mongodb'"),
        (
            {"DATABASE_URL": "postgres://h/d"},
            UnknownBackendError,
            r"by DATABASE_URL, postgres is used.*storage-gateway\[postgres\]",
        ),
        ({"POSITION_BACKEND": "redis"}, ConfigurationError, "POSITION_BACKEND must be json or sqlite"),
        (
            {"DATABASE_URL": "sqlite:///a.db", "POSITION_BACKEND": "json"},
            ConfigurationError,
            "DATABASE_URL means sqlite and POSITION_BACKEND means json",
        ),
    ],
)
def test_an_alias_that_cannot_be_followed_says_so(
    environ: dict[str, str], error: type[Exception], expected: str
) -> None:
    """Each sentence names the alias and the variable that wins over it."""
    with pytest.raises(error, match=expected) as caught:
        load(environ)
    assert "STORAGE_BACKENDS" in str(caught.value)


def test_a_default_backend_that_is_not_installed_says_why_it_is_asked_for() -> None:
    """Nobody named sqlite, so the error explains where it comes from, and keeps the way to install it."""
    bare = discover(entry_points=list)
    with pytest.raises(UnknownBackendError, match=r"STORAGE_BACKENDS is not set.*storage-gateway\[sqlite\]"):
        load_configuration(bare, environ={}, env_file=None)


def test_an_unknown_backend_is_refused() -> None:
    """A mistyped backend gets a suggestion."""
    with pytest.raises(UnknownBackendError, match=r"did you mean sqlite\?"):
        load({"STORAGE_BACKENDS": "sqlit"})


def test_a_broken_backend_stops_only_those_who_use_it() -> None:
    """A plugin with a problem is fatal for a configuration that names it, and for no other."""

    class Foreign:
        @hookimpl
        def gateway_backends(self) -> list[BackendSpec]:
            return [BackendSpec("newer", "From the future", never_opened, api_version=2)]

    registry = discover(entry_points=list, extra_plugins={"tests": Backends()})
    with pytest.raises(PluginError):
        registry.register(Foreign(), "foreign")
    environ = {"STORAGE_NEWER_POOL": "3"}
    assert load_configuration(registry, environ=environ, env_file=None).plan.backends == ("sqlite",)
    with pytest.raises(PluginError, match="version 2 of the backend API"):
        load_configuration(registry, environ={"STORAGE_BACKENDS": "newer"}, env_file=None)


def test_a_cache_is_no_store() -> None:
    """A backend that declares itself a cache must not be written to as a store."""
    with pytest.raises(
        ConfigurationError, match="STORAGE_BACKENDS names cache, which is a cache and no store"
    ):
        load({"STORAGE_BACKENDS": "cache"})


@pytest.mark.parametrize(
    "backends",
    [
        "old=sqlite:/var/a.db,new=sqlite:/var/a.db",
        "old=sqlite:/var/a.db,new=sqlite:/var/../var/./a.db",
        "old=sqlite:/var/a.db,new=sqlite:sqlite:////var/a.db",
        "old=sqlite:a.db,new=sqlite:sqlite:///a.db",
        "old=json:/var/a,new=json:json:///var/a",
        "old=json:a,new=json:json://a",
        "old=sqlite,new=sqlite",
        "old=sqlite,new=sqlite:/var/a.db",
        "old=server:server://u:one@h:1/d,new=server:server://v:two@H:1/d?x=1",
        "old=server:server://u@h:1/d,new=server:server://h:1/d",
        "old=server:server://h/d,new=server:server://h:1/d",
        "old=server:server://h:1/d,new=server:server://v@h:1",
        "old=server:server://localhost:1/d,new=server:server://127.0.0.1:1/d",
        "old=server:server://[::1]:1/d,new=server:server:///d?host=/run/server",
        "old=server:server://u:p/w@h:1/d,new=server:server://h:1/%64",
    ],
)
def test_two_instances_of_one_store_are_refused(backends: str) -> None:
    """They would always agree, and so prove nothing; unclear cases have to be made clear."""
    with pytest.raises(ConfigurationError, match=r"are the same \w+ store, or may be") as caught:
        load({"STORAGE_BACKENDS": backends})
    assert "STORAGE_OLD_URL and STORAGE_NEW_URL" in str(caught.value)
    assert "two" not in str(caught.value)


def test_a_link_to_a_store_is_that_store(tmp_path: Path) -> None:
    """Locations are compared after links are followed."""
    (tmp_path / "a.db").write_bytes(b"")
    (tmp_path / "b.db").symlink_to(tmp_path / "a.db")
    with pytest.raises(ConfigurationError, match="are the same sqlite store"):
        load({"STORAGE_BACKENDS": f"old=sqlite:{tmp_path}/a.db,new=sqlite:{tmp_path}/b.db"})


@pytest.mark.parametrize(
    "backends",
    [
        "old=sqlite:/var/a.db,new=sqlite:/var/b.db",
        "old=memory,new=memory",
        "json,sqlite",
        "old=json:/var/a,new=sqlite:/var/a",
        "old=server:server://h:1/d,new=server:server://h:2/d",
        "old=server:server://u:one@h:1/d,new=server:server://u:one@h:1/e",
        "old=server:server://h:1/d,new=server:server://h:1/D",
        "old=server:server://h:1/d,new=server:server://g:1/d",
    ],
)
def test_two_different_stores_are_accepted(backends: str) -> None:
    """Different places, different backends, or stores in which nothing lasts."""
    assert len(load({"STORAGE_BACKENDS": backends}).stores) == 2


def test_a_location_given_twice_must_be_the_same() -> None:
    """STORAGE_BACKENDS and the URL variable may not contradict each other; an argument settles it."""
    environ = {"STORAGE_BACKENDS": "sqlite:/a.db", "STORAGE_SQLITE_URL": "/b.db"}
    with pytest.raises(ConfigurationError, match="another location than STORAGE_SQLITE_URL"):
        load(environ)
    assert load(environ, sqlite_url=Path("/c.db")).stores[0].settings.url == "/c.db"
    assert load({**environ, "STORAGE_SQLITE_URL": "/a.db"}).stores[0].settings.url == "/a.db"


def test_an_instance_may_not_take_a_name_that_means_something_else() -> None:
    """A name that makes a variable mean two things, or that is another backend's, is refused."""
    with pytest.raises(ConfigurationError, match="STORAGE_CONTROL_URL would mean"):
        load({"STORAGE_BACKENDS": "control=sqlite"})
    with pytest.raises(ConfigurationError, match="which is another backend's name"):
        load({"STORAGE_BACKENDS": "json=sqlite"})


def test_unknown_variables_are_named_with_what_was_meant() -> None:
    """A mistyped setting would be a setting silently not made; each is named as the user wrote it."""
    with pytest.raises(UnknownVariableError) as caught:
        load({"STORAGE_BACKEND": "json", "storage_lane_row": "5", "STORAGE_XYZZY": "", "PATH": "/bin"})
    text = str(caught.value)
    assert "STORAGE_BACKEND is no variable that the gateway reads (did you mean STORAGE_BACKENDS?)" in text
    assert "storage_lane_row is no variable that the gateway reads (did you mean STORAGE_LANE_ROWS?)" in text
    assert "STORAGE_XYZZY" in text
    assert "PATH" not in text


def test_unknown_names_in_the_env_file_are_refused_too(tmp_path: Path) -> None:
    """The sentence says that the variable stands in the file."""
    env_file = tmp_path / ".env"
    env_file.write_text("STORAGE_SHADOW_SAMPEL=5%\nSOMETHING_ELSE=1\n")
    with pytest.raises(
        UnknownVariableError, match=r"STORAGE_SHADOW_SAMPEL \(in .env\).*STORAGE_SHADOW_SAMPLE"
    ):
        load_configuration(REGISTRY, environ={}, env_file=env_file)


def test_an_unknown_argument_is_refused_in_its_own_spelling() -> None:
    """Arguments are lower case and have no prefix, in the error too; nothing is reserved for others there."""
    with pytest.raises(UnknownVariableError, match=r"the argument 'lane_row' .*\(did you mean lane_rows\?\)"):
        load(lane_row=5)
    with pytest.raises(UnknownVariableError, match="the argument 'postgres_url'"):
        load(postgres_url="postgres://h/d")


@pytest.mark.parametrize(
    "name",
    [
        "STORAGE_JSON_URL",
        "STORAGE_SERVER_PASSWORD",
        "STORAGE_POSTGRES_URL",
        "STORAGE_QUESTDB_ANYTHING",
        "STORAGE_REDIS_TTL",
        "STORAGE_TEST_POSTGRES_URL",
        "STORAGE_BENCH_ROWS",
    ],
)
def test_a_shared_environment_may_hold_what_this_bot_does_not_use(name: str) -> None:
    """Backends not in use or not installed, tests and benchmarks keep their variables."""
    assert load({name: "whatever"}).plan.backends == ("sqlite",)


WRONG = {
    "STORAGE_SHADOW_SAMPLE": ("1.5", "a number between 0 and 1, or a percentage such as 5%"),
    "STORAGE_SHADOW_TIMEOUT": ("0", "greater than 0"),
    "STORAGE_JOURNAL_AGE": ("a week", "seconds, or a number with s, m, h or d"),
    "STORAGE_JOURNAL_ROWS": ("0", "greater than or equal to 1"),
    "STORAGE_JOURNAL_POLICY": ("drop", "'block' or 'degrade'"),
    "STORAGE_TENANT": ("acme", "UUID such as"),
    "STORAGE_PHASE": ("dual", "'legacy', 'dual_write', 'shadow_read', 'cutover' or 'complete'"),
    "STORAGE_CONTROL_URL": ("postgres://h/d", "must be a path, or sqlite:///path"),
    "STORAGE_LANE_ROWS": ("many", "a valid integer"),
    "STORAGE_LANE_POLICY": ("drop", "'block' or 'refuse'"),
    "STORAGE_TIMEOUT": ("inf", "a finite number"),
    "STORAGE_SQLITE_READERS": ("0", "greater than or equal to 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_one_sentence(name: str) -> None:
    """It has the variable, what was written and what is allowed, on one line."""
    value, expected = WRONG[name]
    with pytest.raises(ConfigurationError) as caught:
        load({name: value})
    text = str(caught.value)
    assert text.startswith(f"{name} is {value!r}, but must be ")
    assert expected in text
    assert "\n" not in text
    assert "pydantic" not in text


def test_several_wrong_values_are_all_named_at_once() -> None:
    """Nobody has to start a bot three times to learn of three mistakes."""
    with pytest.raises(ConfigurationError) as caught:
        load({"STORAGE_LANE_ROWS": "x", "STORAGE_TENANT": "y"}, batch_rows=0)
    sentences = str(caught.value).split("; ")
    assert [sentence.split(" ")[0] for sentence in sentences] == [
        "STORAGE_TENANT",
        "STORAGE_LANE_ROWS",
        "the",
    ]
    assert "the argument 'batch_rows' is '0'" in str(caught.value)


def test_a_buffer_must_hold_a_flush() -> None:
    """Settings that contradict each other are refused together."""
    with pytest.raises(
        ConfigurationError, match=r"STORAGE_BUFFER_CAPACITY \(10\) must be at least STORAGE_BUFFER_ROWS"
    ):
        load({"STORAGE_BUFFER_CAPACITY": "10"})


def test_values_are_read_as_people_write_them() -> None:
    """Percentages, any case, spaces, underscores in numbers; empty means not set."""
    settings = load(
        {
            "STORAGE_SHADOW_SAMPLE": " 5% ",
            "STORAGE_JOURNAL_POLICY": "Degrade",
            "STORAGE_JOURNAL_AGE": " 12H ",
            "STORAGE_BUFFER_POLICY": "Refuse",
            "STORAGE_LANE_ROWS": "20_000",
            "STORAGE_TENANT": "{0F8FAD5B-D9CB-469F-A165-70867728950E}",
            "STORAGE_CONTROL_URL": "sqlite:////var/control.db",
            "STORAGE_TIMEOUT": "  ",
        }
    ).settings
    assert settings.shadow_sample == "0.05"
    # Compared by identity, because lane and buffer do.
    assert settings.buffer_policy is FullPolicy.REFUSE
    assert settings.lane_policy is FullPolicy.BLOCK
    assert settings.journal_policy is JournalPolicy.DEGRADE
    assert settings.journal_age == 12 * 3600
    assert settings.lane_rows == 20_000
    assert settings.tenant == "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert settings.control_path == Path("/var/control.db")
    assert settings.timeout == 30.0


def test_mirror_modes_are_for_all_kinds_and_for_single_ones() -> None:
    """Kinds are checked against the registered ones, companions go with their leaders, and wrong words are named."""
    plan = load(
        {"STORAGE_BACKENDS": "json,sqlite", "STORAGE_MIRROR_MODE": "OFF , trades:sync,events: Journaled"}
    ).plan
    modes = {kind.name: plan.mode_of(kind) for kind in (TRADES, EVENTS, POSITIONS)}
    assert modes == {"trades": MirrorMode.SYNC, "events": MirrorMode.JOURNALED, "positions": MirrorMode.OFF}
    assert load().plan.mode_of(TRADES) is MirrorMode.JOURNALED
    assert load(mirror_mode=MirrorMode.SYNC).plan.mode_of(TRADES) is MirrorMode.SYNC
    for text, says in (
        ("dual", "STORAGE_MIRROR_MODE: 'dual' is no mode"),
        ("trades:", "no mode"),
        ("sync,off", "STORAGE_MIRROR_MODE"),
        ("trades:sync,trades:off", "twice"),
        ("closed_positions:sync", "whose rows move with 'positions'"),
    ):
        with pytest.raises(ConfigurationError, match=says):
            load({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_MIRROR_MODE": text})
    with pytest.raises(UnknownKindError, match="STORAGE_MIRROR_MODE"):
        load({"STORAGE_BACKENDS": "json,sqlite", "STORAGE_MIRROR_MODE": "trade:sync"})


def test_arguments_may_be_python_values() -> None:
    """Lists, paths, enums and UUIDs are taken where variables have text; an empty one undoes a variable."""
    tenant = UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
    config = load(
        {"STORAGE_CUTOVER": "trades", "STORAGE_PLUGINS_DENY": "acme"},
        backends=["json", "sqlite"],
        phase=Phase.SHADOW_READ,
        tenant=tenant,
        control_url=Path("/var/c.db"),
        cutover="",
        plugins_deny=(),
    )
    assert config.plan.backends == ("json", "sqlite")
    assert config.plan.default.phase is Phase.SHADOW_READ
    assert config.settings.tenant == str(tenant)
    assert config.control_path == Path("/var/c.db")
    assert config.plan.kinds == {}
    assert config.settings.plugins_deny == ()


def test_the_deny_list_is_known_before_plugins_are_loaded(tmp_path: Path) -> None:
    """It is read from the same places by the same precedence, whatever else is wrong."""
    env_file = tmp_path / ".env"
    env_file.write_text("STORAGE_PLUGINS_DENY=from-file\n")
    assert denied_plugins(environ={}, env_file=env_file) == ("from-file",)
    environ = {"STORAGE_PLUGINS_DENY": "acme, other", "STORAGE_LANE_ROWS": "wrong"}
    assert denied_plugins(environ=environ, env_file=env_file) == ("acme", "other")
    assert denied_plugins(environ=environ, env_file=env_file, overrides={"plugins_deny": ["x"]}) == ("x",)
    assert denied_plugins(environ={}, env_file=None) == ()


SECRET = "hunter2"  # noqa: S105 - a made-up password that must not show up anywhere


@pytest.mark.parametrize(
    "environ",
    [
        {"STORAGE_BACKENDS": f"server:server://bot:{SECRET}@h/d"},
        {
            "STORAGE_BACKENDS": "server",
            "STORAGE_SERVER_URL": f"server://bot:{SECRET}@h/d?sslpassword={SECRET}",
        },
        {"STORAGE_BACKENDS": "server", "STORAGE_SERVER_PASSWORD": SECRET},
        {"DATABASE_URL": f"server://bot:{SECRET}@h/d"},
    ],
)
def test_passwords_are_in_no_value_and_no_representation(environ: dict[str, str]) -> None:
    """The store gets the password; whoever prints the configuration does not."""
    config = load(environ)
    held = config.stores[0].settings
    assert isinstance(held, ServerSettings)
    assert SECRET in f"{held.url} {held.password.get_secret_value() if held.password else ''}"
    shown = f"{config!r} {config} {config.values} {config.stores} {config.settings!r} {config.settings}"
    assert SECRET not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "environ",
    [
        {"STORAGE_SERVER_PASSWORD": SECRET, "STORAGE_BACKENDS": "server", "STORAGE_SERVER_POOL": "x"},
        {"STORAGE_CONTROL_URL": f"postgres://bot:{SECRET}@h/d"},
        {"STORAGE_BACKENDS": f"server:server://bot:{SECRET},more@h/d"},
        {"STORAGE_BACKENDS": f"server://bot:x,{SECRET},more@h/d"},
        {"STORAGE_BACKENDS": f"!!:server://bot:{SECRET}@h/d"},
        {"DATABASE_URL": f"mongodb://bot:{SECRET}@h/d"},
        {"DATABASE_URL": f"postgres://bot:{SECRET}@h/d"},
        {"STORAGE_TENANT": f"x://bot:{SECRET}@h"},
    ],
)
def test_passwords_are_in_no_error(environ: dict[str, str]) -> None:
    """Whatever is refused, and wherever the password stands, the sentence does not quote it."""
    with pytest.raises(ConfigurationError) as caught:
        load(environ)
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"


def test_a_wrong_secret_is_not_quoted() -> None:
    """The value of a variable that holds a secret by its name is never shown, even when it is the mistake."""

    class PinSettings(BackendSettings):
        api_token: Annotated[str, Field(max_length=3)] = ""

    class Pin:
        @hookimpl
        def gateway_backends(self) -> list[BackendSpec]:
            return [BackendSpec("pin", "Wants a token", never_opened, PinSettings)]

    registry = discover(entry_points=list, extra_plugins={"pin": Pin()})
    environ = {"STORAGE_BACKENDS": "pin", "STORAGE_PIN_API_TOKEN": SECRET}
    with pytest.raises(ConfigurationError, match="STORAGE_PIN_API_TOKEN") as caught:
        load_configuration(registry, environ=environ, env_file=None)
    assert SECRET not in str(caught.value)


def test_a_setting_that_a_backend_needs_is_asked_for() -> None:
    """A required setting of a backend is named by its variable when nobody gave it."""

    class NeedySettings(BackendSettings):
        region: str

    class Needy:
        @hookimpl
        def gateway_backends(self) -> list[BackendSpec]:
            return [BackendSpec("needy", "Wants a region", never_opened, NeedySettings)]

    registry = discover(entry_points=list, extra_plugins={"needy": Needy()})
    with pytest.raises(ConfigurationError, match="STORAGE_NEEDY_REGION is not set, and the backend needs it"):
        load_configuration(registry, environ={"STORAGE_BACKENDS": "needy"}, env_file=None)


def test_a_backend_gets_what_it_needs_to_open() -> None:
    """`open_context` joins the store, the kinds and the data directory."""
    config = load({"STORAGE_DATA_DIR": "/var/bot"})
    context = open_context(config, config.stores[0], [TRADES], read_only=True)
    assert context == OpenContext(
        "sqlite", config.stores[0].settings, (TRADES,), Path("/var/bot"), read_only=True, timeout=30.0
    )


def test_the_process_environment_and_the_env_file_beside_it_are_read_by_default(tmp_path: Path) -> None:
    """Without arguments a real process reads its own environment first and `.env` in its directory second."""
    (tmp_path / ".env").write_text("STORAGE_LANE_ROWS=7\nSTORAGE_BATCH_ROWS=7\n")
    code = """
        from gateway.config import load_configuration
        from gateway.registry import discover
        settings = load_configuration(discover()).settings
        print(settings.lane_rows, settings.batch_rows)
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STORAGE_")}
    environ |= {"STORAGE_LANE_ROWS": "8", "STORAGE_BACKENDS": "memory"}
    done = subprocess.run(
        [sys.executable, "-c", dedent(code)],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.split() == ["8", "7"]


@given(
    old=st.sampled_from(["json", "sqlite", "server", "memory"]),
    new=st.sampled_from(["json", "sqlite", "server", "memory"]),
    phase=st.sampled_from([None, *Phase]),
    share=st.integers(min_value=0, max_value=100),
)
def test_every_configuration_that_is_accepted_has_a_plan_of_its_stores(
    old: str, new: str, phase: Phase | None, share: int
) -> None:
    """Whatever is set, the plan routes to configured stores only, and the old store comes first."""
    environ = {"STORAGE_BACKENDS": f"a={old}:/var/a,b={new}:/var/b"}
    if phase is not None:
        environ["STORAGE_PHASE"] = phase.value
    if phase not in {Phase.LEGACY, Phase.COMPLETE}:
        environ["STORAGE_CUTOVER"] = f"trades:{share}%"
    config = load(environ)
    assert config.plan.backends == ("a", "b") == tuple(store.instance for store in config.stores)
    assert config.plan.default.phase is (phase or Phase.DUAL_WRITE)
    assert {config.plan.listing(TRADES).primary, *config.plan.listing(TRADES).mirrors} <= {"a", "b"}


@given(st.dictionaries(st.text(max_size=20).map("STORAGE_".__add__), st.text(max_size=20), max_size=4))
def test_any_environment_gives_a_configuration_or_one_of_our_errors(environ: dict[str, str]) -> None:
    """No text in any variable gets another exception out of the loader, nor a value of its own choosing."""
    with suppress(ConfigurationError, UnknownKindError):
        assert load(environ).stores


@given(
    st.sampled_from([name for name in sorted(WRONG) if not name.startswith("STORAGE_SQLITE")]),
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30),
)
def test_any_text_in_a_known_variable_gives_a_value_or_a_sentence_with_its_name(name: str, text: str) -> None:
    """A known variable is either taken or named in the refusal."""
    with suppress(ConfigurationError):
        load({name: text})
        return
    with pytest.raises(ConfigurationError, match=name):
        load({name: text})
