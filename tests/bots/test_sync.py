"""The blocking gateway, for bots without an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway import Gateway, InvalidRecordError, SyncGateway
from gateway.errors import GatewayClosedError, StoreCorruptError
from gateway.hookspecs import BackendCall, hookimpl
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


def hammer(gateway: SyncGateway, began: threading.Event, ended: list[object]) -> None:
    """Insert trades until the gateway refuses; keep every ack and the error that ended it."""
    while True:
        try:
            ack = gateway.insert_trade(market_name="BTC", action="buy", side="YES", price=1, amount=1)
        except BaseException as error:  # noqa: BLE001 - the test looks at whatever ended the thread
            ended.append(error)
            return
        ended.append(ack.record_id)
        began.set()


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_closing_strands_no_thread(tmp_path: Path, store: str) -> None:
    """Threads that insert while another closes all end, with acks that hold and then GatewayClosedError."""
    gateway = SyncGateway(store, data_dir=tmp_path, environ={}, env_file=None).open()
    ends: list[list[object]] = [[] for _ in range(6)]
    began = [threading.Event() for _ in ends]
    threads = [
        threading.Thread(target=hammer, args=(gateway, *pair), daemon=True)
        for pair in zip(began, ends, strict=True)
    ]
    for thread in threads:
        thread.start()
    assert all(event.wait(10) for event in began)
    gateway.close()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert {type(end[-1]) for end in ends} == {GatewayClosedError}
    if store == "sqlite":
        with opened(tmp_path) as again:
            stored = {trade.record_id for trade in again.get_trades(limit=None)}
        assert {one for end in ends for one in end[:-1]} <= stored


class Hanging:
    """A plugin whose store answers no query until it is cancelled."""

    def __init__(self) -> None:
        self.reached = threading.Event()

    @hookimpl
    def gateway_wrap(self, call: BackendCall) -> object:
        """Wrap the queries."""
        return self._hang() if call.hook == "gateway_query" else None

    @asynccontextmanager
    async def _hang(self) -> AsyncIterator[None]:
        self.reached.set()
        await asyncio.Event().wait()
        yield


def test_a_call_that_hangs_ends_when_the_gateway_closes(tmp_path: Path) -> None:
    """A thread whose store never answers gets GatewayClosedError from close, and not silence."""
    hanging = Hanging()
    gateway = SyncGateway(
        "memory", data_dir=tmp_path, environ={}, env_file=None, plugins=[hanging], timeout=300
    ).open()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            gateway.get_trades()
        except BaseException as error:  # noqa: BLE001 - the test looks at whatever ended the thread
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert hanging.reached.wait(10)
    gateway.close()
    thread.join(10)
    assert [type(error) for error in errors] == [GatewayClosedError]


def test_threads_that_open_and_close_take_turns(tmp_path: Path) -> None:
    """Opening and closing from several threads at once raises nothing and leaves no thread behind."""
    gateway = opened(tmp_path)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(3):
                gateway.open()
                gateway.close()
        except BaseException as error:  # noqa: BLE001 - the test looks at whatever ended the thread
            errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []
    assert "storage gateway" not in {thread.name for thread in threading.enumerate()}
    with gateway:
        assert gateway.get_trades() == []


def test_a_stream_does_not_outlive_its_gateway(tmp_path: Path) -> None:
    """A stream begun before closing says so after opening again; it does not seem to have come to its end."""
    gateway = opened(tmp_path).open()
    for _ in range(2):
        gateway.insert_trade(market_name="BTC", action="buy", side="YES", price=1, amount=1)
    trades = gateway.stream("trades")
    next(trades)
    gateway.close()
    gateway.open()
    with pytest.raises(GatewayClosedError):
        next(trades)
    gateway.close()


@pytest.mark.anyio
async def test_two_tasks_that_open_and_close_one_gateway_take_turns(tmp_path: Path) -> None:
    """Opened twice at once it is open once; closed twice at once both callers find it closed."""
    gateway = Gateway("memory,sqlite", data_dir=tmp_path, environ={}, env_file=None)
    assert set(await asyncio.gather(gateway.open(), gateway.open())) == {gateway}
    await gateway.insert_trade(market_name="BTC", action="buy", side="YES", price=1, amount=1)
    await asyncio.gather(gateway.close(), gateway.close())
    with pytest.raises(GatewayClosedError):
        await gateway.get_trades()
