"""Plugins are told of divergences, once each, and can neither hold up nor break anything."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pluggy
import pytest

from gateway.compare import compare_rows
from gateway.divergences.alerts import Alerts
from gateway.divergences.log import Divergence, DivergenceLog, divergence_of
from gateway.hookspecs import hookimpl, new_manager
from gateway.migration.control_file import ControlFile
from gateway.records import KindSpec, Record, Shape, Text
from gateway.records.stamp import row_of
from gateway.telemetry import Counters

pytestmark = pytest.mark.anyio


class Thing(Record):
    name: Text


THINGS = KindSpec("things", Thing, key=("name",), shape=Shape.STATE)


def _divergence(name: str) -> Divergence:
    found = compare_rows(THINGS, row_of(THINGS, "t", 1, (name,)), None)
    return divergence_of(found, tenant="t", primary="old", shadow="new")


class Listener:
    """Notes what it is told, and in which thread."""

    def __init__(self) -> None:
        self.told: list[Divergence] = []
        self.threads: set[int] = set()

    @hookimpl
    def gateway_divergence(self, divergence: Divergence) -> None:
        """Note it."""
        self.told.append(divergence)
        self.threads.add(threading.get_ident())


class AsyncListener(Listener):
    """The same as a coroutine."""

    @hookimpl
    async def gateway_divergence(self, divergence: Divergence) -> None:  # type: ignore[override] # may be async
        """Note it after a turn of the loop."""
        await asyncio.sleep(0)
        self.told.append(divergence)


class Failing:
    """Cannot take anything."""

    @hookimpl
    def gateway_divergence(self) -> None:
        """Fail."""
        raise RuntimeError("the pager is away: secret-token")


class Hanging:
    """Never comes back, until the test lets it."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.let_go = threading.Event()

    @hookimpl
    def gateway_divergence(self) -> None:
        """Hang."""
        self.reached.set()
        self.let_go.wait(60)


def _log(path: Path, counters: Counters, *plugins: object, capacity: int = 1_000) -> DivergenceLog:
    manager: pluggy.PluginManager = new_manager()
    for plugin in plugins:
        manager.register(plugin)
    alerts = Alerts(manager, counters, capacity=capacity)
    return DivergenceLog(ControlFile(path / "control.db"), counters=counters, alerts=alerts)


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gateway-alerts"]


async def test_every_plugin_is_told_once_of_what_is_new(tmp_path: Path) -> None:
    """Plain and async hooks get each divergence once, off the event loop, however often it is found."""
    plain, awaited, counters = Listener(), AsyncListener(), Counters()
    log = _log(tmp_path, counters, plain, awaited)
    for name in "abab":
        log.record(_divergence(name))
        await log.flush()
    await log.aclose()
    assert [one.key for one in plain.told] == [one.key for one in awaited.told] == [("a",), ("b",)]
    assert threading.get_ident() not in plain.threads
    assert counters.alerts_failed == 0


async def test_what_another_process_found_before_is_no_news(tmp_path: Path) -> None:
    """Two processes with one control store tell of a divergence once; after a resolution, again."""
    first, second, counters = Listener(), Listener(), Counters()
    one, other = _log(tmp_path, counters, first), _log(tmp_path, counters, second)
    one.record(_divergence("a"))
    await one.flush()
    other.record(_divergence("a"))
    await other.flush()
    one.store.resolve([_divergence("a").identity], who="ana", why="repaired")
    other.record(_divergence("a"))
    await one.aclose()
    await other.aclose()
    assert (len(first.told), len(second.told)) == (1, 1)
    assert second.told[0].reopened == 1


async def test_a_plugin_that_fails_is_counted_and_the_others_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The failure is logged by its type, since its message may hold anything."""
    listener, counters = Listener(), Counters()
    log = _log(tmp_path, counters, Failing(), listener)
    log.record(_divergence("a"))
    await log.aclose()
    assert [one.key for one in listener.told] == [("a",)]
    assert counters.alerts_failed == 1
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def test_a_plugin_that_hangs_holds_up_nothing(tmp_path: Path) -> None:
    """Divergences go on being kept, those beyond the bound are counted, and closing has a deadline."""
    hanging, counters = Hanging(), Counters()
    log = _log(tmp_path, counters, hanging, capacity=2)
    assert log._alerts is not None
    log.record(_divergence("a"))
    await log.flush()
    await asyncio.to_thread(hanging.reached.wait, 10)
    for name in "bcde":
        log.record(_divergence(name))
        await log.flush()
    assert counters.alerts_failed == 2
    assert len(log.listed()) == 5
    await log._alerts.aclose(deadline=0.02)
    assert counters.alerts_failed == 4
    (thread,) = _threads()
    hanging.let_go.set()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_without_a_listener_no_thread_is_started(tmp_path: Path) -> None:
    """A gateway whose plugins do not care costs nothing."""
    counters = Counters()
    log = _log(tmp_path, counters)
    log.record(_divergence("a"))
    await log.flush()
    assert _threads() == []
    await log.aclose()
