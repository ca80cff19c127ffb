"""Exporters: what Prometheus scrapes, and what a collector gets, over real HTTP."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from prometheus_client.parser import text_string_to_metric_families

from gateway import Gateway
from gateway.errors import ConfigurationError, GatewayError

pytestmark = pytest.mark.anyio
TRADE: dict[str, Any] = {
    "market_name": "BTC",
    "condition_id": "c",
    "action": "buy",
    "side": "YES",
    "price": 0.5,
    "amount": 1,
}


def _gateway(directory: Path, **settings: Any) -> Gateway:
    stores = f"old=sqlite:{directory / 'old.db'},new=sqlite:{directory / 'new.db'}"
    return Gateway(stores, data_dir=directory, environ={}, env_file=None, **settings)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _scraped(port: int) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return what the page says: samples by name, each by its labels that are not empty."""

    def get() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read(), "utf-8")

    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(await asyncio.to_thread(get)):
        for sample in family.samples:
            labels = tuple(sorted((name, value) for name, value in sample.labels.items() if value))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


async def test_prometheus_scrapes_what_was_done(tmp_path: Path) -> None:
    """Calls, calls to stores, rows, errors, queues and mirrors are on the page, and gone when the gateway is."""
    port = _free_port()
    settings: dict[str, Any] = {"telemetry": "prometheus", "telemetry_port": port, "journal_rows": 1_234}
    async with _gateway(tmp_path, **settings) as gateway:
        for _ in range(3):
            await gateway.insert_trade(**TRADE)
        with pytest.raises(GatewayError):
            await gateway.query("trades", limit=-1)
        assert gateway._mirrors is not None
        await gateway._mirrors.feed("old", "new").flush()
        found = await _scraped(port)
        operation, pair = (
            "gateway_operation",
            (("gateway_store_mirror", "new"), ("gateway_store_primary", "old")),
        )
        insert = ((operation, "insert_trade"),)
        assert found["gateway_operations_total"][insert] >= 3
        assert found["gateway_operation_duration_seconds_count"][insert] >= 3
        assert found["gateway_operation_duration_seconds_bucket"][(*insert, ("le", "+Inf"))] >= 3
        failed = (("error_type", "InvalidRecordError"), (operation, "query"))
        assert found["gateway_operations_total"][failed] >= 1
        write = (("db_operation_name", "write"), ("db_system_name", "sqlite"), ("gateway_store", "old"))
        assert found["gateway_store_calls_total"][write] >= 3
        assert found["db_client_operation_duration_seconds_sum"][write] > 0
        assert found["gateway_batch_rows_sum"][(("gateway_store", "new"),)] >= 3
        assert found["gateway_mirror_up"][pair] == 1
        assert found["gateway_journal_limit"][pair] == 1_234
        assert found["gateway_mirror_lag_seconds"][pair] > 0
        assert found["gateway_lane_depth"][(("gateway_store", "old"),)] == 0
    with pytest.raises(OSError, match="refused"):
        await _scraped(port)


async def test_gateways_of_one_process_share_the_page(tmp_path: Path) -> None:
    """Two gateways with the same port are one page, which is served until the last of them is closed."""
    port, totals = _free_port(), "gateway_rows_written_total"
    settings: dict[str, Any] = {"telemetry": "prometheus", "telemetry_port": port}
    async with Gateway("memory", data_dir=tmp_path, environ={}, env_file=None, **settings) as first:
        before = (await _scraped(port))[totals][()]
        async with Gateway("memory", data_dir=tmp_path, environ={}, env_file=None, **settings) as second:
            await asyncio.gather(first.insert_trade(**TRADE), second.insert_trade(**TRADE))
        assert (await _scraped(port))[totals][()] == before + 2


