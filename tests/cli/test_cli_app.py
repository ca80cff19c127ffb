"""The command line as a whole: errors, exit codes, start-up, what plugins add."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError


def _python(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=60,
        check=False,
    )


def test_the_module_runs_as_the_command() -> None:
    """`python -m gateway.cli` is the same command, and starts with a version."""
    done = _python("-m", "gateway.cli", "--version")
    assert done.returncode == 0
    assert done.stdout.startswith("storage-gateway ")


def test_the_installed_command_starts_without_loading_the_records() -> None:
    """Help must be quick: neither pydantic nor the record kinds nor a driver is loaded for it."""
    code = (
        "import sys\nfrom gateway.cli.app import run\nsys.argv = ['gateway', '--help']\ncode = run()\n"
        "heavy = {'pydantic', 'sqlalchemy', 'alembic', 'aiosqlite', 'gateway.records'} & set(sys.modules)\n"
        "sys.stderr.write(f'{code} {sorted(heavy)}')"
    )
    done = _python("-c", code)
    assert done.stderr == "0 []"
    assert "phase" in done.stdout


def test_without_typer_the_command_says_how_to_get_it() -> None:
    """A missing extra is named with the command that installs it."""
    code = "import sys\nsys.modules['typer'] = None\nfrom gateway.cli import main\nmain()"
    done = _python("-c", code)
    assert done.returncode == 2
    assert "pip install 'storage-gateway[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_configuration_is_one_sentence_and_exit_code_2(workplace: Any) -> None:
    """A mistyped variable is named with what was meant, without a traceback."""
    done = workplace.run("stats", env={"STORAGE_BACKEND": "json"})
    assert done.code == 2
    assert "did you mean STORAGE_BACKENDS" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert done.out == ""


def test_errors_are_json_where_json_was_asked_for(workplace: Any) -> None:
    """With --json an error is one document on the error stream, and nothing is on the standard output."""
    done = workplace.run("query", "nothing", "--json")
    assert done.code == 2
    assert done.out == ""
    assert done.error["type"] == "UnknownKindError"
    assert done.error["exit_code"] == 2
    assert "trades" in done.error["message"]


def test_wrong_usage_is_json_too(workplace: Any) -> None:
    """A wrong option is reported like any other error."""
    done = workplace.run("query", "trades", "--json", "--limit", "many")
    assert done.code == 2
    assert done.error["type"] == "UsageError"
    assert "--limit" in done.error["message"]


def test_an_unknown_backend_names_those_there_are(workplace: Any) -> None:
    """A backend that is not installed is refused with the installed ones."""
    done = workplace.run("--backends", "oracle", "stats")
    assert done.code == 2
    assert "json, memory, memory_cache, postgres, questdb, redis, sqlite" in done.err


def test_a_store_that_is_not_there_is_exit_code_3(workplace: Any) -> None:
    """A missing store is not an empty one."""
    done = workplace.run("query", "trades", "--json")
    assert done.code == 3
    assert done.error["type"] == "StoreUnavailableError"


def test_a_corrupt_store_is_exit_code_3_and_stays_as_it_was(workplace: Any) -> None:
    """A file that is no database is named and left alone."""
    file = workplace.path / "storage" / "gateway.db"
    file.parent.mkdir()
    file.write_bytes(b"this is no database, whatever its name says" * 100)
    before = file.read_bytes()
    done = workplace.run("stats", "--json")
    assert done.code == 3
    assert "gateway.db" in done.error["message"] or "damaged" in done.error["message"]
    assert file.read_bytes() == before


def test_a_missing_env_file_is_refused_and_a_present_one_is_read(workplace: Any) -> None:
    """--env-file names a file that has to be there, and its variables count."""
    missing = workplace.run("--env-file", "nothing.env", "config")
    assert missing.code == 2
    assert "nothing.env" in missing.err
    (workplace.path / "bot.env").write_text("STORAGE_BACKENDS=json\n")
    found = workplace.run("--env-file", "bot.env", "config", "--json").json
    value = next(one for one in found["settings"] if one["variable"] == "STORAGE_BACKENDS")
    assert (value["value"], value["source"]) == ("json", "bot.env")


def test_options_before_the_command_win_over_the_environment(workplace: Any) -> None:
    """--backends and --data-dir say which stores are looked at."""
    done = workplace.run(
        "--backends",
        "json",
        "--data-dir",
        "elsewhere",
        "config",
        "--json",
        env={"STORAGE_BACKENDS": "sqlite"},
    )
    values = {one["variable"]: one for one in done.json["settings"]}
    assert (values["STORAGE_BACKENDS"]["value"], values["STORAGE_BACKENDS"]["source"]) == ("json", "argument")
    assert values["STORAGE_DATA_DIR"]["value"] == "elsewhere"


def test_debug_shows_the_traceback_beside_the_sentence(workplace: Any) -> None:
    """--debug is for whoever reports a fault."""
    done = workplace.run("--debug", "query", "nothing")
    assert done.code == 2
    assert "Traceback" in done.err
    assert "error: no record kind" in done.err


def test_kinds_of_the_bot_are_known_after_importing_its_module(
    workplace: Any,
) -> None:
    """--import makes kinds declared by decorator known, so that copy and verify do not pass them over."""
    module = "bot_kinds_of_the_cli_test"
    (workplace.path / f"{module}.py").write_text(
        "from gateway.records import LogRecord, Text, Time, record_kind\n"
        "@record_kind('cli_test_signals', time_field='at')\n"
        "class CliTestSignal(LogRecord):\n    at: Time\n    name: Text\n"
    )
    done = _python("-m", "gateway.cli", "--import", module, "kinds", "cli_test_signals", "--json")
    assert done.returncode == 0, done.stderr
    assert [field["name"] for field in json.loads(done.stdout)["fields"]] == ["record_id", "at", "name"]
    failed = workplace.run("--import", "no_such_module_at_all", "kinds")
    assert failed.code == 2
    assert "no_such_module_at_all" in failed.err


def test_a_reader_that_goes_away_ends_the_command_quietly(workplace: Any) -> None:
    """`gateway export | head` leaves no traceback."""
    workplace.fill("sqlite", trades=2_000, positions=0)
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m gateway.cli export trades | head -1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(done.stdout)["record_id"] == "t0000"
    assert done.stderr == ""


def test_an_interrupt_ends_a_copy_with_130_and_it_can_be_repeated(workplace: Any) -> None:
    """Ctrl-C in the middle leaves whole rows; the next run brings the rest."""
    workplace.fill("json", trades=60, positions=0)
    command = [
        sys.executable,
        "-m",
        "gateway.cli",
        "--backends",
        "json,sqlite",
        "copy",
        "--kind",
        "trades",
        "--rate",
        "1",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not _rows(workplace) and time.monotonic() < deadline:
        time.sleep(0.05)  # polls for the first page to be in the store
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, (out, err)
    assert "interrupted" in err
    assert "Traceback" not in err
    assert workplace.run("--backends", "json,sqlite", "copy", "--json").code == 0
    assert workplace.run("--backends", "json,sqlite", "verify", "--json").json["ok"] is True


def _rows(workplace: Any) -> int:
    done = workplace.run("--backends", "sqlite", "stats", "--json")
    return sum(one["rows"] for one in done.json["kinds"]) if done.code == 0 else 0


def test_plugins_add_commands_and_a_broken_one_is_only_a_warning(tmp_path: Path) -> None:
    """The hook gateway_cli extends the command line; one that fails is named and stops nothing."""
    _distribution(
        tmp_path, "good-cli", "good_cli", "app.command('greet')(lambda: print('hello from a plugin'))"
    )
    _distribution(tmp_path, "bad-cli", "bad_cli", "raise RuntimeError('out of order')")
    env = {"PYTHONPATH": str(tmp_path)}
    done = _python("-m", "gateway.cli", "greet", env=env)
    assert done.returncode == 0
    assert done.stdout == "hello from a plugin\n"
    assert "bad_cli" in done.stderr
    assert "out of order" in done.stderr
    denied = _python("-m", "gateway.cli", "greet", env={**env, "STORAGE_PLUGINS_DENY": "bad_cli"})
    assert denied.stderr == ""
    listed = _python("-m", "gateway.cli", "plugins", "--json", env=env)
    assert listed.returncode == 1
    assert "out of order" in json.loads(listed.stdout)["problems"][0]["problem"]


def _distribution(path: Path, name: str, module: str, body: str) -> None:
    """Install a distribution with one command line plugin, as pip would leave it."""
    info = path / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[storage_gateway.cli]\n{module} = {module}\n")
    (path / f"{module}.py").write_text(
        f"from gateway.hookspecs import hookimpl\n@hookimpl\ndef gateway_cli(app):\n    {body}\n"
    )


def test_every_error_of_the_gateway_has_an_exit_code() -> None:
    """No error class ends in another code than the documented ones."""
    from gateway.api import Ack
    from gateway.cli.exits import ExitCode, code_of
    from gateway.errors import MirrorWriteError

    pending, classes = [GatewayError], set()
    while pending:
        found = pending.pop()
        classes.add(found)
        pending += found.__subclasses__()
    ack = Ack("trades", ("t",), "t", 1, "json")
    for one in classes:
        error = MirrorWriteError(ack, {}) if one is MirrorWriteError else one("text")
        assert code_of(error) in {ExitCode.PROBLEM, ExitCode.USAGE, ExitCode.UNAVAILABLE}
    assert len(classes) > 20
