"""TLS: the five modes of libpq, for both drivers."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from gateway.errors import ConfigurationError

__all__ = ["MODES", "SYSTEM", "Tls", "tls_of"]

MODES: Final = ("disable", "prefer", "require", "verify-ca", "verify-full")
"""From no protection to all of it. `prefer` encrypts if the server can, which an attacker in between can prevent;
`require` encrypts, to whoever answers; `verify-ca` demands a certificate that a trusted authority has signed;
`verify-full` demands that it is the host's."""

SYSTEM: Final = "system"
"""Instead of a file: the authorities that this machine trusts, for servers with public certificates."""

_ALIASES: Final = {"allow": "prefer", "true": "require", "false": "disable", "no": "disable"}


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are protected.

    Attributes:
        mode: One of `MODES`.
        ca: File of authorities to trust, or `system`; None takes libpq's `~/.postgresql/root.crt`.
        cert: File of the client's certificate, which can stand instead of a password.
        key: File of its key.
    """

    mode: str = "prefer"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @property
    def encrypted(self) -> bool:
        """Whether a connection in plain text is refused."""
        return self.mode not in {"disable", "prefer"}

    @property
    def verified(self) -> bool:
        """Whether the server must prove who it is."""
        return self.mode in {"verify-ca", "verify-full"}

    def dsn(self) -> str:
        """Return a URL that tells asyncpg the mode and the files, and nothing else."""
        files = {"sslrootcert": self.ca, "sslcert": self.cert, "sslkey": self.key}
        given = {name: value for name, value in files.items() if value is not None and value != SYSTEM}
        return f"postgresql://?{urlencode({'sslmode': self.mode, **given})}"

    def context(self) -> ssl.SSLContext | None:
        """Return what asyncpg cannot make itself: a context that trusts this machine's authorities.

        Raises:
            ConfigurationError: The client's certificate or its key cannot be used.
        """
        if self.ca != SYSTEM:
            return None
        made = ssl.create_default_context()
        made.check_hostname = self.mode == "verify-full"
        if self.cert is not None:
            try:
                # With a password, or whoever started the bot would be asked for that of an encrypted key.
                made.load_cert_chain(self.cert, self.key, password="")
            except OSError as error:
                raise ConfigurationError(
                    f"tls_cert {self.cert} and its key cannot be used ({error.strerror or type(error).__name__}); "
                    "both must be readable PEM files that belong together, the key without a password"
                ) from error
        return made

    def libpq_arguments(self) -> dict[str, Any]:
        """Return the same for psycopg."""
        given = {"sslmode": self.mode, "sslrootcert": self.ca, "sslcert": self.cert, "sslkey": self.key}
        return {name: value for name, value in given.items() if value is not None}


def tls_of(
    mode: str | None, *, ca: str | None = None, cert: str | None = None, key: str | None = None
) -> Tls:
    """Return how connections are protected.

    Args:
        mode: One of `MODES`; None means `prefer`, or `verify-full` with authorities to trust.
        ca: File of authorities, or `system`.
        cert: File of the client's certificate.
        key: File of its key.

    Raises:
        ConfigurationError: There is no such mode or no such file, or they contradict each other.
    """
    chosen = _ALIASES.get(mode or "", mode) or ("verify-full" if ca else "prefer")
    if chosen not in MODES:
        raise ConfigurationError(f"the TLS mode of a PostgreSQL store is one of {', '.join(MODES)}")
    if ca == SYSTEM and chosen != "verify-full":
        raise ConfigurationError(
            "this machine's authorities vouch for anybody's server, so tls_ca=system needs tls=verify-full"
        )
    if key is not None and cert is None:
        raise ConfigurationError("a TLS key is of no use without its certificate; set tls_cert too")
    for name, file in (("tls_ca", ca), ("tls_cert", cert), ("tls_key", key)):
        if file is not None and file != SYSTEM and not Path(file).is_file():
            raise ConfigurationError(f"{name}: there is no file {file}; correct the path")
    return Tls(chosen, ca, cert, key)