async def test_a_port_that_is_taken_keeps_no_bot_from_trading(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another process may have the port: that is logged, and the gateway opens all the same."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with caplog.at_level(logging.WARNING):
            async with _gateway(tmp_path, telemetry="prometheus", telemetry_port=port) as gateway:
                await gateway.insert_trade(**TRADE)
    assert "STORAGE_TELEMETRY_PORT" in caplog.text


class _Receiver:
    """A collector: an HTTP server that takes OTLP.

    Attributes:
        spans: The names of the spans it got, each with the service's name.
        metrics: The names of the metrics it got.
        headers: Of the requests, the one with the key.
        raw: Their bodies.
        told_of_mirrors: Set once it got what is the case with mirrors.
    """

    def __init__(self) -> None:
        self.spans: list[tuple[str, str]] = []
        self.metrics: set[str] = set()
        self.headers: list[str | None] = []
        self.raw: list[bytes] = []
        self.told_of_mirrors = threading.Event()

    def take(self, path: str, body: bytes, header: str | None) -> bytes:
        """Take one request."""
        self.headers.append(header)
        self.raw.append(body)
        if path == "/base/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            for resource in traces.resource_spans:
                service = {one.key: one.value.string_value for one in resource.resource.attributes}[
                    "service.name"
                ]
                names = [span.name for scope in resource.scope_spans for span in scope.spans]
                self.spans += [(service, name) for name in names]
            return bytes(ExportTraceServiceResponse().SerializeToString())
        assert path == "/base/v1/metrics", path
        metrics = ExportMetricsServiceRequest.FromString(body)
        scopes = [scope for resource in metrics.resource_metrics for scope in resource.scope_metrics]
        self.metrics |= {metric.name for scope in scopes for metric in scope.metrics}
        if "gateway.mirror.up" in self.metrics:
            self.told_of_mirrors.set()
        return bytes(ExportMetricsServiceResponse().SerializeToString())


@contextmanager
def _collector() -> Iterator[tuple[str, _Receiver]]:
    receiver = _Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = receiver.take(self.path, body, self.headers.get("X-Key"))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class calls it
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/base/", receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize(
    ("variables", "given", "name"),
    [
        ({}, {}, "storage-gateway"),
        ({"OTEL_SERVICE_NAME": "ours"}, {}, "ours"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs"}, {}, "theirs"),
        ({"OTEL_SERVICE_NAME": "ours"}, {"telemetry_service": "bot-7"}, "bot-7"),
    ],
)
async def test_the_service_is_named_by_whoever_named_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    given: dict[str, str],
    name: str,
) -> None:
    """OpenTelemetry's own variables name it where the gateway's does not."""
    for variable in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in {"OTEL_EXPORTER_OTLP_COMPRESSION": "none", **variables}.items():
        monkeypatch.setenv(variable, value)
    options: dict[str, Any] = {"telemetry": "otlp", "telemetry_sample": 1, **given}
    with _collector() as (url, receiver):
        async with _gateway(tmp_path, telemetry_endpoint=url, **options) as gateway:
            await gateway.insert_trade(**TRADE)
    assert {service for service, _ in receiver.spans} == {name}


async def test_a_collector_gets_traces_and_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With otlp a bot needs no OpenTelemetry of its own; what is left is sent when the gateway closes."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=hunter2")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    settings: dict[str, Any] = {
        "telemetry": "otlp",
        "telemetry_service": "bot-7",
        "telemetry_sample": 1,
        "telemetry_seconds": 0.1,
    }
    with _collector() as (url, receiver):
        async with _gateway(tmp_path, telemetry_endpoint=url, **settings) as gateway:
            await gateway.insert_trade(**TRADE)
            await gateway.get_trades()
            assert await asyncio.to_thread(receiver.told_of_mirrors.wait, 30)
    assert {("bot-7", name) for name in ("gateway.insert_trade", "gateway.batch", "write trades")} <= set(
        receiver.spans
    )
    assert {
        "gateway.operations",
        "db.client.operation.duration",
        "gateway.lane.depth",
        "gateway.journal.depth",
        "gateway.comparisons",
    } <= receiver.metrics
    assert set(receiver.headers) == {"hunter2"}
    assert not any(b"hunter2" in body for body in receiver.raw)


async def test_a_collector_that_is_away_keeps_no_bot_waiting(tmp_path: Path) -> None:
    """Calls succeed, and closing takes no longer than its bound."""
    settings: dict[str, Any] = {
        "telemetry_endpoint": f"http://127.0.0.1:{_free_port()}",
        "telemetry_sample": 1,
    }
    gateway = _gateway(tmp_path, telemetry="otlp", **settings)
    await gateway.open()
    await gateway.insert_trade(**TRADE)
    async with asyncio.timeout(30):
        await gateway.close()


async def test_a_password_in_the_endpoint_is_refused(tmp_path: Path) -> None:
    """It would show up in logs and traces; the refusal does not repeat it."""
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_HEADERS") as caught:
        _gateway(tmp_path, telemetry="otlp", telemetry_endpoint="https://bot:hunter2@collector.example.com")
    assert "telemetry_endpoint" in str(caught.value)
    assert "hunter2" not in str(caught.value)
