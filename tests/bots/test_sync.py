"""The blocking gateway, for bots without an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path

import pytest

from gateway import Gateway, InvalidRecordError, SyncGateway
from gateway.errors import GatewayClosedError, StoreCorruptError
from gateway.sync import SyncGateway as SyncClass


def opened(directory: Path) -> SyncGateway:
    """Return a blocking gateway on SQLite, not open yet."""
    return SyncGateway("sqlite", data_dir=directory, environ={}, env_file=None)


def test_a_bot_without_a_loop_trades(tmp_path: Path) -> None:
    """Every call waits for its answer; what was stored is there after reopening."""
    with opened(tmp_path) as gateway:
        ack = gateway.insert_trade(market_name="BTC", action="buy", side="YES", price=0.28, amount=1)
        assert ack.primary == "sqlite"
        gateway.buffer_snapshot(condition_id="c", best_ask_yes=0.5)
    with opened(tmp_path) as gateway:
        assert [trade.record_id for trade in gateway.get_trades()] == [ack.record_id]
        assert len(gateway.get_snapshots("c")) == 1
        assert len(list(gateway.stream("trades"))) == 1


@pytest.mark.anyio
async def test_it_works_from_inside_a_running_loop(tmp_path: Path) -> None:
    """Called in a coroutine it blocks that loop and answers; it does not fail or wait for ever."""
    with opened(tmp_path) as gateway:
        gateway.insert_trade(market_name="BTC", action="buy", side="YES", price=1, amount=1)
        assert len(gateway.get_trades()) == 1
        assert asyncio.get_running_loop().is_running()


def test_several_threads_share_one_gateway(tmp_path: Path) -> None:
    """Calls from many threads at once are all stored."""
    with opened(tmp_path) as gateway:

        def work(name: str) -> None:
            for _ in range(25):
                gateway.insert_trade(market_name=name, action="buy", side="YES", price=1, amount=1)

        threads = [threading.Thread(target=work, args=(f"M{at}",)) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(gateway.get_trades(limit=None)) == 200


def test_errors_reach_the_caller(tmp_path: Path) -> None:
    """The same errors as in the asynchronous form, raised where the call was made."""
    with (
        opened(tmp_path) as gateway,
        pytest.raises(InvalidRecordError, match="price: must be a finite number"),
    ):
        gateway.insert_trade(market_name="BTC", action="buy", side="YES", price=float("nan"), amount=1)


def test_closed_it_refuses_and_can_be_opened_again(tmp_path: Path) -> None:
    """Before open and after close every call raises; closing twice is fine."""
    gateway = opened(tmp_path)
    with pytest.raises(GatewayClosedError, match="not open"):
        gateway.get_trades()
    gateway.open()
    gateway.close()
    gateway.close()
    with pytest.raises(GatewayClosedError):
        gateway.flush()
    gateway.open()
    assert gateway.get_trades() == []
    gateway.close()


def test_it_has_every_call_of_the_asynchronous_gateway() -> None:
    """No public call of Gateway is missing here, and each has the same parameters."""
    own = {"plan", "engine", "buffer", "configuration", "counters", "plugin_manager"}
    for name, call in inspect.getmembers(Gateway):
        if name.startswith("_") or name in own:
            continue
        assert hasattr(SyncClass, name), name
        if name not in {"open", "close", "stream"}:
            assert inspect.getdoc(getattr(SyncClass, name)) == inspect.getdoc(call), name


def test_a_failed_open_leaves_no_thread(tmp_path: Path) -> None:
    """When a store cannot be opened, the error is raised and the gateway's thread is gone."""
    (tmp_path / "gateway.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(StoreCorruptError, match="damaged or is no SQLite database; it was left as it is"):
        opened(tmp_path).open()
    assert "storage gateway" not in {thread.name for thread in threading.enumerate()}
