"""Clients of the makers of QuestDB: many new ones in a short time are no reason for a write to fail."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from questdb import Sender

from gateway.errors import StoreError
from gateway_questdb.senders import Senders

pytestmark = pytest.mark.anyio
NOWHERE = "http::addr=127.0.0.1:1;protocol_version=2;retry_timeout=0;"


def refuse(sender: Sender) -> None:
    """Fail as a request does, so that the client is thrown away."""
    raise OSError(f"{sender} reaches nobody")


async def test_many_new_clients_are_no_warning() -> None:
    """The client warns of them; here, as in programs that turn warnings into errors, a write would fail."""
    senders = Senders(NOWHERE, 4, "questdb")
    try:
        for _ in range(200):
            with contextlib.suppress(StoreError, OSError):
                await asyncio.wait_for(senders.run(refuse), 10)
    finally:
        senders.close()
