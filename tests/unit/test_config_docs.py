"""docs/configuration.md against the code: every variable, its default, its meaning, and every example."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path

import pytest

from gateway.config import load_configuration
from gateway.registry import discover
from gateway.settings import ALIASES, GatewaySettings
from gateway.stores import DATABASE_URL, POSITION_BACKEND, parse_backends

PAGE = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
ROWS = {
    match["variable"]: (match["default"], match["meaning"])
    for match in re.finditer(
        r"^\| `(?P<variable>STORAGE_\w+)` \| (?P<default>[^|]+) \| (?P<meaning>[^|]+) \|$", PAGE, re.MULTILINE
    )
}
EXAMPLES = re.search(r"^\| value \| means \|\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
OURS = {
    f"STORAGE_{name}_{field}".upper(): info.default
    for name, plugin in discover().backends.items()
    if plugin.distribution == "storage-gateway"
    for field, info in plugin.spec.settings.model_fields.items()
}


def default_text(value: object) -> str:
    """Return a default as the page writes it."""
    if value is None or value in ("", ()):
        return "not set"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


@pytest.mark.parametrize("field", GatewaySettings.model_fields)
def test_every_setting_of_the_gateway_is_described_as_in_the_code(field: str) -> None:
    """Name, default and description are those of the settings class, which has a description for each."""
    info = GatewaySettings.model_fields[field]
    assert ROWS[f"STORAGE_{field.upper()}"] == (default_text(info.default), info.description)


@pytest.mark.parametrize("variable", OURS)
def test_every_setting_of_our_backends_is_listed_with_its_default(variable: str) -> None:
    """A setting that nobody can find might as well not exist."""
    default, meaning = ROWS[variable]
    assert default == default_text(OURS[variable])
    assert len(meaning) > 10


def test_nothing_is_documented_that_does_not_exist() -> None:
    """A variable on the page that nobody reads would be refused when somebody sets it."""
    fields = {f"STORAGE_{field.upper()}" for field in GatewaySettings.model_fields}
    assert len(ROWS) > len(fields)
    assert set(ROWS) == fields | set(OURS)


def test_the_aliases_are_documented() -> None:
    """The variables without the prefix are on the page too."""
    aliases = {name for names in ALIASES.values() for name in names} | {DATABASE_URL, POSITION_BACKEND}
    assert aliases == {name for name in aliases if f"`{name}`" in PAGE}


def test_the_examples_of_the_grammar_are_accepted() -> None:
    """Each value in the table of STORAGE_BACKENDS is one that the parser takes."""
    assert EXAMPLES is not None
    values = re.findall(r"^\| `([^`]+)` \|", EXAMPLES[1], re.MULTILINE)
    assert len(values) == EXAMPLES[1].count("\n") >= 5
    for value in values:
        assert parse_backends(value)


def test_the_arguments_in_the_example_are_accepted() -> None:
    """What the page shows as arguments of Gateway is what the loader takes."""
    call = 'Gateway(backends="json,sqlite", lane_rows=5_000, sqlite_synchronous="FULL")'
    assert call in PAGE
    overrides = {"backends": "json,sqlite", "lane_rows": 5_000, "sqlite_synchronous": "FULL"}
    config = load_configuration(discover(), environ={}, env_file=None, overrides=overrides)
    assert config.settings.lane_rows == 5_000
    assert config.store("sqlite").settings.model_dump()["synchronous"] == "FULL"
