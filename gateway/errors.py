"""Every error the gateway raises, under one root.

A caller that wants to survive anything the storage does catches `GatewayError`; one that wants to know
whether trying again can help asks `error.transient`.

```
GatewayError
├── ConfigurationError            settings, variables, phases or plugins that cannot work together
│   ├── UnknownVariableError      a STORAGE_ variable nobody reads
│   ├── UnknownBackendError       a backend that is not installed
│   ├── PluginError               a plugin that is broken, duplicated, or made for another API version
│   └── PhaseError                a step between phases that is not allowed
├── InvalidRecordError            a record, a filter or an argument refused at the edge
│   └── UnknownKindError          a record kind that nobody registered
├── ClockError                    a version that runs ahead of this machine's clock
├── CapabilityError               the store cannot do that, and says so
├── QueueFullError                a bounded queue is full and its policy is to refuse
├── JournalFullError              too much has yet to reach a mirror, and the policy is to block    (transient)
├── MirrorBehindError             a mirror lacks writes, so it cannot lead yet                       (transient)
├── GatewayClosedError            the gateway was closed, or not opened
├── MirrorWriteError              the primary has the write, a mirror has not
├── CacheError                    what a cache answered; counted, never raised to a bot  (transient)
│   └── CacheMovedError           the cache is another server than it was
└── StoreError                    what a store answered, with the backend's name on it
    ├── StoreUnavailableError     down, unreachable or closed              (transient)
    │   └── StoreTimeoutError     no answer in time                        (transient)
    ├── StoreBusyError            another writer holds it                  (transient)
    ├── StoreFullError            no space left
    ├── StoreReadOnlyError        no permission to write
    ├── StoreLockedError          another process owns it
    ├── StoreCorruptError         what is stored cannot be trusted
    ├── SchemaError               the schema is missing, outdated or unknown
    │   └── SchemaTooNewError     a newer gateway made this schema
    └── WriteRejectedError        the store refuses this very row
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

__all__ = [
    "CacheError",
    "CacheMovedError",
    "CapabilityError",
    "ClockError",
    "Committed",
    "ConfigurationError",
    "GatewayClosedError",
    "GatewayError",
    "InvalidRecordError",
    "JournalFullError",
    "MirrorBehindError",
    "MirrorWriteError",
    "PhaseError",
    "PluginError",
    "QueueFullError",
    "SchemaError",
    "SchemaTooNewError",
    "StoreBusyError",
    "StoreCorruptError",
    "StoreError",
    "StoreFullError",
    "StoreLockedError",
    "StoreReadOnlyError",
    "StoreTimeoutError",
    "StoreUnavailableError",
    "UnknownBackendError",
    "UnknownKindError",
    "UnknownVariableError",
    "WriteRejectedError",
]


class GatewayError(Exception):
    """The root: anything the gateway or a backend reports."""

    transient: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""


class ConfigurationError(GatewayError):
    """Settings that cannot work; raised before anything is opened or written."""


class UnknownVariableError(ConfigurationError):
    """A variable with the STORAGE_ prefix that no part of the gateway reads."""


class UnknownBackendError(ConfigurationError):
    """A backend named in the settings that is not installed."""


class PluginError(ConfigurationError):
    """A plugin that cannot be loaded, appears twice, or was made for another API version."""


class PhaseError(ConfigurationError):
    """A move between migration phases that would skip one, or leave the last."""


class InvalidRecordError(GatewayError):
    """A record, filter or argument that is refused at the edge; nothing was stored."""


class UnknownKindError(InvalidRecordError):
    """A record kind that is not registered."""


class ClockError(GatewayError):
    """A version too far ahead of this machine's clock to be believed."""


class CapabilityError(GatewayError):
    """An operation that the store does not offer."""


class QueueFullError(GatewayError):
    """A bounded queue is full and its policy is to refuse; the write was not accepted."""

    transient = True


