"""docker-compose.yml: reachable from this machine alone, no default password, pinned, health checked."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

SERVICES = ("postgres", "pgbouncer", "pgadmin", "timescale", "questdb", "valkey")


@pytest.fixture(scope="module")
def compose(sources: Any) -> dict[str, Any]:
    """The parsed file."""
    parsed: dict[str, Any] = yaml.safe_load((sources.root / "docker-compose.yml").read_text(encoding="utf-8"))
    return parsed


def test_it_has_the_announced_servers(compose: dict[str, Any]) -> None:
    """Each server that a coming backend needs is there, and none starts unless its profile is asked for."""
    assert tuple(compose["services"]) == SERVICES
    assert all(service["profiles"] for service in compose["services"].values())


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_bound_to_this_machine(compose: dict[str, Any], name: str) -> None:
    """No server is reachable from the network."""
    ports = compose["services"][name]["ports"]
    assert ports
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(compose: dict[str, Any], name: str) -> None:
    """An image is named with its exact version, never `latest`."""
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+(\.\d+)?[\w.-]*", compose["services"][name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_health_is_checked(compose: dict[str, Any], name: str) -> None:
    """`docker compose up --wait` returns when the server answers."""
    check = compose["services"][name]["healthcheck"]
    assert check["test"]
    assert {"interval", "timeout", "retries"} <= set(check)


@pytest.mark.parametrize("name", SERVICES)
def test_passwords_have_no_default(compose: dict[str, Any], name: str) -> None:
    """A password comes from the environment, and without it nothing starts."""
    environment = compose["services"][name]["environment"]
    secrets = {key: value for key, value in environment.items() if re.search("PASSWORD|AUTH$", key)}
    assert secrets
    assert all(re.fullmatch(r"\$\{[A-Z_]+_PASSWORD:\?[^}]+\}", value) for value in secrets.values())


def test_data_outlives_containers(compose: dict[str, Any]) -> None:
    """Each named volume is declared, and every declared one is used."""
    used = {source for _, source, _ in _mounts(compose) if not source.startswith(".")}
    assert used == set(compose["volumes"])


def _mounts(compose: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return each mount as service, source and target."""
    return [
        (name, *mount.split(":")[:2])
        for name, service in compose["services"].items()
        for mount in service.get("volumes", [])
    ]


def test_files_of_the_repository_that_are_mounted_exist(compose: dict[str, Any], sources: Any) -> None:
    """Docker makes an empty directory of a file that is missing, and the server starts without its roles."""
    mounted = [source for _, source, _ in _mounts(compose) if source.startswith(".")]
    assert mounted
    assert [source for source in mounted if not (sources.root / source).is_file()] == []


@pytest.mark.parametrize("name", ["postgres", "timescale"])
def test_roles_are_made_before_the_login_that_is_in_them(compose: dict[str, Any], name: str) -> None:
    """The image runs the scripts in the order of their names, once; the login joins a group that must be there."""
    scripts = {
        target.rpartition("/")[2]: source
        for service, source, target in _mounts(compose)
        if service == name and target.startswith("/docker-entrypoint-initdb.d/")
    }
    assert [scripts[script] for script in sorted(scripts)] == [
        "./contrib/sql/roles.sql",
        "./contrib/sql/bot_login.sql",
    ]


def test_no_two_servers_want_one_port(compose: dict[str, Any]) -> None:
    """All profiles can be started at once."""
    ports = [port.split(":")[1] for service in compose["services"].values() for port in service["ports"]]
    assert len(ports) == len(set(ports))


def test_bots_go_through_the_pooler_as_a_login_that_owns_nothing(compose: dict[str, Any]) -> None:
    """PgBouncer pools transactions, for the bot's login, whose password is not the operator's."""
    pooler, server = (compose["services"][name]["environment"] for name in ("pgbouncer", "postgres"))
    assert pooler["POOL_MODE"] == "transaction"
    assert pooler["DB_USER"] == "gateway_bot"
    assert pooler["DB_PASSWORD"] == server["GATEWAY_BOT_PASSWORD"]
    assert server["POSTGRES_USER"] != pooler["DB_USER"]
