"""Starts and ways back: another phase than before, a phase that comes meanwhile, a store that leads no more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway import Gateway
from gateway.errors import StoreUnavailableError
from gateway.hookspecs import BackendCall, hookimpl
from gateway.migration.control import ControlStore
from gateway.migration.decisions import FORCED
from gateway.migration.phases import Phase
from gateway.mirror.facade import Mirrors
from gateway.mirror.state import paused, resumed
from gateway.records import POSITIONS
from tests.mirrors import drained

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def gateway_of(path: Path, **settings: Any) -> Gateway:
    """Return a gateway on two stores in a directory."""
    return Gateway(
        settings.pop("backends", "sqlite,json"), environ={}, env_file=None, data_dir=path, **settings
    )


async def hold(gateway: Gateway, change: Any) -> None:
    """Change how the way to the mirror stands."""
    mirrors = gateway.engine.mirrors
    assert isinstance(mirrors, Mirrors)
    old, new = gateway.engine.plan.backends
    await mirrors.homes[old].states.change(new, change)
    await mirrors.look()


@pytest.mark.anyio
@pytest.mark.parametrize("backends", ["sqlite,json", "json,sqlite"])
async def test_a_store_that_leads_from_the_start_has_what_was_left_for_it(
    tmp_path: Path, backends: str
) -> None:
    """The phase came from the environment, so nobody has asked before; what was acknowledged is there to be read."""
    async with gateway_of(tmp_path, backends=backends) as gateway:
        await hold(gateway, partial(paused, by="ann", why="moving", now=NOW))
        for number in range(50):
            await gateway.save_position(condition_id=f"m{number}", side="YES", entry_price=1, opened_at=NOW)
        await hold(gateway, resumed)
        # Nothing of it is handed over before the process ends.
        assert gateway.engine.mirrors is not None
    async with gateway_of(tmp_path, backends=backends, phase="cutover") as gateway:
        assert len(await gateway.get_open_positions()) == 50


@pytest.mark.anyio
async def test_a_start_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be handed over is said, and the bot runs."""
    monkeypatch.setattr("gateway.gateway._ARRIVING", 0.05)
    async with gateway_of(tmp_path) as gateway:
        await hold(gateway, partial(paused, by="ann", why="moving", now=NOW))
        await gateway.save_position(condition_id="m", side="YES", entry_price=1, opened_at=NOW)
    async with gateway_of(tmp_path, phase="cutover") as gateway:
        assert await gateway.load_position("m") is None
    said = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
    assert any("json leads, but it may lack writes of sqlite" in one for one in said)


class Slow(Gateway):
    """A gateway while whose start another phase is set."""

    async def _open_mirrors(self, *given: Any, **named: Any) -> Mirrors | None:
        found = await super()._open_mirrors(*given, **named)
        control = ControlStore(self.configuration.settings.control_path, ["sqlite", "json"])
        control.set_phase("*", Phase.LEGACY, base=self.configuration.plan, who="ann", why="test")
        follower = self._follower
        assert follower is not None
        await until(lambda: follower.plan.epoch)
        return found


@pytest.mark.anyio
async def test_a_phase_that_is_set_during_the_start_is_followed(tmp_path: Path) -> None:
    """It counts as followed, so nobody would tell the bot again."""
    async with Slow(
        "sqlite,json", environ={}, env_file=None, data_dir=tmp_path, control_poll=0.05
    ) as gateway:
        assert gateway.engine.plan.epoch > 0
        assert gateway.engine.plan.default.phase is Phase.LEGACY


class Dead:
    """A plugin that makes a store fail whatever is asked of it."""

    def __init__(self) -> None:
        self.dead = False

    @hookimpl
    def gateway_wrap(self, call: BackendCall) -> AbstractAsyncContextManager[None] | None:
        """Be in the way."""
        return self._refuse() if self.dead and call.backend == "new" else None

    @asynccontextmanager
    async def _refuse(self) -> AsyncIterator[None]:
        if self.dead:
            raise StoreUnavailableError("connection refused")
        yield


@pytest.mark.anyio
async def test_bots_leave_a_dead_store_when_the_way_back_is_forced(tmp_path: Path) -> None:
    """What only the dead one knows cannot be waited for. Unforced, they stay; in the end both stores are alike."""
    dead = Dead()
    urls = {f"STORAGE_{name}_URL": f"sqlite:///{tmp_path}/{name}.db" for name in ("OLD", "NEW")}
    gateway = Gateway(
        "old=sqlite,new=sqlite",
        environ=urls,
        env_file=None,
        data_dir=tmp_path,
        phase="cutover",
        control_poll=0.05,
        plugins=[dead],
    )
    async with gateway:
        await gateway.save_position(condition_id="a", side="YES", entry_price=1, opened_at=NOW)
        control = ControlStore(gateway.configuration.settings.control_path, ["old", "new"])
        follower = gateway._follower
        assert follower is not None
        dead.dead = True
        for why in ("it is dead", f"it is dead{FORCED}"):
            control.set_phase("*", Phase.SHADOW_READ, base=gateway.configuration.plan, who="ann", why=why)
            forced = why.endswith(FORCED)
            await until(lambda: follower.plan.epoch if forced else follower.held)  # noqa: B023 - awaited at once
            assert (gateway.engine.plan.epoch > 0) == forced
        ack = await gateway.save_position(condition_id="b", side="YES", entry_price=1, opened_at=NOW)
        assert ack.primary == "old"
        dead.dead = False
        await drained(gateway)
        for store in gateway.engine.stores.values():
            rows = await store.get(POSITIONS, gateway.engine.stamper.tenant, (("a",), ("b",)))
            assert [row is not None for row in rows] == [True, True], store


async def until(condition: Any) -> None:
    """Return once something holds."""
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)
