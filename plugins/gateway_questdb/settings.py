"""Settings of the QuestDB backend."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_serializer

from gateway.backend import BackendSettings, OpenContext
from gateway.errors import ConfigurationError
from gateway.upkeep import Endpoint
from gateway_questdb.address import Address, parse_address

__all__ = ["QuestDbSettings", "settings_of"]

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Port = Annotated[int | None, Field(gt=0, lt=65536)]
Pool = Annotated[int, Field(ge=1, le=64)]


class QuestDbSettings(BackendSettings):
    """Settings, each read from `STORAGE_<INSTANCE>_<FIELD>`.

    Attributes:
        url: `questdb://user:password@host:9000?pg_port=8812`; `https://` where HTTP is encrypted. What it leaves
            open is taken from the settings below.
        pg_port: Port of the PostgreSQL protocol, by which rows are read; 8812 unless the URL or this says otherwise.
        user: Who connects; `admin` unless the URL or this says otherwise.
        password: Their password.
        token: A bearer token with which rows are written over HTTP, instead of the password.
        tls: Whether HTTP is encrypted; `https://` in the URL says the same.
        pg_tls: Whether the PostgreSQL protocol is encrypted; as HTTP unless this says otherwise.
        tls_verify: Whether the server must prove that it is the one meant.
        tls_ca: File of the authorities to trust; those that this machine trusts by default.
        table_prefix: What the names of all tables begin with, so that several gateways can share a server.
        partition_by: How much time one partition of a table holds. What is removed by age goes by whole partitions.
        senders: Requests that may be under way at once to write, one for each table of a batch.
        readers: Connections to read with.
        request_rows: Rows of one request at most; a batch of more is several transactions.
        request_timeout: Seconds that writing one request may take.
        retry_seconds: Seconds for which a request is repeated that the server could not take. A repeated row is one
            row.
        connect_timeout: Seconds that connecting may take.
        command_timeout: Seconds that one query may take.
        wait_seconds: Seconds for which a read waits until what was acknowledged before it can be read.
        read_your_writes: Whether reads wait at all. Without it they are faster, and may miss what was written just
            before.
        auto_schema: Create and extend tables when opening. Without it, an outdated schema is refused.
    """

    pg_port: Port = None
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    tls: bool | None = None
    pg_tls: bool | None = None
    tls_verify: bool = True
    tls_ca: str | None = None
    table_prefix: Annotated[str, Field(pattern=r"^([a-z][a-z0-9_]{0,30})?$")] = ""
    partition_by: Literal["HOUR", "DAY", "WEEK", "MONTH", "YEAR"] = "DAY"
    senders: Pool = 4
    readers: Pool = 4
    request_rows: Annotated[int, Field(ge=1, le=1_000_000)] = 50_000
    request_timeout: Seconds = 30.0
    retry_seconds: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 5.0
    connect_timeout: Seconds = 10.0
    command_timeout: Seconds = 60.0
    wait_seconds: Seconds = 30.0
    read_your_writes: bool = True
    auto_schema: bool = True

    @field_serializer("password", "token", when_used="json")
    def _reveal(self, value: SecretStr | None) -> str | None:
        """Write settings down as they are: what is written down is read again, by another process of ours."""
        return None if value is None else value.get_secret_value()

    def address(self) -> Address:
        """Return where the server is, and as whom to connect.

        Raises:
            ConfigurationError: There is no URL, or it cannot be used.
        """
        if not self.url:
            raise ConfigurationError(
                "a QuestDB store needs an address: set STORAGE_QUESTDB_URL (or STORAGE_<INSTANCE>_URL) to "
                "questdb://user:password@host:9000?pg_port=8812"
            )
        return parse_address(
            self.url,
            pg_port=self.pg_port,
            user=self.user,
            password=None if self.password is None else self.password.get_secret_value(),
            token=None if self.token is None else self.token.get_secret_value(),
            tls=self.tls,
            pg_tls=self.pg_tls,
            verify=self.tls_verify,
            ca=self.tls_ca,
        )

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return where both protocols lead; nothing while there is no URL.

        Raises:
            ConfigurationError: The URL cannot be used.
        """
        return self.address().endpoints() if self.url else ()


def settings_of(context: OpenContext) -> QuestDbSettings:
    """Return the settings in a context.

    Raises:
        ConfigurationError: They are another backend's.
    """
    if not isinstance(context.settings, QuestDbSettings):
        raise ConfigurationError("the questdb backend is opened with QuestDbSettings")
    return context.settings
