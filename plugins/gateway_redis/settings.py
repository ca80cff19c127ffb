"""Settings of the Redis cache."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_serializer

from gateway.backend import BackendSettings
from gateway.errors import ConfigurationError
from gateway.upkeep import Endpoint
from gateway_redis.address import Address, Login, parse_address
from gateway_redis.tls import Mode, tls_of

__all__ = ["RedisSettings"]

Seconds = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]


class RedisSettings(BackendSettings):
    """Settings, each read from `STORAGE_<INSTANCE>_<FIELD>`.

    Attributes:
        url: `redis://user:password@host:6379/0`; `rediss://` for TLS; `redis+sentinel://host1,host2/service/0`;
            `redis+cluster://host1,host2`; `redis+unix:///run/redis.sock?db=0`.
        username: The ACL user, if the URL has none.
        password: The password, if the URL has none.
        sentinel_username: As whom to connect to sentinels, if they ask.
        sentinel_password: Its password.
        tls: With `rediss://`: `verify-full`, `verify-ca`, or `require`, which trusts anybody who answers.
        tls_ca: File of the authorities to trust, or `system` for those that this machine trusts.
        tls_cert: File of a client certificate.
        tls_key: File of its key.
        key_prefix: How keys on the server begin. Fleets that share a server need different ones.
        connect_timeout: Seconds that connecting may take.
        command_timeout: Seconds without an answer after which the connection is given up. How long a bot waits for
            an answer is the gateway's own, much shorter patience.
    """

    username: str | None = None
    password: SecretStr | None = None
    sentinel_username: str | None = None
    sentinel_password: SecretStr | None = None
    tls: Mode = "verify-full"
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    key_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,40}$")] = "sg"
    connect_timeout: Seconds = 2.0
    command_timeout: Seconds = 1.0

    @field_serializer("password", "sentinel_password", when_used="json")
    def _reveal(self, value: SecretStr | None) -> str | None:
        """Write settings down as they are: what is written down is read again, by another process of ours."""
        return None if value is None else value.get_secret_value()

    def address(self) -> Address:
        """Return where the servers are, and as whom to connect.

        Raises:
            ConfigurationError: There is no URL, or it cannot be used.
        """
        if not self.url:
            raise ConfigurationError(
                "a Redis cache needs an address: set STORAGE_REDIS_URL (or STORAGE_<INSTANCE>_URL) to "
                "redis://user:password@host:6379/0"
            )
        return parse_address(
            self.url,
            Login(self.username, _secret(self.password)),
            Login(self.sentinel_username, _secret(self.sentinel_password)),
            tls_of(self.tls, ca=self.tls_ca, cert=self.tls_cert, key=self.tls_key),
        )

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return where the address leads; nothing while there is no URL.

        Raises:
            ConfigurationError: The URL cannot be used, or contradicts another setting.
        """
        return self.address().endpoints() if self.url else ()


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()
