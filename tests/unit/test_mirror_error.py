"""What the error about a failed mirror advises."""

from __future__ import annotations

from gateway.answers import Ack
from gateway.errors import MirrorWriteError, StoreUnavailableError


def test_the_advice_names_the_direction() -> None:
    """After a cutover the new store is the primary, and the copy has to go to the old one."""
    ack = Ack("events", ("e",), "e", 1, "sqlite")
    text = str(MirrorWriteError(ack, {"json": StoreUnavailableError("down", backend="json")}))
    assert "`gateway copy --from sqlite --to json`, then `gateway verify`" in text
    assert "stop the bot for it, or let the bot write the key again" in text
