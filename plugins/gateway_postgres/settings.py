"""Settings of the PostgreSQL backend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_serializer

from gateway.backend import BackendSettings
from gateway.errors import ConfigurationError
from gateway.upkeep import Endpoint
from gateway_postgres.address import Address, Login, parse_address
from gateway_postgres.profiles import PoolSize, profile_of, size_of

__all__ = ["PostgresSettings"]

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Mode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


class PostgresSettings(BackendSettings):
    """Settings, each read from `STORAGE_<INSTANCE>_<FIELD>`.

    Attributes:
        url: `postgresql://user:password@host:5432/database?sslmode=verify-full`. What it leaves open is taken
            from the settings below, then from libpq's variables (`PGHOST`, `PGUSER`, `PGPASSWORD`, `PGSSLMODE` …)
            and files (`~/.pgpass`). A socket is named by its directory: `postgresql:///database?host=/run/postgresql`.
        password: The password, if the URL has none.
        admin_url: As whom the operator's commands connect: the owner of the tables, a member of the admin role.
            The bot's own login may then be one that can neither change the schema nor see other tenants.
        admin_password: Its password, if that URL has none.
        tls: `disable`, `prefer`, `require`, `verify-ca` or `verify-full`; the URL's `sslmode` means the same.
        tls_ca: File of the authorities to trust, or `system` for those that this machine trusts.
        tls_cert: File of a client certificate.
        tls_key: File of its key.
        profile: How many connections: `persistent` (5 kept and 10 more to read, and one to write), `large` (10 and
            20), `serverless` (none kept), `pooler` (as persistent, behind a pooler); `auto` chooses between
            serverless and persistent by the environment.
        pool_size: Connections kept for reading, instead of the profile's number.
        max_overflow: Connections beyond those while they are needed, instead of the profile's number.
        pool_timeout: Seconds to wait for a free connection before `StoreBusyError`.
        pooler: Whether a pooler in transaction mode, such as PgBouncer, stands in front of the server; `auto` finds
            out.
        connect_timeout: Seconds that connecting may take, of several servers each.
        command_timeout: Seconds that one statement may take.
        auto_schema: Create and upgrade tables when opening. Without it, an outdated schema is refused.
        partitioning: `native` cuts logs into partitions by time, `timescale` makes them hypertables, `none` leaves
            them whole; `auto` is `timescale` where that extension is installed and `native` elsewhere.
        partition_interval: How much time one partition holds.
        partitions_ahead: How many partitions are made ahead of the current one.
        role_prefix: Group roles are called `<prefix>_app`, `<prefix>_readonly` and `<prefix>_admin`.
        statement_cache_size: Prepared statements kept a connection; behind a pooler none are.
    """

    password: SecretStr | None = None
    admin_url: str | None = None
    admin_password: SecretStr | None = None
    tls: Mode | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    profile: Literal["auto", "persistent", "large", "serverless", "pooler"] = "auto"
    pool_size: Annotated[int | None, Field(ge=0, le=1000)] = None
    max_overflow: Annotated[int | None, Field(ge=0, le=1000)] = None
    pool_timeout: Seconds = 10.0
    pooler: Literal["auto", "yes", "no"] = "auto"
    connect_timeout: Seconds = 10.0
    command_timeout: Seconds = 60.0
    auto_schema: bool = True
    partitioning: Literal["auto", "native", "timescale", "none"] = "auto"
    partition_interval: Literal["month", "week", "day"] = "month"
    partitions_ahead: Annotated[int, Field(ge=1, le=366)] = 3
    role_prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")] = "gateway"
    statement_cache_size: Annotated[int, Field(ge=0, le=10_000)] = 512

    @field_serializer("password", "admin_password", when_used="json")
    def _reveal(self, value: SecretStr | None) -> str | None:
        """Write settings down as they are: what is written down is read again, by another process of ours."""
        return None if value is None else value.get_secret_value()

    def address(self, environ: Mapping[str, str] | None = None) -> Address:
        """Return where the bot connects, and as whom.

        Raises:
            ConfigurationError: There is no URL, or it cannot be used.
        """
        if not self.url:
            raise ConfigurationError(
                "a PostgreSQL store needs an address: set STORAGE_POSTGRES_URL (or STORAGE_<INSTANCE>_URL, or "
                "DATABASE_URL) to postgresql://user:password@host:5432/database"
            )
        return parse_address(self.url, self._login(self.password), os.environ if environ is None else environ)

    def admin_address(self, environ: Mapping[str, str] | None = None) -> Address:
        """Return where the operator's commands connect, and as whom: by `admin_url`, or as the bot does.

        Raises:
            ConfigurationError: There is no URL, or it cannot be used.
        """
        if not self.admin_url:
            return self.address(environ)
        login = self._login(self.admin_password)
        return parse_address(self.admin_url, login, os.environ if environ is None else environ)

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return where both addresses lead; nothing while there is no URL.

        Raises:
            ConfigurationError: A URL cannot be used, or contradicts another setting.
        """
        if not self.url:
            return ()
        found = self.address().endpoints()
        return (*found, *self.admin_address().endpoints()) if self.admin_url else found

    def pool(self, environ: Mapping[str, str] | None = None) -> PoolSize:
        """Return how many connections there may be."""
        profile = profile_of(self.profile, os.environ if environ is None else environ)
        return size_of(profile, self.pool_size, self.max_overflow)

    def _login(self, password: SecretStr | None) -> Login:
        secret = None if password is None else password.get_secret_value()
        return Login(secret, self.tls, self.tls_ca, self.tls_cert, self.tls_key)
