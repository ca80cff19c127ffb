"""Which stores are meant: the grammar of `STORAGE_BACKENDS`, what stands in for it, and where they are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Final

from gateway.backend import BackendSettings, BackendSpec, Capability
from gateway.catalogue import backend_of_scheme
from gateway.errors import ConfigurationError, PluginError, UnknownBackendError
from gateway.locations import may_be_one, server_of
from gateway.redaction import redact
from gateway.registry import PluginRegistry
from gateway.settings import PREFIX
from gateway.variables import DEFAULT, Given, Variables
from gateway.vetting import NAME_PATTERN

__all__ = [
    "BACKENDS",
    "StoreName",
    "check_locations",
    "files_of",
    "named_stores",
    "parse_backends",
    "variable_of",
]

BACKENDS: Final = "STORAGE_BACKENDS"
DATABASE_URL: Final = "DATABASE_URL"
POSITION_BACKEND: Final = "POSITION_BACKEND"
DEFAULT_BACKEND: Final = "sqlite"

_EXAMPLE: Final = "json,sqlite or old=sqlite:/var/a.db,new=sqlite:/var/b.db"
_PLAIN: Final = re.compile(r"[\w=.\- ]{1,60}")
"""What can be quoted in an error without fear of a password in it."""
_OPEN_URL: Final = re.compile(r"://[^/@]+$")
"""A URL that ends before its user part did."""


@dataclass(frozen=True, slots=True)
class StoreName:
    """One store as the user named it.

    Attributes:
        instance: Its name; the backend's unless the user chose one.
        backend: Name of the backend.
        location: Where it is; None leaves that to the backend's settings.
        source: The variable that said so.
    """

    instance: str
    backend: str
    location: str | None
    source: str

    def __repr__(self) -> str:
        return f"<StoreName {self.instance}={self.backend}:{redact(self.location or '')}>"


def variable_of(owner: str, field: str) -> str:
    """Return the variable of a backend's setting; the owner is an instance, or a backend."""
    return f"{PREFIX}{owner}_{field}".upper()


