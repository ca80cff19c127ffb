"""One run of the command line: the options that hold for every command, and what they lead to.

Everything is looked up when it is first needed: `gateway --help` must not load the record kinds.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    import typer

    from gateway.config import Configuration
    from gateway.dispatch import StoreSet
    from gateway.migration.control import ControlStore
    from gateway.records.kind import KindSpec
    from gateway.registry import PluginRegistry
    from gateway.routing import RoutingPlan

__all__ = ["ENV_FILE", "Session", "session_of"]

T = TypeVar("T")

ENV_FILE: Final = Path(".env")


@dataclass
class Session:
    """What the options before the command say.

    Attributes:
        env_file: File of variables.
        overrides: Settings that win over the environment, by name in lower case without `STORAGE_`.
        modules: Modules of the bot that declare record kinds, imported before anything is read.
        debug: Whether an error is shown with its traceback.
    """

    env_file: Path = ENV_FILE
    overrides: dict[str, Any] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    debug: bool = False

    @cached_property
    def registry(self) -> PluginRegistry:
        """What is installed, and the kinds that the bot's modules declare."""
        from gateway.config import denied_plugins
        from gateway.registry import discover

        self._import_modules()
        return discover(deny=denied_plugins(env_file=self.env_file, overrides=self.overrides))

    @cached_property
    def configuration(self) -> Configuration:
        """The configuration; raises `ConfigurationError` as a bot with the same variables would."""
        from gateway.config import load_configuration

        return load_configuration(self.registry, env_file=self.env_file, overrides=self.overrides)

    @property
    def tenant(self) -> str:
        """Whose rows are looked at."""
        return self.configuration.settings.tenant

    @property
    def instances(self) -> tuple[str, ...]:
        """Instance names of the stores, the old one first."""
        return tuple(store.instance for store in self.configuration.stores)

    @cached_property
    def control(self) -> ControlStore:
        """The control store; reading a missing one finds nothing decided."""
        from gateway.migration.control import ControlStore

        return ControlStore(self.configuration.settings.control_path, self.instances)

    def plan(self) -> RoutingPlan:
        """Return the routes in force: by the control store, and by the environment for the rest."""
        from gateway.migration.control import resolve

        return resolve(self.configuration.plan, self.control.state())

    def kind(self, name: str) -> KindSpec:
        """Return a record kind; raises `UnknownKindError` naming those there are."""
        return self.registry.kinds.get(name)

    def kinds(self, names: Iterable[str] | None = None) -> tuple[KindSpec, ...]:
        """Return the named kinds, each with those that move along with it; all kinds if none is named."""
        wanted = [self.kind(name).name for name in names or ()]
        every = tuple(kind for kind in self.registry.kinds if not kind.local)
        if not wanted:
            return every
        return tuple(kind for kind in every if kind.name in wanted or kind.companion_of in wanted)

    def moving(self, names: Iterable[str] | None = None) -> tuple[tuple[KindSpec, ...], list[str]]:
        """Return the kinds to copy or compare, and a sentence on those that were left out.

        A kind that `STORAGE_PLACES` keeps in one of the two stores is no part of a migration, unless it is named.
        """
        kinds, plan = self.kinds(names), self.plan()
        alone = () if names else tuple(kind for kind in kinds if plan.lives_alone(kind))
        left = [
            f"{kind.name}: lives in {plan.listing(kind).primary} alone, by STORAGE_PLACES; left out unless it is named"
            for kind in alone
        ]
        return tuple(kind for kind in kinds if kind not in alone), left

    @asynccontextmanager
    async def stores(self, *names: str, writable: Iterable[str] = ()) -> AsyncIterator[StoreSet]:
        """Open stores, read-only unless named as writable, to look at them beside a running bot.

        Args:
            names: Instance names.
            writable: Those of them that are to be written.

        Raises:
            ConfigurationError: There is no store of that name, or production refuses how one is reached.
            StoreError: One cannot be opened.
        """
        from gateway.cache.opening import beside_caches
        from gateway.config import open_context
        from gateway.dispatch import StoreSet

        configured = [self.configuration.store(name) for name in names]
        opened = StoreSet(self.registry.manager, self.configuration.settings.timeout)
        kinds, written = tuple(self.registry.kinds), set(writable)
        # All of them first: if one must not be opened, none is.
        contexts = [
            open_context(self.configuration, store, kinds, store.instance not in written)
            for store in configured
        ]
        try:
            for store, context in zip(configured, contexts, strict=True):
                await opened.open(store.spec, context)
            # What a command writes, a cache in front of the store does not know of.
            async with beside_caches([opened[name] for name in written], self.configuration.settings.timeout):
                yield opened
        finally:
            await opened.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a command's asynchronous part to its end."""
        import asyncio

        return asyncio.run(work)

    def _import_modules(self) -> None:
        """Import the bot's modules for the kinds they declare.

        Raises:
            ConfigurationError: One cannot be imported.
        """
        from gateway.errors import ConfigurationError

        if self.modules and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # as `python -m` does; the installed script does not
        for name in self.modules:
            try:
                importlib.import_module(name)
            except Exception as error:
                raise ConfigurationError(
                    f"--import {name}: the module cannot be imported ({type(error).__name__}: {error}); "
                    "run the command where the bot runs, or correct the name"
                ) from error


def session_of(context: typer.Context) -> Session:
    """Return the session of a running command."""
    session = context.find_object(Session)
    if session is None:
        session = context.obj = Session()
    return session
