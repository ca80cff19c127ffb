"""Whether what a plugin brings can be used. Every check returns the fault as part of a sentence, or None."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any, Final

from pluggy import PluginManager

from gateway.backend import API_VERSION, BackendSettings, BackendSpec, Capability
from gateway.dispatch import HOOKS
from gateway.hookspecs import new_manager

__all__ = ["NAME_PATTERN", "brief", "fault_of_backend", "fault_of_hooks", "items_of", "type_name"]

NAME_PATTERN: Final = re.compile(r"^[a-z][a-z0-9_]*$")
"""Names of backends and instances: they become parts of variable names."""

_spare: Final[list[PluginManager]] = []
"""Managers without plugins: to teach one every hook costs more than all else here. One with a fault is thrown away."""


def fault_of_hooks(plugin: object) -> str | None:
    """Try a plugin's hooks in a manager of its own, so that a faulty one leaves no trace in the real one."""
    try:
        trial = _spare.pop()
    except IndexError:
        trial = new_manager()
    try:
        trial.register(plugin, "trial")
        trial.check_pending()
        callers = trial.get_hookcallers(plugin) or []
        names = {caller.name for caller in callers}
        trial.unregister(plugin)
    except Exception as error:  # noqa: BLE001 - a foreign object may raise anything; the caller reports it
        return f"has hooks that do not fit: {brief(error)}"
    _spare.append(trial)
    if not names:
        return "brings no hook; mark its functions with @hookimpl from gateway.hookspecs"
    misplaced = sorted(names.intersection(HOOKS))
    if misplaced:
        return f"implements {misplaced[0]}, which belongs to the object that BackendSpec.open returns"
    return None


def fault_of_backend(spec: object) -> str | None:
    """Check one declaration of `gateway_backends`; its fields are foreign input, whatever the annotations."""
    if not isinstance(spec, BackendSpec):
        return f"gateway_backends returned {type_name(spec)} where a BackendSpec belongs"
    foreign: Any = spec
    name, settings, opener = foreign.name, foreign.settings, foreign.open
    if not isinstance(name, str) or not NAME_PATTERN.match(name):
        return f"the backend name {name!r} must be lower case letters, digits and underscores, a letter first"
    if spec.api_version != API_VERSION:
        return (
            f"the backend {name!r} was made for version {spec.api_version} of the backend API, this gateway "
            f"has version {API_VERSION}; install releases of both that match"
        )
    if not (inspect.isclass(settings) and issubclass(settings, BackendSettings)):
        return f"the settings of the backend {name!r} must be a class derived from BackendSettings"
    unknown = sorted(str(item) for item in foreign.capabilities if not isinstance(item, Capability))
    if unknown:
        return (
            f"the backend {name!r} declares the capability {unknown[0]!r}, which this gateway does not know"
        )
    if Capability.JOURNAL in foreign.capabilities and Capability.ATOMIC_BATCH not in foreign.capabilities:
        return (
            f"the backend {name!r} declares {Capability.JOURNAL.value!r} and not {Capability.ATOMIC_BATCH.value!r}: "
            "intents are worth something only where they are stored with their whole batch or not at all"
        )
    # A text would pass for a tuple of its letters.
    if not isinstance(foreign.url_schemes, tuple):
        return f"url_schemes of the backend {name!r} must be a tuple"
    if not foreign.store_of_record and not callable(foreign.open_cache):
        return f"the cache {name!r} cannot be opened: BackendSpec.open_cache must be an async function"
    if not callable(opener):
        return f"the backend {name!r} cannot be opened: BackendSpec.open must be an async function"
    return None


def items_of(answer: object) -> Sequence[Any]:
    """Return what a start-up hook brought.

    Raises:
        TypeError: It is anything but a sequence.
    """
    if inspect.iscoroutine(answer):
        answer.close()  # it is never going to be awaited, and Python would warn about that
        raise TypeError("it is async; start-up hooks are plain functions")
    if not isinstance(answer, Sequence) or isinstance(answer, str | bytes):
        raise TypeError(f"it returned {type_name(answer)} where a list belongs")
    return answer


def brief(error: BaseException) -> str:
    """Return an error on one line, short enough for a sentence."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else f"{text[:300]}…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def type_name(value: object) -> str:
    """Return what a value is, for a sentence about where it does not belong."""
    return f"a value of type {type(value).__name__}"