def parse_backends(
    text: str,
    backend_of: Callable[[str], str | None] = backend_of_scheme,
    is_cache: Callable[[str], bool] = frozenset({"redis", "memory_cache"}).__contains__,
) -> tuple[StoreName, ...]:
    """Read `[instance=]backend[:location]`, once or twice with a comma between, and perhaps a cache behind them.

    Args:
        text: What the user wrote. A whole URL stands for the backend of its scheme and its location.
        backend_of: Returns the backend that a URL scheme means.
        is_cache: Tells whether a backend is a cache.

    Raises:
        ConfigurationError: The text is no such list, names an instance twice, names more than two stores, or a cache
            that is not the last after at least one store.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    _refuse_split_url(parts)
    stores = tuple(_parse_store(number, part, backend_of) for number, part in enumerate(parts, start=1))
    for number, store in enumerate(stores):
        if any(store.instance == other.instance for other in stores[:number]):
            raise ConfigurationError(
                f"{BACKENDS} names {store.instance!r} twice; name the instances, as in "
                f"old={store.backend}:LOCATION,new={store.backend}:LOCATION"
            )
    caches = [at for at, store in enumerate(stores) if is_cache(store.backend)]
    if caches[:1] == [0]:
        raise ConfigurationError(
            f"{BACKENDS} names {stores[0].backend}, which is a cache and no store, in the place of a store; a cache "
            f"keeps nothing for good. Name a store before it, as in sqlite,{stores[0].backend}"
        )
    if caches and caches != [len(stores) - 1]:
        raise ConfigurationError(
            f"{BACKENDS} names a cache that is not alone at the end; name the stores, then one cache, "
            f"as in sqlite,postgres,{stores[caches[0]].backend}"
        )
    if not 1 <= len(stores) - len(caches) <= 2:
        raise ConfigurationError(
            f"{BACKENDS} names {len(stores) - len(caches)} stores, but the gateway writes to one or to two; "
            f"write it as in {_EXAMPLE}"
        )
    return stores


def _refuse_split_url(parts: Iterable[str]) -> None:
    """Refuse a URL that a comma cut in two, before a piece of its password is quoted as a backend."""
    cut = False
    for part in parts:
        if cut and "@" in part and "://" not in part:
            raise ConfigurationError(
                f"{BACKENDS} holds a location with a comma, which separates stores there; "
                "name only the backend and put the location into STORAGE_<INSTANCE>_URL"
            )
        cut = cut or bool(_OPEN_URL.search(part))


def _parse_store(number: int, part: str, backend_of: Callable[[str], str | None]) -> StoreName:
    head, named, rest = part.partition("=")
    # An equals sign behind the first colon belongs to the location, as in sqlite:/var/a=b.db.
    instance, body = (head.strip(), rest.strip()) if named and ":" not in head else ("", part)
    backend, _, location = (item.strip() for item in body.partition(":"))
    backend = backend.lower()
    if location.startswith("//"):
        scheme, _, driver = backend.partition("+")
        location = f"{scheme}:{location}" if driver else body
        backend = backend_of(scheme) or scheme
    instance = instance.lower() or backend
    if not (NAME_PATTERN.match(backend) and NAME_PATTERN.match(instance)):
        shown = repr(part) if _PLAIN.fullmatch(part) else f"entry {number}"
        raise ConfigurationError(
            f"{BACKENDS}: {shown} is not [instance=]backend[:location] with names of lower case letters, "
            f"digits and underscores; write it as in {_EXAMPLE}"
        )
    return StoreName(instance, backend, location or None, BACKENDS)


def named_stores(text: str | None, variables: Variables, registry: PluginRegistry) -> tuple[StoreName, ...]:
    """Return the stores that are meant: of `STORAGE_BACKENDS`, of what stands in for it, or the default.

    Args:
        text: The value of `STORAGE_BACKENDS`.
        variables: Where `DATABASE_URL` and `POSITION_BACKEND` are looked up.
        registry: Tells which backend a URL scheme means.

    Raises:
        ConfigurationError: They cannot be understood, or contradict each other.
        UnknownBackendError: No backend has the scheme of `DATABASE_URL`.
    """
    if text and text.strip():
        return parse_backends(
            text, lambda scheme: _backend_of(scheme, registry), lambda name: _is_cache(name, registry)
        )
    url, position = variables.get(DATABASE_URL), variables.get(POSITION_BACKEND)
    stores = [
        store for store in (url and _from_url(url, registry), position and _from_position(position)) if store
    ]
    if len(stores) == 2 and stores[0].backend != stores[1].backend:
        raise ConfigurationError(
            f"{DATABASE_URL} means {stores[0].backend} and {POSITION_BACKEND} means {stores[1].backend}; "
            f"set {BACKENDS} to say which, or name both there to move from one to the other"
        )
    return tuple(stores[:1]) or (StoreName(DEFAULT_BACKEND, DEFAULT_BACKEND, None, DEFAULT),)


def _backend_of(scheme: str, registry: PluginRegistry) -> str | None:
    """Return the backend of a URL scheme.

    Raises:
        PluginError: Two installed backends claim it.
    """
    found = sorted(name for name, plugin in registry.backends.items() if scheme in plugin.spec.url_schemes)
    if len(found) > 1:
        raise PluginError(f"URLs with {scheme}:// mean {' and '.join(found)}; name the backend in {BACKENDS}")
    return found[0] if found else backend_of_scheme(scheme)


def _is_cache(name: str, registry: PluginRegistry) -> bool:
    plugin = registry.backends.get(name)
    return plugin is not None and not plugin.spec.store_of_record


def _from_url(given: Given, registry: PluginRegistry) -> StoreName:
    scheme, separator, rest = str(given.value).strip().partition("://")
    # SQLAlchemy's URLs name a driver behind a plus sign, which is not ours to choose.
    scheme = scheme.lower().partition("+")[0]
    backend = _backend_of(scheme, registry) if separator else None
    if backend is None:
        wrong = f"has the scheme {scheme!r}, which no installed backend reads" if separator else "is no URL"
        raise UnknownBackendError(f"{given.label} {wrong}; correct it, or set {BACKENDS}, which wins over it")
    return StoreName(backend, backend, f"{scheme}://{rest}", given.name)


def _from_position(given: Given) -> StoreName:
    name = str(given.value).strip().lower()
    if name not in {"json", "sqlite"}:
        raise ConfigurationError(f"{given.label} must be json or sqlite; for other stores set {BACKENDS}")
    return StoreName(name, name, None, given.name)


def check_locations(stores: Iterable[tuple[str, BackendSpec, BackendSettings]]) -> None:
    """Refuse two instances that are one store: they would always agree, and prove nothing.

    Raises:
        ConfigurationError: Two instances of one backend have one location, or one of them has none.
    """
    for (name, spec, one), (other, other_spec, two) in combinations(stores, 2):
        if spec.name == other_spec.name and _may_be_one(spec, one.url, two.url):
            variables = " and ".join(variable_of(instance, "url") for instance in (name, other))
            raise ConfigurationError(
                f"{BACKENDS}: {name!r} and {other!r} are the same {spec.name} store, or may be; "
                f"give each its own location, there or in {variables}"
            )


def _may_be_one(spec: BackendSpec, one: str | None, two: str | None) -> bool:
    if one and two:
        places = [server_of(_behind_scheme(spec, url) or "") for url in (one, two)]
        if places[0] is not None and places[1] is not None and may_be_one(places[0], places[1]):
            return True
        return not _places(spec, one).isdisjoint(_places(spec, two))
    # Only the backend knows where a store without a location is. If nothing in it lasts, each is a new one.
    return Capability.DURABLE in spec.capabilities


def _places(spec: BackendSpec, url: str) -> frozenset[str]:
    """Return every path that a location may mean, as far as one can tell without opening it.

    Backends differ in how many slashes of a URL belong to the path, so each reading counts.
    """
    rest = _behind_scheme(spec, url)
    if rest is None:
        return frozenset({_real(url)})
    return frozenset(_real(rest.removeprefix(slashes)) for slashes in ("", "//", "///"))


def files_of(spec: BackendSpec, url: str | None) -> tuple[Path, ...]:
    """Return where a store may keep its files: each reading of its location. Most of them do not exist."""
    return tuple(map(Path, sorted(_places(spec, url)))) if url and "\0" not in url else ()


def _behind_scheme(spec: BackendSpec, url: str) -> str | None:
    """Return what follows the scheme and its colon; None if the location does not begin with one of the backend's."""
    scheme, separator, rest = url.partition(":")
    ours = separator and scheme.partition("+")[0].lower() in spec.url_schemes
    return rest if ours else None


def _real(path: str) -> str:
    """Return where a path leads; unlike pathlib's, this way of reading `~` leaves alone what names nobody's home."""
    return os.path.realpath(os.path.expanduser(path))  # noqa: PTH111 - see above
