"""Guarded discovery, on real distributions that are written to a directory and imported from it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from textwrap import dedent

import pytest

from gateway.backend import BackendSpec, Capability, OpenContext
from gateway.errors import ConfigurationError, PluginError, UnknownBackendError
from gateway.hookspecs import hookimpl
from gateway.records import TRADES, LogRecord, Time, record_kind
from gateway.records import registry as kind_registry
from gateway.records.builtin import BUILTIN_KINDS
from gateway.registry import BACKENDS, CLI, LEGACY_SOURCES, RECORD_KINDS, PluginRegistry, discover

PREAMBLE = """
from gateway.backend import BackendSpec
from gateway.hookspecs import hookimpl

async def opener(context):
    raise RuntimeError("not opened in these tests")
"""

GOOD = f"""{PREAMBLE}
@hookimpl
def gateway_backends():
    return [BackendSpec("good", "A good one", opener, url_schemes=("good",))]
"""


class Site:
    """A directory of installed distributions."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def install(self, distribution: str, source: str, *entries: tuple[str, str], version: str = "1.2") -> str:
        """Write a distribution of one module, with entry points (group, name); return the module's name."""
        module = f"{distribution.replace('-', '_')}_module"
        (self.path / f"{module}.py").write_text(dedent(source))
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        lines = [f"[{group}]\n{name} = {module}\n" for group, name in entries]
        (info / "entry_points.txt").write_text("\n".join(lines))
        return module

    def entry_points(self) -> list[EntryPoint]:
        """Return what is installed here and nowhere else."""
        return [entry for found in distributions(path=[str(self.path)]) for entry in found.entry_points]

    def discover(self, **options: object) -> PluginRegistry:
        """Discover what is installed here."""
        return discover(entry_points=self.entry_points, **options)  # type: ignore[arg-type]  # options as discover takes them


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty place for distributions, importable while the test runs."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield Site(tmp_path)
    for name in set(sys.modules) - before:
        if name.endswith("_module"):
            del sys.modules[name]


async def never_opened(context: OpenContext) -> object:
    """Stand where a backend's opener belongs."""
    raise AssertionError(context.instance)


class Plugin:
    """A plugin object of this process."""

    def __init__(self, *specs: object) -> None:
        self.specs = specs

    @hookimpl
    def gateway_backends(self) -> list[object]:
        """Bring what the test wants."""
        return list(self.specs)


def a_spec(name: str = "mine", **options: object) -> BackendSpec:
    """Return a backend that is complete but for what the test changes."""
    return BackendSpec(name, "Made for a test", never_opened, **options)  # type: ignore[arg-type]  # wrong on purpose


def only_sentence(registry: PluginRegistry) -> str:
    """Return the sentence of the one problem there is."""
    (problem,) = registry.problems
    return problem.sentence


def test_a_good_plugin_is_found_with_where_it_comes_from(site: Site) -> None:
    """A backend is listed with its distribution, version and entry point."""
    site.install("acme-store", GOOD, (BACKENDS, "good"))
    registry = site.discover()
    found = registry.backends["good"]
    assert (found.distribution, found.version, found.entry_point) == ("acme-store", "1.2", "good")
    assert registry.backend("good") is found.spec
    assert registry.problems == ()


