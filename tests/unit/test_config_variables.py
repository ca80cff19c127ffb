"""Variables, arguments and the env file, before anything is known about settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.variables import Variables

VALUES = st.none() | st.sampled_from(["", "  ", "1", "2"])


def test_the_env_file_is_read_as_people_write_it(tmp_path: Path) -> None:
    """Comments, quotes, `export` and a byte order mark are understood; `${...}` stays as it is."""
    path = tmp_path / ".env"
    path.write_bytes(
        b"\xef\xbb\xbfSTORAGE_A='x y'  # why\n# no\nexport STORAGE_B=\"z\"\nSTORAGE_C=pa${HOME}ss\n"
    )
    found = {name: given.value for name, given in Variables({}, path).prefixed()}
    assert found == {"STORAGE_A": "x y", "STORAGE_B": "z", "STORAGE_C": "pa${HOME}ss"}


def test_no_env_file_is_no_error(tmp_path: Path) -> None:
    """Most processes have none."""
    assert list(Variables({}, tmp_path / "missing").prefixed()) == []
    assert list(Variables({}, None).prefixed()) == []


def test_an_env_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """Its settings would be silently not made; the sentence names the file."""
    path = tmp_path / ".env"
    path.write_bytes(b"STORAGE_A=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read"):
        Variables({}, path)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_an_env_file_without_permission_is_an_error(tmp_path: Path) -> None:
    """Unless this runs as a user whom permissions do not stop, the file is refused by name."""
    path = tmp_path / ".env"
    path.write_text("STORAGE_A=1\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        assert Variables({}, path).get("STORAGE_A") is not None
        return
    with pytest.raises(ConfigurationError, match=r"\.env cannot be read"):
        Variables({}, path)


def test_the_exact_spelling_wins_over_another_case() -> None:
    """Variables are found in any case; where both are set, the documented spelling counts."""
    for names in (("STORAGE_A", "storage_a"), ("storage_a", "STORAGE_A")):
        given = Variables({name: name for name in names}).get("STORAGE_A")
        assert given is not None
        assert given.value == "STORAGE_A"


def test_representations_show_no_values() -> None:
    """Any value may be a secret."""
    variables = Variables({"STORAGE_A": "hunter2"})
    assert repr(variables) == "<Variables STORAGE_A>"
    assert repr(variables.get("STORAGE_A")) == "<Given STORAGE_A from environment>"


@given(argument=VALUES, environ=VALUES, file=VALUES)
def test_precedence_holds_for_every_combination(
    argument: str | None, environ: str | None, file: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An argument that is given counts even when empty; variables count when they hold something."""
    path = tmp_path_factory.mktemp("env") / ".env"
    path.write_text("" if file is None else f"STORAGE_A='{file}'\n")
    found = Variables({} if environ is None else {"STORAGE_A": environ}, path, {"a": argument}).get(
        "STORAGE_A"
    )
    candidates = [(argument, "argument")] if argument is not None else []
    candidates += [(environ, "environment")] if environ and environ.strip() else []
    candidates += [(file, ".env")] if file and file.strip() else []
    expected = candidates[0] if candidates else None
    assert (found and (found.value, found.source)) == expected
