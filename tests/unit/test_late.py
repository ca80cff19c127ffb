"""A mirror that is down at the start: the bot begins without it, and it is opened when it is there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from gateway.backend import Backend, BackendSpec, Capability, OpenContext
from gateway.dispatch import Store
from gateway.errors import ConfigurationError, SchemaError, StoreUnavailableError
from gateway.hookspecs import BackendHooks, hookimpl
from gateway.late import needed
from gateway.migration.phases import Phase
from gateway.modes import MirrorMode
from gateway.records.activity import EVENTS
from gateway.records.builtin import BUILTIN_KINDS
from gateway.records.trading import POSITIONS
from gateway.routing import KindPlan, RoutingPlan
from gateway_memory.plugin import gateway_backends

NOW = datetime(2026, 11, 21, tzinfo=UTC)
MEMORY = gateway_backends()[0]


class Absent:
    """A plugin with a backend that cannot be opened until the test says so."""

    def __init__(self) -> None:
        self.error: Exception | None = StoreUnavailableError("connection refused")
        self.hangs = False
        self.attempts = 0
        self.tried = asyncio.Event()

    @hookimpl
    def gateway_backends(self) -> tuple[BackendSpec, ...]:
        """Bring it."""
        return (replace(MEMORY, name="absent", open=self.open),)

    async def open(self, context: OpenContext) -> Backend:
        """Open it, or not."""
        self.attempts += 1
        if self.attempts > 2:
            self.tried.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return await MEMORY.open(context)


@contextlib.asynccontextmanager
async def opened(absent: Absent, path: Path, **settings: Any) -> AsyncIterator[Gateway]:
    """Open a gateway on a store that is there and one that is not."""
    backends = settings.pop("backends", "memory,absent")
    async with Gateway(
        backends, plugins=[absent], environ={}, env_file=None, data_dir=path, timeout=0.5, **settings
    ) as gateway:
        yield gateway


async def save(gateway: Gateway) -> None:
    """Write something."""
    await gateway.save_position(condition_id="a", side="YES", entry_price=1, opened_at=NOW)


async def _has(mirror: Store, tenant: str) -> bool:
    try:
        (row,) = await mirror.get(POSITIONS, tenant, (("a",),))
    except StoreUnavailableError:
        return False
    return row is not None


@pytest.mark.anyio
@pytest.mark.parametrize("hangs", [False, True])
async def test_the_bot_starts_and_the_mirror_gets_what_it_missed(tmp_path: Path, hangs: bool) -> None:
    """Whether it refuses or hangs; health says so, and once it is open it has everything."""
    absent = Absent()
    absent.hangs = hangs
    async with opened(absent, tmp_path) as gateway:
        await save(gateway)
        health = await gateway.health()
        assert not health.ok
        assert health.backends["memory"].ok
        assert "not opened yet" in health.backends["absent"].summary
        if not hangs:
            async with asyncio.timeout(20):
                await absent.tried.wait()
        absent.hangs, absent.error = False, None
        mirror = gateway.engine.stores["absent"]
        async with asyncio.timeout(30):
            while True:
                if await _has(mirror, gateway.engine.stamper.tenant):
                    break
                await asyncio.sleep(0.02)
        assert (await gateway.health()).ok


async def _summary(gateway: Gateway, word: str) -> str:
    """Return what the absent store says of its health, once a word is in it."""
    async with asyncio.timeout(30):
        while True:
            summary = (await gateway.health()).backends["absent"].summary
            if word in summary:
                return summary
            await asyncio.sleep(0.02)


@pytest.mark.anyio
async def test_an_error_of_the_plugins_own_does_not_end_the_attempts(tmp_path: Path) -> None:
    """The mirror is opened once it can be, whatever opening failed with before; what it says hides passwords."""
    absent = Absent()
    async with opened(absent, tmp_path) as gateway:
        absent.error = OSError("no route to db://bot:secret@host/x")
        assert "secret" not in await _summary(gateway, "no route")
        absent.error = None
        await _summary(gateway, "in memory")


@pytest.mark.anyio
@pytest.mark.parametrize(
    "settings",
    [
        {"mirror_mode": "sync"},
        {"mirror_mode": "journaled,trades:sync"},
        {"backends": "absent,memory"},
        {"phase": "cutover"},
        {"cutover": "trades:25%"},
    ],
)
async def test_a_store_that_is_waited_for_must_be_there(tmp_path: Path, settings: dict[str, str]) -> None:
    """One that leads, is read, or is written in sync, of any kind."""
    with pytest.raises(StoreUnavailableError, match="connection refused"):
        async with opened(Absent(), tmp_path, **settings):
            pass


@pytest.mark.anyio
async def test_what_does_not_pass_by_itself_is_said_at_once(tmp_path: Path) -> None:
    """A schema that somebody has to upgrade keeps the bot from starting, mirror or not."""
    absent = Absent()
    absent.error = SchemaError("run gateway schema upgrade")
    with pytest.raises(SchemaError, match="absent: run gateway schema upgrade"):
        async with opened(absent, tmp_path):
            pass
    absent.error = ConfigurationError("nonsense")
    with pytest.raises(ConfigurationError):
        async with opened(absent, tmp_path):
            pass


@pytest.mark.anyio
async def test_every_call_to_an_absent_store_says_that_it_is_down(tmp_path: Path) -> None:
    """No hook answers as if there were a store without rows."""
    absent = Absent()
    async with opened(absent, tmp_path) as gateway:
        store = gateway.engine.stores["absent"]
        for name in vars(BackendHooks):
            if name.startswith("gateway_") and name not in {"gateway_health", "gateway_close"}:
                with pytest.raises(StoreUnavailableError, match="absent: not opened yet"):
                    await store._calls[name](**dict.fromkeys(_arguments(name)))
        assert Capability.JOURNAL not in store.capabilities


def _arguments(name: str) -> tuple[str, ...]:
    code = vars(BackendHooks)[name].__code__
    return tuple(code.co_varnames[1 : code.co_argcount])


def test_which_stores_are_needed() -> None:
    """Leaders and readers always; mirrors where they are waited for, or lead some keys."""
    plan = RoutingPlan(("a", "b"), KindPlan(Phase.DUAL_WRITE))
    assert needed(plan, BUILTIN_KINDS) == {"a"}
    assert needed(replace(plan, modes={"events": MirrorMode.SYNC}), BUILTIN_KINDS) == {"a", "b"}
    assert needed(replace(plan, modes={"events": MirrorMode.SYNC}), [POSITIONS]) == {"a"}
    assert needed(plan.with_kind("events", KindPlan(Phase.DUAL_WRITE, 5)), [EVENTS]) == {"a", "b"}
    assert needed(plan.with_kind("events", KindPlan(Phase.CUTOVER)), [EVENTS]) == {"b"}
    assert needed(RoutingPlan(("a", "b"), KindPlan(Phase.COMPLETE)), BUILTIN_KINDS) == {"b"}