BROKEN = {
    "syntax error": ("def broken(:\n    pass\n", "SyntaxError"),
    "import error": ("import there_is_no_such_module_at_all\n", "there_is_no_such_module_at_all"),
    "exit": ("raise SystemExit(3)\n", "SystemExit: 3"),
    "no hooks": ("answer = 42\n", "brings no hook"),
    "unknown hook": (f"{PREAMBLE}\n@hookimpl\ndef gateway_backend():\n    return []\n", "gateway_backend"),
    "wrong signature": (f"{PREAMBLE}\n@hookimpl\ndef gateway_backends(extra):\n    return []\n", "extra"),
    "raising hook": (
        f"{PREAMBLE}\n@hookimpl\ndef gateway_backends():\n    raise ValueError('boom')\n",
        "boom",
    ),
    "exiting hook": (f"{PREAMBLE}\n@hookimpl\ndef gateway_backends():\n    raise SystemExit\n", "SystemExit"),
    "async hook": (f"{PREAMBLE}\n@hookimpl\nasync def gateway_backends():\n    return []\n", "it is async"),
    "rubbish": (f"{PREAMBLE}\n@hookimpl\ndef gateway_backends():\n    return 7\n", "type int where a list"),
    "text": (f"{PREAMBLE}\n@hookimpl\ndef gateway_backends():\n    return 'good'\n", "type str where a list"),
    "no spec": (
        f"{PREAMBLE}\n@hookimpl\ndef gateway_backends():\n    return ['x']\n",
        "where a BackendSpec belongs",
    ),
    "no kind": (
        f"{PREAMBLE}\n@hookimpl\ndef gateway_record_kinds():\n    return [1]\n",
        "where a KindSpec belongs",
    ),
    "no source": (
        f"{PREAMBLE}\n@hookimpl\ndef gateway_legacy_sources():\n    return [1]\n",
        "where a LegacySource belongs",
    ),
    "data path": (
        f"{PREAMBLE}\n@hookimpl\nasync def gateway_health():\n    return None\n",
        "gateway_health, which belongs to the object that BackendSpec.open returns",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_reported_and_does_not_stop_the_others(site: Site, fault: str) -> None:
    """Each way of being broken gives one problem on one line that names the plugin; the good plugin works."""
    source, expected = BROKEN[fault]
    site.install("aaa-broken", source, (BACKENDS, "broken"))
    site.install("zzz-good", GOOD, (BACKENDS, "good"))
    registry = site.discover()
    sentence = only_sentence(registry)
    assert expected in sentence
    assert "plugin 'broken' (aaa-broken 1.2)" in sentence
    assert "\n" not in sentence
    assert registry.backend("good").name == "good"


def test_using_a_broken_backend_says_what_is_wrong_with_it(site: Site) -> None:
    """The problem's own sentence is the error of whoever names the backend, and `unusable` lists it."""
    site.install("broken", "raise RuntimeError('half installed')\n", (BACKENDS, "broken"))
    registry = site.discover()
    with pytest.raises(PluginError, match="half installed") as caught:
        registry.backend("broken")
    assert str(caught.value) == only_sentence(registry) == registry.unusable["broken"]
    assert "STORAGE_PLUGINS_DENY" in str(caught.value)


def test_an_entry_point_without_its_attribute_is_a_problem(site: Site) -> None:
    """`module:attribute` with a missing attribute is reported like any other failure to load."""
    module = site.install("half", GOOD, (BACKENDS, "good"))
    info = next(site.path.glob("half-*.dist-info")) / "entry_points.txt"
    info.write_text(f"[{BACKENDS}]\ngood = {module}:missing\n")
    assert "missing" in only_sentence(site.discover())


def test_our_own_plugin_without_its_driver_names_the_extra(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing driver of our own backend gives the pip command, and counts as a choice, not as a fault."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "gateway_redis"]:
        monkeypatch.delitem(sys.modules, name)  # the real one, which another test may have imported
    info = site.path / "storage_gateway-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: storage-gateway\nVersion: 9\n")
    (info / "entry_points.txt").write_text(f"[{BACKENDS}]\nredis = gateway_redis.plugin_module\n")
    (site.path / "gateway_redis").mkdir()
    (site.path / "gateway_redis" / "__init__.py").write_text("")
    (site.path / "gateway_redis" / "plugin_module.py").write_text("import driver_that_is_missing\n")
    registry = site.discover()
    (problem,) = registry.problems
    assert problem.missing_driver
    assert "pip install 'storage-gateway[redis]'" in problem.sentence
    with pytest.raises(PluginError, match="driver_that_is_missing"):
        registry.backend("redis")


def test_a_foreign_plugin_without_its_driver_gets_no_hint_of_ours(site: Site) -> None:
    """We cannot know what a foreign distribution's extras are called."""
    site.install("foreign", "import driver_that_is_missing\n", (BACKENDS, "foreign"))
    registry = site.discover()
    assert "storage-gateway[" not in only_sentence(registry)
    assert not registry.problems[0].missing_driver


FAULTY_SPECS = {
    "name": (a_spec("No-Good"), "lower case letters, digits and underscores"),
    "name type": (a_spec(7), "lower case letters, digits and underscores"),  # type: ignore[arg-type]  # wrong on purpose
    "version": (a_spec(api_version=99), "version 99 of the backend API, this gateway has version 1"),
    "settings": (a_spec(settings=dict), "derived from BackendSettings"),
    "capabilities": (a_spec(capabilities=frozenset({"teleport"})), "declares the capability 'teleport'"),
    "journal": (a_spec(capabilities=frozenset({Capability.JOURNAL})), "'journal' and not 'atomic_batch'"),
    "schemes": (a_spec(url_schemes="mine"), "url_schemes of the backend 'mine' must be a tuple"),
    "open": (BackendSpec("mine", "", None), "cannot be opened"),  # type: ignore[arg-type]  # wrong on purpose
}


@pytest.mark.parametrize("fault", FAULTY_SPECS)
def test_a_declaration_that_cannot_work_is_refused_in_one_sentence(fault: str) -> None:
    """Each faulty field of a BackendSpec is named, and the backend is not offered."""
    spec, expected = FAULTY_SPECS[fault]
    registry = discover(entry_points=list)
    with pytest.raises(PluginError, match=expected):
        registry.register(Plugin(spec), "faulty")
    assert not registry.backends
    assert len(registry.problems) == 1


def test_a_backend_brought_twice_is_unusable_until_one_is_denied(site: Site) -> None:
    """Two plugins with one backend name: the error names both, and the deny list decides between them."""
    site.install("first-store", GOOD, (BACKENDS, "good"))
    site.install("second-store", GOOD, (BACKENDS, "good"))
    registry = site.discover()
    with pytest.raises(PluginError, match="first-store:good and second-store:good"):
        registry.backend("good")
    assert not registry.backends
    chosen = site.discover(deny=["first-store:good"])
    assert chosen.backends["good"].distribution == "second-store"
    assert chosen.denied == ("good (first-store)",)
    assert chosen.problems == ()
    assert chosen.unusable == {}


def test_a_third_claim_does_not_make_the_name_usable_again(site: Site) -> None:
    """A name that was taken away by two plugins stays away when a third brings it."""
    for number in range(3):
        site.install(f"store-{number}", GOOD, (BACKENDS, "good"))
    registry = site.discover()
    with pytest.raises(PluginError, match="store-0:good and store-1:good and store-2:good"):
        registry.backend("good")


@pytest.mark.parametrize("spelling", ["good", "GOOD", "acme-store", "Acme_Store", "acme.store:good"])
def test_a_denied_plugin_is_not_even_imported(site: Site, spelling: str) -> None:
    """The deny list takes a name, a distribution or both, however they are spelled; asking for it says so."""
    module = site.install("acme-store", GOOD, (BACKENDS, "good"))
    registry = site.discover(deny=[spelling])
    assert module not in sys.modules
    assert registry.problems == ()
    with pytest.raises(PluginError, match="switched off by STORAGE_PLUGINS_DENY"):
        registry.backend("good")


def test_denying_what_is_not_installed_is_reported(site: Site) -> None:
    """A mistyped entry of the deny list would deny nothing, silently; it is a problem with a suggestion."""
    site.install("acme-store", GOOD, (BACKENDS, "good"))
    registry = site.discover(deny=["acme-stor"])
    assert "did you mean acme-store?" in only_sentence(registry)
    assert "good" in registry.backends


def test_a_module_in_several_groups_is_taken_once(site: Site) -> None:
    """Its hooks are called once, so nothing it brings collides with itself."""
    site.install("acme-store", GOOD, (BACKENDS, "good"), (RECORD_KINDS, "good"), (LEGACY_SOURCES, "good"))
    registry = site.discover()
    assert registry.problems == ()
    assert list(registry.backends) == ["good"]


def test_commands_are_loaded_only_when_asked_for(site: Site) -> None:
    """The cli group is left alone by default, and loaded when the command line names it."""
    source = f"{PREAMBLE}\n@hookimpl\ndef gateway_cli(app):\n    app.append('command')\n"
    module = site.install("acme-cli", source, (CLI, "acme"))
    site.discover()
    assert module not in sys.modules
    commands: list[str] = []
    site.discover(groups=[CLI]).extend_cli(commands)  # type: ignore[arg-type]  # stands in for the app
    assert commands == ["command"]


def test_a_command_plugin_that_fails_is_reported(site: Site) -> None:
    """One plugin's failing gateway_cli leaves the others' commands in place."""
    good = f"{PREAMBLE}\n@hookimpl\ndef gateway_cli(app):\n    app.append('command')\n"
    site.install(
        "aaa-bad", f"{PREAMBLE}\n@hookimpl\ndef gateway_cli(app):\n    app.no_such()\n", (CLI, "bad")
    )
    site.install("zzz-good", good, (CLI, "good"))
    registry = site.discover(groups=[CLI])
    commands: list[str] = []
    registry.extend_cli(commands)  # type: ignore[arg-type]  # stands in for the app
    assert commands == ["command"]
    assert "gateway_cli failed with AttributeError" in only_sentence(registry)


KINDS = """
from gateway.hookspecs import hookimpl
from gateway.records import KindSpec, LogRecord, Time

class Tick(LogRecord):
    at: Time

@hookimpl
def gateway_record_kinds():
    return [KindSpec({name!r}, Tick, time_field="at")]
"""


def test_kinds_of_plugins_stand_beside_the_built_in_ones(site: Site) -> None:
    """A plugin's kind is registered with its distribution as source; the built-in ones are all there."""
    site.install("acme-kinds", KINDS.format(name="acme_ticks"), (RECORD_KINDS, "acme"))
    kinds = site.discover().kinds
    assert kinds.source("acme_ticks") == "acme-kinds"
    assert [kind for kind in kinds if kind.name != "acme_ticks"][: len(BUILTIN_KINDS)] == list(BUILTIN_KINDS)


def test_a_kind_that_is_taken_is_refused_and_the_first_one_stays(site: Site) -> None:
    """A plugin cannot take over a built-in kind; the problem names both sides."""
    site.install("acme-kinds", KINDS.format(name="trades"), (RECORD_KINDS, "acme"))
    registry = site.discover()
    assert registry.kinds.get("trades") is TRADES
    assert "storage-gateway and acme-kinds" in only_sentence(registry)


def test_the_built_in_kinds_need_no_installation_and_cannot_be_denied() -> None:
    """In a plain source tree there are no entry points, and the kinds are still there, once each."""
    assert list(discover(entry_points=list).kinds)[: len(BUILTIN_KINDS)] == list(BUILTIN_KINDS)
    assert "trades" in discover(deny=["builtin", "storage-gateway"]).kinds


def test_kinds_declared_by_the_bot_are_seen_whenever_they_are_declared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`kinds` has what @record_kind declared after discovery; a clash with a built-in kind is an error."""
    monkeypatch.setattr(kind_registry, "_DECLARED", {})
    registry = discover(entry_points=list)

    @record_kind("late_ticks", time_field="at")
    class LateTick(LogRecord):
        at: Time

    assert registry.kinds.of(LateTick).name == "late_ticks"

    @record_kind("trades", time_field="at")
    class OtherTrade(LogRecord):
        at: Time

    with pytest.raises(ConfigurationError, match="trades"):
        _ = registry.kinds
    assert OtherTrade.__name__ == "OtherTrade"


LEGACY = """
from gateway.hookspecs import hookimpl
from gateway.legacy import LegacySource

@hookimpl
def gateway_legacy_sources():
    return [LegacySource("old_files", "Old files", iter)]
"""


def test_a_legacy_source_brought_twice_is_reported_and_the_first_stays(site: Site) -> None:
    """The problem names the one that was there first."""
    site.install("first", LEGACY, (LEGACY_SOURCES, "one"))
    site.install("second", LEGACY, (LEGACY_SOURCES, "two"))
    registry = site.discover()
    assert list(registry.legacy_sources) == ["old_files"]
    assert "brought by first:one already" in only_sentence(registry)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("questdb", r"pip install 'storage-gateway\[questdb\]'"),
        ("sqlite", r"pip install 'storage-gateway\[sqlite\]'"),
        ("mime", r"did you mean mine\?.*Installed: mine"),
        ("nothing_like_it", r"no backend 'nothing_like_it' is installed. Installed: mine"),
    ],
)
def test_an_unknown_backend_says_how_to_get_it(name: str, expected: str) -> None:
    """Our own backends get the pip command, mistyped names a suggestion, all of them the list."""
    registry = discover(entry_points=list, extra_plugins={"mine": Plugin(a_spec())})
    with pytest.raises(UnknownBackendError, match=expected):
        registry.backend(name)


def test_objects_are_registered_under_names_that_leave_room_for_instances() -> None:
    """Opened backends join the same manager under their instance names, so plugins must not hold those."""
    registry = discover(entry_points=list, extra_plugins={"mine": Plugin(a_spec())})
    names = [name for name, _ in registry.manager.list_name_plugin()]
    assert len(names) == 2
    assert all(name.startswith("plugin:") for name in names)


def test_two_objects_under_one_name_are_refused() -> None:
    """The second one is refused; the first keeps working."""
    registry = discover(entry_points=list, extra_plugins={"mine": Plugin(a_spec())})
    with pytest.raises(PluginError, match="twice under this name"):
        registry.register(Plugin(a_spec("other")), "mine")
    assert list(registry.backends) == ["mine"]


def test_problems_are_logged_once_a_process(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """However many gateways are opened, the same problem is one warning."""
    site.install("broken-once", "raise RuntimeError('logged once')\n", (BACKENDS, "broken"))
    with caplog.at_level(logging.INFO, logger="gateway.registry"):
        site.discover().warn()
        site.discover().warn()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "logged once" in caplog.text


def test_repr_names_the_backends_and_counts_the_problems(site: Site) -> None:
    """What a person sees in a debugger is what was found."""
    site.install("acme-store", GOOD, (BACKENDS, "good"))
    site.install("broken", "1 / 0\n", (BACKENDS, "broken"))
    assert repr(site.discover()) == "<PluginRegistry backends=good problems=1>"


def run_python(code: str) -> str:
    """Run code in a fresh interpreter, warnings as errors, and return what it prints."""
    command = [sys.executable, "-W", "error", "-c", dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_the_installed_plugins_load_without_the_command_line() -> None:
    """A bot that discovers what is installed pays for no command line and no test tools."""
    loaded = run_python(
        """
        import sys
        from gateway.registry import discover
        discover()
        print([name for name in ("typer", "rich", "pytest", "hypothesis") if name in sys.modules])
        """
    )
    assert loaded == "[]"


def test_the_memory_backend_of_this_distribution_is_found() -> None:
    """The entry points of the real installation are read."""
    found = discover().backends["memory"]
    assert (found.distribution, found.entry_point) == ("storage-gateway", "memory")
