"""A close look at a PostgreSQL store for `gateway doctor`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from gateway.backend import OpenContext
from gateway.errors import ConfigurationError, StoreError
from gateway.findings import Finding, Level, fail
from gateway_postgres.diagnosis import judge_login, judge_upkeep
from gateway_postgres.facts import gather_login, gather_upkeep
from gateway_postgres.operators import connected, settings_in

__all__ = ["examine"]


def examine(context: OpenContext) -> list[Finding]:
    """Return what a close look found, first as the bot's login, then as the operator's.

    A server that cannot be reached is a finding, and nothing is changed.
    """
    subject = f"store {context.instance}"
    found = [*_as_bot(context, subject)]
    if found[0].level is Level.FAIL and not settings_in(context).admin_url:
        return found  # there is no other way in, and trying again would take as long again
    return [*found, *_as_operator(context, subject)]


def _as_bot(context: OpenContext, subject: str) -> Iterator[Finding]:
    began = time.monotonic()
    try:
        settings = settings_in(context)
        with connected(context, bot=True) as connection:
            login = gather_login(connection, began, context.kinds, settings.role_prefix)
        yield from judge_login(subject, login, settings.pool(), production=context.production)
    except (StoreError, ConfigurationError) as error:
        yield fail(f"{subject}: reachable", str(error), "")


def _as_operator(context: OpenContext, subject: str) -> Iterator[Finding]:
    try:
        with connected(context) as connection:
            upkeep = gather_upkeep(connection, context.kinds)
        yield from judge_upkeep(subject, upkeep, settings_in(context).pool(), datetime.now(UTC))
    except (StoreError, ConfigurationError) as error:
        yield fail(f"{subject}: the operator's login", str(error), "")
