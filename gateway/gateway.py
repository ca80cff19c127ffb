"""`Gateway`: opens the stores that the settings name, follows the phases, and answers the calls of `gateway.api`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pluggy

from gateway.api import GatewayHealth
from gateway.bot_calls import BotCalls
from gateway.buffer import Buffer, BufferOptions
from gateway.cache.front import CacheFront, behind
from gateway.cache.opening import no_cache, open_front
from gateway.concerns import warn_once
from gateway.config import Configuration, denied_plugins, load_configuration, open_context
from gateway.dispatch import StoreSet
from gateway.divergences.alerts import Alerts
from gateway.divergences.log import DivergenceLog
from gateway.divergences.traces import WriteTraces
from gateway.engine.engine import Engine
from gateway.engine.flip import arrive
from gateway.gauges import gauges_of
from gateway.guard import refuse
from gateway.lanes.outcomes import LaneOptions
from gateway.late import needed, open_or_wait
from gateway.migration.control import ControlStore, resolve
from gateway.migration.follow import PlanFollower
from gateway.mirror.bounds import Bounds
from gateway.mirror.facade import MirrorOptions, Mirrors
from gateway.mirror.refusals import refused_row
from gateway.records.stamp import Stamper
from gateway.records.version import HybridClock, version_at
from gateway.registry import discover
from gateway.routing import RoutingPlan
from gateway.settings import GatewaySettings
from gateway.shadow.reader import ShadowReader
from gateway.shadow.sampling import parse_rates
from gateway.telemetry import Counters, Telemetry, TelemetryOptions, operations_of, parse_exporters, untraced

__all__ = ["Gateway"]

_log = logging.getLogger(__name__)
_ARRIVING: Final = 10.0
"""Seconds for which a start waits for what a store that leads has yet to get."""


class Gateway(BotCalls):
    """The storage of a bot: `async with Gateway() as gateway: await gateway.insert_trade(...)`.

    Without arguments everything comes from the environment (`STORAGE_BACKENDS` and the rest, see
    docs/configuration.md), and without that too, from SQLite under `./storage`.

    Args:
        backends: As in `STORAGE_BACKENDS`; wins over the environment.
        plugins: Plugin objects of this process, such as wrappers, beside the installed ones.
        environ: Variables to use instead of the process's.
        env_file: File of variables that the environment wins over; None reads none.
        settings: Any other setting by its name without `STORAGE_`, in lower case: `data_dir=...`, `phase=...`.
    """

    def __init__(
        self,
        backends: str | None = None,
        *,
        plugins: Iterable[object] = (),
        environ: Mapping[str, str] | None = None,
        env_file: Path | None = Path(".env"),
        **settings: Any,
    ) -> None:
        overrides = {**settings, **({} if backends is None else {"backends": backends})}
        self._registry = discover(
            deny=denied_plugins(environ=environ, env_file=env_file, overrides=overrides)
        )
        for at, plugin in enumerate(plugins):
            self._registry.register(plugin, f"in-process-{at}")
        self.configuration: Configuration = load_configuration(
            self._registry, environ=environ, env_file=env_file, overrides=overrides
        )
        self._kinds = self._registry.kinds
        self._guesses = {}
        self._turn = (
            asyncio.Lock()
        )  # opening and closing take turns: each needs the stores as the other left them
        self._closers: AsyncExitStack | None = None
        self._stores: StoreSet | None = None
        self._shadow: ShadowReader | None = None
        self._follower: PlanFollower | None = None
        self._cache: CacheFront | None = None
        self._mirrors: Mirrors | None = None
        self.counters = Counters()

    def __repr__(self) -> str:
        names = ",".join(store.instance for store in self.configuration.stores)
        return f"<Gateway {names} {'open' if self._engine is not None else 'closed'}>"

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def plan(self) -> RoutingPlan:
        """The routes in force at this moment."""
        return self.engine.plan

    @property
    def plugin_manager(self) -> pluggy.PluginManager:
        """Where plugins and opened stores are registered, the stores under their instance names."""
        return self._registry.manager

    async def open(self) -> Self:
        """Open every store and begin to follow the control store. Opening an open gateway does nothing.

        Raises:
            ConfigurationError: The settings, the plugins or the control store cannot be used, or are not safe in
                production; nothing was opened.
            StoreError: A store cannot be opened; those opened before it are closed again.
        """
        async with self._turn:
            if self._closers is not None:
                return self
            self._registry.warn()
            concerns = self.configuration.concerns(*self.configuration.opened)
            refuse(concerns)
            warn_once(concerns)
            async with AsyncExitStack() as closers:
                with untraced():
                    await self._open(closers)
                self._closers = closers.pop_all()
        return self

    async def _open(self, closers: AsyncExitStack) -> None:
        """Start the parts from the stores upward; each registers how it is stopped, in the opposite order."""
        configuration = self.configuration
        settings = configuration.settings
        telemetry = Telemetry(_telemetry_options(settings), self.counters)
        closers.push_async_callback(telemetry.close)
        telemetry.start()
        self._stores = stores = StoreSet(self._registry.manager, settings.timeout)
        closers.push_async_callback(stores.close)
        names = [store.instance for store in configuration.stores]
        control = ControlStore(settings.control_path, names)
        await self._open_stores(closers, stores, control)
        if telemetry.meters is not None:
            for store in stores.stores:
                store.watch(telemetry.meters)
        traces, divergences = self._open_divergences(closers, control)
        self._follower = PlanFollower(
            control, configuration.plan, settings.control_poll, self._follow, counters=self.counters
        )
        await self._follower.start()
        closers.push_async_callback(self._follower.aclose)
        stamper = Stamper(settings.tenant, HybridClock(timedelta(seconds=settings.clock_max_ahead)))
        await self._open_cache(closers, stores, stamper.clock)
        self._mirrors = await self._open_mirrors(closers, stores, stamper, divergences)
        # Not the plan that it began with: opening takes time, in which another one may have come.
        self._engine = engine = Engine(
            {store.name: store for store in stores.stores},
            self._follower.plan,
            stamper,
            LaneOptions(
                settings.lane_rows, settings.batch_rows, settings.lane_policy, settings.retry_seconds
            ),
            self._shadow,
            self.counters,
            self._cache,
            self._mirrors,
        )
        closers.push_async_callback(self._close_engine)
        self._buffer = Buffer(engine.put_rows, _buffer_options(settings))
        closers.push_async_callback(self._buffer.close)
        for lane in engine.lanes.values():
            lane.traced = traces.note
        telemetry.gauges(lambda: gauges_of(self._engine, self._buffer, self._mirrors))
        telemetry.operations(self, _OPERATIONS)

    def _open_divergences(
        self, closers: AsyncExitStack, control: ControlStore
    ) -> tuple[WriteTraces, DivergenceLog]:
        """Begin to look for divergences, and to keep and trace what is found."""
        settings = self.configuration.settings
        alerts = Alerts(self._registry.manager, self.counters)
        traces = WriteTraces(control.file)
        closers.push_async_callback(traces.aclose)
        divergences = DivergenceLog(control.file, counters=self.counters, alerts=alerts, traces=traces)
        closers.push_async_callback(divergences.aclose)
        self._shadow = ShadowReader(
            parse_rates(settings.shadow_sample), divergences, self.counters, timeout=settings.shadow_timeout
        )
        closers.push_async_callback(self._shadow.aclose)
        return traces, divergences

    async def _open_stores(self, closers: AsyncExitStack, stores: StoreSet, control: ControlStore) -> None:
        """Open the stores; one that only gets what others lead with may come later."""
        configuration = self.configuration
        plan = resolve(configuration.plan, await asyncio.to_thread(control.state))
        wanted = needed(plan, (kind for kind in self._kinds if not kind.local))
        patience = configuration.settings.timeout
        for store in configuration.stores:
            context = open_context(configuration, store, tuple(self._kinds))
            if store.instance in wanted:
                await stores.open(store.spec, context)
                continue
            late = await open_or_wait(stores, store.spec, context, patience)
            if late is not None:
                closers.push_async_callback(late.close)

    async def _open_mirrors(
        self, closers: AsyncExitStack, stores: StoreSet, stamper: Stamper, divergences: DivergenceLog
    ) -> Mirrors | None:
        """Begin to bring to each store what the other one leads with; None where there is one store."""
        settings = self.configuration.settings
        if len(stores.stores) < 2:
            return None
        bounds = Bounds(
            settings.journal_rows, timedelta(seconds=settings.journal_age), settings.journal_policy
        )
        mirrors = Mirrors(
            {store.name: store for store in stores.stores},
            {store.name: behind(self._cache, store)[0] for store in stores.stores},
            self._kinds,
            stamper.tenant,
            stamper.clock,
            settings.journal_path,
            lambda *refused: divergences.record(refused_row(*refused)),
            MirrorOptions(bounds, wait=settings.timeout),
            self.counters,
        )
        closers.push_async_callback(mirrors.close)
        if self._shadow is not None:
            self._shadow.watch(mirrors.caught_up)
        await mirrors.start()
        plan = self.configuration.plan if self._follower is None else self._follower.plan
        leaders = {route.primary for kind in self._kinds if not kind.local for route in plan.routes(kind)}
        await arrive(leaders, plan.backends, mirrors, version_at(datetime.now(UTC)), _ARRIVING)
        return mirrors

    async def _open_cache(self, closers: AsyncExitStack, stores: StoreSet, clock: HybridClock) -> None:
        configuration = self.configuration
        kinds, timeout = tuple(self._kinds), configuration.settings.timeout
        self._cache = await open_front(configuration, kinds, stores.stores, clock, self.counters)
        if self._cache is None:
            closers.push_async_callback(await no_cache(stores.stores, timeout, clock))
        else:
            closers.push_async_callback(self._cache.close)
            await self._cache.start()

    async def close(self) -> None:
        """Write what is buffered, finish what is under way, close every store. Calling it again does nothing.

        Raises:
            StoreError: Buffered rows could not be written; the note on the error says how many are lost.
        """
        async with self._turn:
            closers, self._closers = self._closers, None
            if closers is not None:
                try:
                    await closers.aclose()
                finally:
                    self._engine = self._buffer = None

    async def _close_engine(self) -> None:
        if self._engine is not None:
            await self._engine.close()

    async def _follow(self, plan: RoutingPlan) -> None:
        if self._engine is not None:
            await self._engine.follow(plan)
        _log.info("following epoch %d of the control store", plan.epoch)

    async def health(self) -> GatewayHealth:
        """Return whether every store answers; see `gateway.api.Maintenance.health`."""
        engine = self.engine
        backends = {name: await store.health() for name, store in engine.stores.items()}
        details: dict[str, Any] = {
            "epoch": engine.plan.epoch,
            "lanes": {name: lane.counters() for name, lane in engine.lanes.items()},
            "buffer": self.buffer.counters(),
            "counters": self.counters.snapshot(),
            "control_lost": self._follower.lost if self._follower is not None else None,
            "control_held": self._follower.held if self._follower is not None else None,
            "mirrors": self._mirrors.status() if self._mirrors is not None else [],
        }
        if self._cache is not None:
            # Beside the stores and not among them: without its cache the gateway is slower, and well.
            cache = await self._cache.health()
            details["cache"] = {"ok": cache.ok, "summary": cache.summary, **cache.details}
        return GatewayHealth(
            ok=all(health.ok for health in backends.values()), backends=backends, details=details
        )


def _buffer_options(settings: GatewaySettings) -> BufferOptions:
    return BufferOptions(
        settings.buffer_rows, settings.buffer_seconds, settings.buffer_capacity, settings.buffer_policy
    )


def _telemetry_options(settings: GatewaySettings) -> TelemetryOptions:
    return TelemetryOptions(
        parse_exporters(settings.telemetry),
        settings.telemetry_sample,
        settings.telemetry_endpoint,
        settings.telemetry_host,
        settings.telemetry_port,
        settings.telemetry_service,
        settings.telemetry_seconds,
    )


_OPERATIONS: Final = operations_of(Gateway, beside=("open", "close", "health"))
