"""Numbers: what one opened gateway calls the steps that it writes, so that they can be acknowledged in stretches."""

from __future__ import annotations

import secrets

__all__ = ["Numbers"]


class Numbers:
    """Counts the steps of one gateway.

    Nothing of it is stored: the owner is drawn anew each time a gateway is opened, so that counting can begin at 1.

    Args:
        owner: Whose numbers; drawn at random by default.

    Attributes:
        owner: Whose numbers.
    """

    __slots__ = ("_next", "owner")

    def __init__(self, owner: str | None = None) -> None:
        self.owner = owner or secrets.token_hex(8)
        self._next = 1

    def __repr__(self) -> str:
        return f"<Numbers {self.owner} next={self._next}>"

    @property
    def upcoming(self) -> int:
        """The number of the next step."""
        return self._next

    def take(self, count: int) -> int:
        """Return the first of so many numbers in a row, none of which was given out before."""
        first = self._next
        self._next = first + count
        return first
