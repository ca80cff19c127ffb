"""`gateway plugins`, `gateway kinds` and `gateway config`."""

from __future__ import annotations

from typing import Any

from gateway.records.builtin import BUILTIN_KINDS


def test_plugins_lists_backends_with_version_distribution_and_capabilities(workplace: Any) -> None:
    """Every installed backend is there, and the legacy source, and there are no problems."""
    found = workplace.run("plugins", "--json").json
    backends = {one["name"]: one for one in found["backends"]}
    assert {"json", "memory", "sqlite"} <= set(backends)
    assert backends["sqlite"]["distribution"] == "storage-gateway"
    assert backends["sqlite"]["version"]
    assert "multi_process" in backends["sqlite"]["capabilities"]
    assert [one["name"] for one in found["legacy_sources"]] == ["positions"]
    assert {kind.name for kind in BUILTIN_KINDS} <= {one["name"] for one in found["kinds"]}


def test_a_denied_plugin_is_listed_as_denied(workplace: Any) -> None:
    """What STORAGE_PLUGINS_DENY switches off is not offered, and is said to be off."""
    done = workplace.run("plugins", "--json", env={"STORAGE_PLUGINS_DENY": "memory"})
    assert "memory" not in {one["name"] for one in done.json["backends"]}
    assert any("memory" in one for one in done.json["denied"])
    assert "denied" in workplace.run("plugins", env={"STORAGE_PLUGINS_DENY": "memory"}).out


def test_plugins_works_where_the_configuration_does_not(workplace: Any) -> None:
    """The list of plugins is what explains a wrong STORAGE_BACKENDS, so that must not stop it."""
    done = workplace.run("plugins", env={"STORAGE_BACKENDS": "oracle"})
    assert done.code == 0
    assert "sqlite" in done.out


def test_kinds_lists_every_kind_with_what_identifies_it(workplace: Any) -> None:
    """Each kind shows its shape, key, durability, retention and source."""
    kinds = {one["name"]: one for one in workplace.run("kinds", "--json").json["kinds"]}
    assert kinds["trades"]["shape"] == "log"
    assert kinds["candles"]["key"] == ["symbol", "interval", "timestamp"]
    assert kinds["order_book_snapshots"]["durability"] == "buffered"
    assert kinds["order_book_snapshots"]["retention"] == "7 days"
    assert kinds["closed_positions"]["companion_of"] == "positions"
    assert kinds["trades"]["source"] == "storage-gateway"
    shown = workplace.run("kinds").out
    assert all(name in shown for name in kinds)


def test_one_kind_shows_its_fields(workplace: Any) -> None:
    """Fields come with type, whether they may be empty, and whether they are part of the key."""
    fields = {one["name"]: one for one in workplace.run("kinds", "positions", "--json").json["fields"]}
    assert fields["condition_id"] == {
        "name": "condition_id",
        "type": "text",
        "nullable": False,
        "key": True,
        "private": False,
    }
    assert fields["pnl"]["type"] == "money"
    assert "condition_id" in workplace.run("kinds", "positions").out


def test_config_says_where_each_value_came_from(workplace: Any) -> None:
    """A value is shown with its source, and a password is not shown."""
    env = {"STORAGE_BACKENDS": "json,sqlite", "STORAGE_SHADOW_SAMPLE": "5%"}
    found = workplace.run("config", "--json", env=env).json
    values = {one["variable"]: one for one in found["settings"]}
    assert (values["STORAGE_SHADOW_SAMPLE"]["value"], values["STORAGE_SHADOW_SAMPLE"]["source"]) == (
        "0.05",
        "environment",
    )
    assert values["STORAGE_TIMEOUT"]["source"] == "default"
    assert found["stores"] == [{"name": "json", "backend": "json"}, {"name": "sqlite", "backend": "sqlite"}]
    assert {one["phase"] for one in found["phases"]} == {"dual_write"}
    assert {one["decided_by"] for one in found["phases"]} == {"environment"}


def test_config_says_which_decision_of_the_control_store_holds(workplace: Any) -> None:
    """After a decision, config names the control store, epoch, author and reason; other kinds stay as they were."""
    env = {"STORAGE_BACKENDS": "json,sqlite"}
    step = (
        "phase",
        "set",
        "shadow_read",
        "--kind",
        "positions",
        "--why",
        "history is verified",
        "--who",
        "ana",
        "--wait",
        "0",
    )
    assert workplace.run(*step, env=env).code == 0
    phases = {one["kind"]: one for one in workplace.run("config", "--json", env=env).json["phases"]}
    assert phases["positions"]["decided_by"] == "control store, epoch 1, by ana: history is verified"
    assert phases["closed_positions"]["phase"] == "shadow_read"
    assert phases["trades"]["decided_by"] == "environment"
    assert "history is verified" in workplace.run("config", env=env).out
