"""Connections of the operator's commands: synchronous, one at a time, and closed when the command is done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import psycopg

from gateway.backend import OpenContext
from gateway.errors import ConfigurationError, StoreError
from gateway.records.kind import KindSpec
from gateway.sql.dialect import POSTGRES
from gateway_postgres.address import Address
from gateway_postgres.errors import translate
from gateway_postgres.settings import PostgresSettings

__all__ = ["Link", "PgConnection", "blinded", "connected", "settings_in"]

PgConnection = psycopg.Connection[tuple[Any, ...]]

_VISIBLE: Final = """
SELECT t.name,
       NOT row_security_active(t.name::regclass)
       OR (EXISTS (SELECT FROM pg_policy p
                    WHERE p.polrelid = t.name::regclass AND p.polpermissive AND p.polcmd IN ('*', 'r')
                      AND pg_get_expr(p.polqual, p.polrelid) = 'true'
                      AND EXISTS (SELECT FROM unnest(p.polroles) r
                                   WHERE r = 0 OR pg_has_role(current_user, r, 'USAGE')))
           AND NOT EXISTS (SELECT FROM pg_policy p
                            WHERE p.polrelid = t.name::regclass AND NOT p.polpermissive
                              AND EXISTS (SELECT FROM unnest(p.polroles) r
                                           WHERE r = 0 OR pg_has_role(current_user, r, 'USAGE'))))
  FROM unnest(%s::text[]) AS t (name)
 WHERE to_regclass(t.name) IS NOT NULL
 ORDER BY t.name
"""


@dataclass(frozen=True, slots=True)
class Link:
    """What a command needs to reach a store.

    Attributes:
        instance: Name of the store, for errors.
        address: Where, and as whom.
        settings: The store's settings.
    """

    instance: str
    address: Address
    settings: PostgresSettings


def settings_in(context: OpenContext) -> PostgresSettings:
    """Return the settings that a context holds.

    Raises:
        ConfigurationError: They are another backend's.
    """
    if not isinstance(context.settings, PostgresSettings):
        raise ConfigurationError("the postgres backend is opened with PostgresSettings")
    return context.settings


@contextmanager
def connected(
    context: OpenContext, *, bot: bool = False, timeout: float | None = None
) -> Iterator[PgConnection]:
    """Connect for the time of the body, in autocommit mode.

    Args:
        context: Names the server and the logins.
        bot: As the bot does; by default as the operator, by `admin_url` if there is one.
        timeout: Seconds that connecting may take; by default as set for the store.

    Raises:
        ConfigurationError: There is no URL, or it cannot be used.
        StoreError: The server cannot be reached or refuses, or a statement of the body fails.
    """
    settings = settings_in(context)
    address = settings.address() if bot else settings.admin_address()
    wait = settings.connect_timeout if timeout is None else timeout
    with _translated(context.instance, address.user):
        connection = psycopg.connect(
            **address.psycopg_arguments(),
            connect_timeout=max(1, round(wait)),
            application_name=address.application or f"storage-gateway {context.instance} operator",
            autocommit=True,
            # Statements prepared by name are lost behind a pooler.
            prepare_threshold=None,
        )
        with connection:
            yield connection


def blinded(connection: PgConnection, kinds: Sequence[KindSpec]) -> list[str]:
    """Return the tables of kinds of which row security hides rows from this login: it shows nothing wrong, and less."""
    names = [POSTGRES.table(kind) for kind in kinds]
    return [name for name, seen in connection.execute(_VISIBLE, (names,)) if not seen]


@contextmanager
def _translated(instance: str, user: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        error.backend = error.backend or instance
        raise
    except psycopg.Error as error:
        found = translate(error, instance, user=user)
        # What follows the first line may quote values of rows, and would stand in every traceback.
        error.args = tuple(str(error).splitlines()[:1])
        raise found from error
