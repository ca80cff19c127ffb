"""A workplace for tests of the command line: an empty directory, and the commands run in it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gateway import Gateway
from gateway.cli.app import make_app
from tests.prepared import environ_of
from tests.servers import Database

ALIASES = {"DATABASE_URL", "POSITION_BACKEND", "ENVIRONMENT", "RAILWAY_ENVIRONMENT"}
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document that a command with --json prints; fails if there is anything beside it."""
        return json.loads(self.out)

    @property
    def error(self) -> dict[str, Any]:
        """The error that a command with --json reports."""
        found: dict[str, Any] = json.loads(self.err)["error"]
        return found


class Workplace:
    """An empty directory with a command line and stores in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environ: dict[str, str] = {}
        """Variables of a server, if a test has one; commands and bots are given them."""
        self._app = make_app()

    def run(self, *args: str | Path, env: Mapping[str, str] | None = None) -> Ran:
        """Run a command in this process."""
        done = CliRunner().invoke(self._app, [str(arg) for arg in args], env={**self.environ, **(env or {})})
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Ran(done.exit_code, done.stdout, done.stderr)

    def fill(self, backends: str, trades: int = 5, positions: int = 3, **settings: Any) -> None:
        """Let a bot write to stores."""
        asyncio.run(self._fill(backends, trades, positions, settings))

    async def _fill(self, backends: str, trades: int, positions: int, settings: dict[str, Any]) -> None:
        async with Gateway(
            backends, environ=self.environ, env_file=None, data_dir=self.path / "storage", **settings
        ) as gateway:
            for number in range(trades):
                await gateway.insert_trade(
                    record_id=f"t{number:04d}",
                    timestamp=START + timedelta(minutes=number),
                    market_name="BTC" if number % 2 == 0 else "ETH",
                    action="buy",
                    side="YES",
                    price=f"{number}.25",
                    amount=1,
                    dry_run=number % 2 == 0,
                )
            for number in range(positions):
                await gateway.save_position(
                    condition_id=f"m{number}",
                    side="YES",
                    entry_price="0.5",
                    opened_at=START,
                    extra={"note": "строка", "none": None},
                )


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """Give an empty directory as the current one, with no setting of the gateway in the environment."""
    for name in list(os.environ):
        if name.startswith("STORAGE_") or name in {
            "DATABASE_URL",
            "POSITION_BACKEND",
            "ENVIRONMENT",
            "RAILWAY_ENVIRONMENT",
        }:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return Workplace(tmp_path)


@pytest.fixture
def server_workplace(workplace: Workplace, prepared_database: Database) -> Workplace:
    """Give an empty directory and an empty database on a PostgreSQL server, where the bot's login owns nothing."""
    workplace.environ = environ_of(prepared_database.app_url)
    return workplace
