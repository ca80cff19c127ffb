"""`gateway health`: what a probe needs to know, in the time that a probe has."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

BLOCKED = """
import sys, threading
import gateway_sqlite.plugin as module
from gateway.cli.app import run

module._prepare = lambda *_: threading.Event().wait()
sys.argv[0] = "gateway"
sys.exit(run())
"""
"""The command line where opening SQLite never returns from the system, as on a network disk that went away."""


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_all_well(workplace: Any) -> None:
    """Exit code 0, and one document with each store's own answer and how long it took."""
    workplace.fill("json,sqlite")
    done = workplace.run("--backends", "json,sqlite", "health", "--json")
    assert done.code == 0
    found = done.json
    assert found["ok"] is True
    assert abs(datetime.fromisoformat(found["checked_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert [(one["name"], one["ok"]) for one in found["stores"]] == [("json", True), ("sqlite", True)]
    for one in found["stores"]:
        assert 0 < one["latency_ms"] < 5250
        assert one["summary"]
    assert found["stores"][1]["details"]["schema_revision"]
    shown = workplace.run("--backends", "json,sqlite", "health").out
    assert "sqlite" in shown
    assert "ms" in shown


def test_one_store_that_is_down(workplace: Any) -> None:
    """Exit code 3, the sentence of the one that is down, the answer of the other, and nothing created."""
    workplace.fill("json")
    done = workplace.run("--backends", "json,sqlite", "health", "--json")
    assert done.code == 3
    assert done.json["ok"] is False
    json_store, sqlite_store = done.json["stores"]
    assert json_store["ok"] is True
    assert sqlite_store["ok"] is False
    assert "there is no store" in sqlite_store["summary"]
    assert not (workplace.path / "storage" / "gateway.db").exists()
    assert workplace.run("--backends", "json,sqlite", "health").code == 3


def test_a_server_that_answers(server_workplace: Any) -> None:
    """PostgreSQL is asked as the bot would ask it."""
    done = server_workplace.run("--backends", "postgres", "health", "--json")
    assert done.code == 0, done.out
    assert done.json["stores"][0]["details"]


def test_a_refused_login_is_down_and_shows_no_password(workplace: Any) -> None:
    """The sentence is for whoever reads the probe's log."""
    down = {"STORAGE_POSTGRES_URL": "postgresql://bot:s3cret@127.0.0.1:1/none"}
    done = workplace.run("--backends", "postgres", "health", "--json", env=down)
    assert done.code == 3
    assert "s3cret" not in done.out + done.err


def _timed(*command: str, **environ: str) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done, time.monotonic() - began


def test_a_server_that_never_answers_is_down_within_the_timeout(workplace: Any, silent_port: int) -> None:
    """However long connecting may take otherwise; the other store's answer is not held up."""
    workplace.fill("sqlite")
    done, seconds = _timed(
        "-m", "gateway.cli", "--backends", "sqlite,postgres", "health", "--timeout", "3", "--json",
        STORAGE_POSTGRES_URL=f"postgresql://bot:s3cret@127.0.0.1:{silent_port}/none",
        STORAGE_POSTGRES_CONNECT_TIMEOUT="60",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert seconds < 40
    sqlite_store, server = json.loads(done.stdout)["stores"]
    assert sqlite_store["ok"] is True
    assert sqlite_store["latency_ms"] < 3000
    assert server["ok"] is False
    assert "within 3 s" in server["summary"]
    assert 2900 < server["latency_ms"] < 10_000
    assert "s3cret" not in done.stdout + done.stderr


def test_a_store_that_cannot_be_interrupted_is_down_all_the_same(workplace: Any) -> None:
    """A system call that never returns keeps neither the answer nor the process."""
    workplace.fill("json,sqlite")
    done, seconds = _timed("-c", BLOCKED, "--backends", "json,sqlite", "health", "--timeout", "3", "--json")
    assert done.returncode == 3, done.stderr
    assert seconds < 40
    json_store, sqlite_store = json.loads(done.stdout)["stores"]
    assert json_store["ok"] is True
    assert sqlite_store["ok"] is False
    assert "within 3 s" in sqlite_store["summary"]


@pytest.mark.parametrize("timeout", ["0", "-1", "never", "nan", "100000"])
def test_a_timeout_that_is_none_is_refused(workplace: Any, timeout: str) -> None:
    """As wrong usage, before any store is asked."""
    assert workplace.run("health", "--timeout", timeout).code == 2