class JournalFullError(GatewayError):
    """The journal of a mirror has reached its bound and STORAGE_JOURNAL_POLICY is block; nothing was written.

    Attributes:
        target: Instance name of the mirror.
    """

    transient = True

    def __init__(self, message: str, *, target: str = "") -> None:
        super().__init__(message)
        self.target = target


class MirrorBehindError(GatewayError):
    """A store was to lead that does not have everything yet; the one that leads goes on leading."""

    transient = True


class GatewayClosedError(GatewayError):
    """The gateway is not open; the call did nothing."""


class StoreError(GatewayError):
    """What one store answered.

    Attributes:
        backend: Instance name of the backend, as in `STORAGE_BACKENDS`.
        retry_with: Arguments with which the same call can be repeated without doing its work twice, such as
            `{"record_id": ...}`; empty where the call is idempotent as it is.
    """

    def __init__(self, message: str, *, backend: str = "") -> None:
        super().__init__(message)
        self.backend = backend
        self.retry_with: dict[str, str] = {}

    def __str__(self) -> str:
        text = super().__str__()
        if self.retry_with:
            arguments = ", ".join(f"{name}={value!r}" for name, value in self.retry_with.items())
            text = f"{text}. To try again without doing it twice, repeat the call with {arguments}"
        return f"{self.backend}: {text}" if self.backend else text


class StoreUnavailableError(StoreError):
    """The store cannot be reached; whether a write in flight was applied is unknown."""

    transient = True


class StoreTimeoutError(StoreUnavailableError):
    """The store did not answer in time; whether a write in flight was applied is unknown."""


class StoreBusyError(StoreError):
    """Another writer held the store for longer than the busy timeout; nothing was written."""

    transient = True


class StoreFullError(StoreError):
    """There is no space left; nothing was written and nothing stored was touched."""


class StoreReadOnlyError(StoreError):
    """The store may not be written by this process."""


class StoreLockedError(StoreError):
    """Another process owns the store, which takes one writer at a time."""


class StoreCorruptError(StoreError):
    """What is stored is damaged; the gateway leaves it untouched."""


class SchemaError(StoreError):
    """The store's schema is not the one this gateway needs."""


class SchemaTooNewError(SchemaError):
    """A newer gateway made this schema; an older one must not write to it."""


class WriteRejectedError(StoreError):
    """The store refuses this very row; sending it again cannot help."""


class CacheError(GatewayError):
    """What a cache answered, or that it did not. The gateway counts it and goes to the store instead."""

    transient = True


class CacheMovedError(CacheError):
    """The server that answers for the cache is not the one that was meant; nothing was done on it."""


class Committed(Protocol):
    """What `MirrorWriteError` says of the write that the primary has: a `gateway.answers.Ack`."""

    @property
    def kind(self) -> str:
        """Name of the record kind."""
        ...

    @property
    def record_id(self) -> str | None:
        """Id of a log row, to repeat the write with; None for kinds identified by a key."""
        ...

    @property
    def version(self) -> int:
        """The row's version."""
        ...

    @property
    def primary(self) -> str:
        """Instance name of the store that committed it."""
        ...


class MirrorWriteError(GatewayError):
    """The primary committed the write, but a mirror that the caller waits for did not.

    The write is durable and readable, and the mirror gets it from the journal once it is back. Repeating it with the
    same record id (`error.ack.record_id`) does no harm.

    Attributes:
        ack: What the primary acknowledged.
        failures: The mirror's instance name and its error.
    """

    def __init__(self, ack: Committed, failures: Mapping[str, GatewayError]) -> None:
        super().__init__()
        self.ack = ack
        self.failures = dict(failures)

    def __str__(self) -> str:
        mirrors = "; ".join(str(error) or name for name, error in self.failures.items())
        names = " and ".join(self.failures) or "it"
        return (
            f"{self.ack.kind}: {self.ack.primary} has the write, but a mirror failed: {mirrors}. "
            f"Nothing is lost: once {names} is back, it gets the write by itself; `gateway mirror status` shows what "
            "it has yet to get."
        )
