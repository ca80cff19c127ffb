"""The doctor's checks of one store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gateway.backend import Capability, Health
from gateway.cli.actions.schema import schema_of
from gateway.cli.session import Session
from gateway.config import StoreConfig, open_context
from gateway.errors import CapabilityError, GatewayError, StoreError
from gateway.findings import Finding, fail, ok, permissions, warn
from gateway.query import Query
from gateway.records.kind import Shape
from gateway.records.version import version_time

if TYPE_CHECKING:
    from gateway.dispatch import Store

__all__ = ["check_store"]

_SHOWN: Final = 5


async def check_store(session: Session, config: StoreConfig) -> list[Finding]:
    """Open a store read-only and look at it from all sides."""
    subject = f"store {config.instance}"
    try:
        async with session.stores(config.instance) as stores:
            store = stores[config.instance]
            health = await store.health()
            findings = [_answer(subject, health), *_details(subject, health.details)]
            if health.ok:
                findings += await _clock(session, store)
    except StoreError as error:
        # Its sentence says what to do already. A close look may say why.
        return [fail(subject, str(error), ""), *await asyncio.to_thread(_closely, session, config)]
    findings += await asyncio.to_thread(_schema, session, config)
    return findings + await asyncio.to_thread(_closely, session, config)


def _answer(subject: str, health: Health) -> Finding:
    return (
        ok(subject, health.summary)
        if health.ok
        else fail(subject, health.summary, "see the sentence; bots cannot use this store now")
    )


def _details(subject: str, details: Mapping[str, Any]) -> list[Finding]:
    """Read what the store says of itself. A detail that a backend does not give is not checked."""
    findings: list[Finding] = []
    integrity = details.get("integrity")
    if integrity == "ok":
        findings.append(ok(f"{subject}: integrity", "the quick check found nothing wrong"))
    elif integrity is not None:
        findings.append(
            fail(
                f"{subject}: integrity",
                str(integrity),
                "restore a backup, then run `gateway copy` from the other store",
            )
        )
    if details.get("writable") is False:
        findings.append(
            warn(
                f"{subject}: permissions",
                "this user may not write it",
                "run the bots as its owner, or change the owner",
            )
        )
    place = details.get("path") or details.get("directory")
    if isinstance(place, str) and Path(place).exists():
        findings.append(permissions(f"{subject}: permissions", Path(place)))
        findings += _lock(subject, Path(place))
    return findings + _recovered(subject, details)


def _recovered(subject: str, details: Mapping[str, Any]) -> list[Finding]:
    findings = [
        warn(f"{subject}: recovery", str(sentence), "nothing was deleted; look at what was set aside")
        for sentence in _some(details, "recovered")
    ]
    findings += [
        warn(f"{subject}: recovery", f"{name} was set aside after a crash", "look at it, then remove it")
        for name in _some(details, "set_aside")
    ]
    findings += [
        warn(
            f"{subject}: edited",
            f"{name} was edited outside the gateway",
            "store it again through the gateway to make it whole",
        )
        for name in _some(details, "edited")
    ]
    return findings


def _some(details: Mapping[str, Any], name: str) -> list[Any]:
    found = details.get(name)
    return list(found)[:_SHOWN] if isinstance(found, list | tuple) else []


def _lock(subject: str, place: Path) -> list[Finding]:
    """Say who holds a directory that takes one writer: its lock file is signed."""
    lock = place / ".lock"
    if not place.is_dir() or not lock.is_file():
        return []
    try:
        holder = json.loads(lock.read_bytes())
        who = f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return [
            warn(f"{subject}: lock", f"{lock} cannot be read or is not signed", f"check who may read {lock}")
        ]
    return [ok(f"{subject}: lock", f"last locked for writing by {who}")]


async def _clock(session: Session, store: Store) -> list[Finding]:
    """Check that nothing was written in the future: such rows win against what bots write now."""
    ahead = session.configuration.settings.clock_max_ahead
    for kind in session.registry.kinds:
        if kind.shape is not Shape.LOG:
            continue
        for row in await store.query(Query(kind, session.tenant, descending=True, limit=1)):
            written = version_time(row.version)
            if (written - datetime.now(UTC)).total_seconds() > ahead:
                return [
                    fail(
                        f"store {store.name}: clock",
                        f"{kind.name} holds a row written at {written.isoformat()}, which is in the future",
                        "set this machine's clock right, or find the machine whose clock was wrong",
                    )
                ]
    return [ok(f"store {store.name}: clock", "no log's latest row was written in the future")]


def _closely(session: Session, config: StoreConfig) -> list[Finding]:
    """Let the backend look at its store; that it fails is a finding too."""
    if config.spec.examine is None:
        return []
    try:
        context = open_context(session.configuration, config, tuple(session.registry.kinds), read_only=True)
        return list(config.spec.examine(context))
    except GatewayError as error:
        return [fail(f"store {config.instance}: a close look", str(error), "")]


def _schema(session: Session, config: StoreConfig) -> list[Finding]:
    if Capability.SCHEMA not in config.spec.capabilities:
        return []
    subject = f"store {config.instance}: schema"
    try:
        problems = schema_of(session, config).check()
    except (StoreError, CapabilityError) as error:
        return [fail(subject, str(error), "")]
    return [fail(subject, problem, "") for problem in problems] or [
        ok(subject, "is what the registered kinds need")
    ]
