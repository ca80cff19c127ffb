"""The kinds that exist: those built in, those that plugins bring, and those that a bot declares itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from gateway.errors import ConfigurationError, UnknownKindError
from gateway.records.kind import KindSpec, Record

__all__ = ["KindRegistry", "declared_kinds", "record_kind"]

R = TypeVar("R", bound=Record)

_DECLARED: dict[str, KindSpec] = {}


def record_kind(name: str, **options: Any) -> Callable[[type[R]], type[R]]:
    """Declare a record kind by decorating its model; every gateway opened afterwards knows it.

    Args:
        name: Name of the kind.
        options: Everything else `KindSpec` takes: `key`, `shape`, `time_field`, `retention` and so on.

    Raises:
        ConfigurationError: The declaration contradicts itself, or the name belongs to another model.
    """

    def declare(model: type[R]) -> type[R]:
        spec = KindSpec(name, model, **options)
        existing = _DECLARED.get(name)
        if existing is not None and existing.model.__qualname__ != model.__qualname__:
            raise ConfigurationError(
                f"record kind {name!r} is declared twice, by {existing.model.__qualname__} and {model.__qualname__}; "
                "rename one"
            )
        _DECLARED[name] = spec
        return model

    return declare


def declared_kinds() -> tuple[KindSpec, ...]:
    """Return the kinds declared with `record_kind` so far."""
    return tuple(_DECLARED.values())


class KindRegistry:
    """All kinds of one gateway, by name and by model.

    Args:
        kinds: Pairs of a kind and who brought it (a plugin's name), for messages.

    Raises:
        ConfigurationError: Two kinds share a name or a model.
    """

    def __init__(self, kinds: Iterable[tuple[KindSpec, str]] = ()) -> None:
        self._by_name: dict[str, KindSpec] = {}
        self._by_model: dict[type[Record], KindSpec] = {}
        self._source: dict[str, str] = {}
        for kind, source in kinds:
            self.add(kind, source)

    def __iter__(self) -> Iterator[KindSpec]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def add(self, kind: KindSpec, source: str) -> None:
        """Register a kind. Registering the same one again does nothing."""
        existing = self._by_name.get(kind.name)
        if existing is kind:
            return
        if existing is not None:
            raise ConfigurationError(
                f"record kind {kind.name!r} is brought by both {self._source[kind.name]} and {source}; "
                "rename one, or put one plugin into STORAGE_PLUGINS_DENY"
            )
        twin = self._by_model.get(kind.model)
        if twin is not None:
            raise ConfigurationError(
                f"record kinds {twin.name!r} and {kind.name!r} share the model {kind.model.__name__}; give each its own"
            )
        self._by_name[kind.name] = kind
        self._by_model[kind.model] = kind
        self._source[kind.name] = source

    def source(self, name: str) -> str:
        """Return who brought a kind."""
        return self._source[name]

    def get(self, name: str) -> KindSpec:
        """Return a kind by name.

        Raises:
            UnknownKindError: Nobody registered it; the message lists those that exist.
        """
        try:
            return self._by_name[name]
        except KeyError:
            known = ", ".join(sorted(self._by_name)) or "none"
            raise UnknownKindError(
                f"no record kind {name!r} is registered; known kinds: {known}. "
                "Register yours with @record_kind or a plugin."
            ) from None

    def of(self, model: type[Record]) -> KindSpec:
        """Return the kind of a record class.

        Raises:
            UnknownKindError: The class belongs to no registered kind.
        """
        try:
            return self._by_model[model]
        except KeyError:
            raise UnknownKindError(
                f"{model.__name__} belongs to no registered record kind; register it with @record_kind or a plugin"
            ) from None
