"""TLS: what the driver is told."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from gateway.errors import ConfigurationError

__all__ = ["SYSTEM", "Mode", "Tls", "tls_of"]

Mode = Literal["require", "verify-ca", "verify-full"]
"""`require` encrypts, to whoever answers; `verify-ca` demands a certificate that a trusted authority has signed;
`verify-full` demands that it is the host's."""

SYSTEM: Final = "system"
"""Instead of a file: the authorities that this machine trusts, for servers with public certificates."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are protected.

    Attributes:
        mode: See `Mode`.
        ca: File of authorities to trust; None trusts those of this machine.
        cert: File of the client's certificate.
        key: File of its key.
    """

    mode: Mode = "verify-full"
    ca: str | None = None
    cert: str | None = None
    key: str | None = None

    @property
    def verified(self) -> bool:
        """Whether the server must prove who it is."""
        return self.mode != "require"

    def context(self) -> ssl.SSLContext:
        """Return what connections of ours are protected with.

        Raises:
            OSError: A file cannot be read, or is no certificate.
        """
        context = ssl.create_default_context(cafile=self.ca)
        context.check_hostname = self.mode == "verify-full"
        context.verify_mode = ssl.CERT_REQUIRED if self.verified else ssl.CERT_NONE
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        return context

    def arguments(self) -> dict[str, Any]:
        """Return the same as arguments of redis-py, which asks the sentinels."""
        return {
            "ssl_cert_reqs": "required" if self.verified else "none",
            "ssl_check_hostname": self.mode == "verify-full",
            "ssl_ca_certs": self.ca,
            "ssl_certfile": self.cert,
            "ssl_keyfile": self.key,
        }


def tls_of(mode: Mode, *, ca: str | None, cert: str | None, key: str | None) -> Tls:
    """Return how connections are protected if TLS is asked for.

    Raises:
        ConfigurationError: There is no such file, or the settings contradict each other.
    """
    if key is not None and cert is None:
        raise ConfigurationError("a TLS key is of no use without its certificate; set tls_cert too")
    for name, file in (("tls_ca", ca), ("tls_cert", cert), ("tls_key", key)):
        if file is not None and not (name == "tls_ca" and file == SYSTEM) and not Path(file).is_file():
            raise ConfigurationError(f"{name}: there is no file {file}; correct the path")
    return Tls(mode, None if ca == SYSTEM else ca, cert, key)
