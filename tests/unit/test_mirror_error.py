"""What the error about a failed mirror advises."""

from __future__ import annotations

from gateway.answers import Ack
from gateway.errors import MirrorWriteError, StoreUnavailableError


def test_the_advice_names_both_stores_and_what_to_look_at() -> None:
    """Which store has the write, which has not, and that nobody has to bring it over."""
    ack = Ack("events", ("e",), "e", 1, "sqlite")
    text = str(MirrorWriteError(ack, {"json": StoreUnavailableError("down", backend="json")}))
    assert "sqlite has the write, but a mirror failed: json: down" in text
    assert "once json is back, it gets the write by itself; `gateway mirror status`" in text
