"""Which share of the reads of each kind is compared: the grammar of `STORAGE_SHADOW_SAMPLE`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import ConfigurationError
from gateway.records.kind import NAME_PATTERN

__all__ = ["DEFAULT_SHARE", "SampleRates", "parse_rates", "rates_text"]

DEFAULT_SHARE: Final = 0.01
"""Share of kinds that nobody named where no share for all is given either."""
_EXAMPLE: Final = "1%,trades:100%,order_book_snapshots:0"


@dataclass(frozen=True, slots=True)
class SampleRates:
    """Shares of reads, 0 to 1.

    Attributes:
        default: That of kinds which are not named.
        kinds: Those of named kinds.
    """

    default: float = DEFAULT_SHARE
    kinds: Mapping[str, float] = field(default_factory=dict)

    def of(self, kind: str) -> float:
        """Return the share of a kind, by its name."""
        return self.kinds.get(kind, self.default)


def parse_rates(text: str) -> SampleRates:
    """Read `1%,trades:100%,order_book_snapshots:0`: a share for all kinds, and kinds with shares of their own.

    Raises:
        ConfigurationError: The text is no such list, a share is not between 0 and 1, or something is named twice.
    """
    shares: dict[str, float] = {}
    for part in filter(None, (item.strip() for item in text.split(","))):
        name, colon, share = part.rpartition(":")
        name = name.strip()
        if colon and not NAME_PATTERN.match(name):
            raise ConfigurationError(f"{part!r} names no record kind; write it as in {_EXAMPLE}")
        if name in shares:
            twice = f"names {name!r} twice" if name else "gives two shares for all kinds"
            raise ConfigurationError(f"{text!r} {twice}; keep one of them")
        shares[name] = _share(share)
    default = shares.pop("", DEFAULT_SHARE)
    return SampleRates(default, shares)


def _share(text: str) -> float:
    written = text.strip()
    try:
        share = float(written.removesuffix("%")) / (100 if written.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:  # nor NaN
        raise ConfigurationError(
            f"{written!r} is no share; it must be a number between 0 and 1, or a percentage such as 5%"
        )
    return share


def rates_text(rates: SampleRates) -> str:
    """Return rates as `parse_rates` reads them, the share for all kinds first."""
    named = (f"{name}:{share:g}" for name, share in rates.kinds.items())
    return ",".join((f"{rates.default:g}", *named))
