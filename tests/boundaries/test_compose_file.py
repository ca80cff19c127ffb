"""docker-compose.yml: reachable from this machine alone, no default password, pinned, health checked."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

SERVICES = ("postgres", "pgbouncer", "questdb", "valkey")


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
    assert all(re.fullmatch(r"\$\{[A-Z]+_PASSWORD:\?[^}]+\}", value) for value in secrets.values())


def test_data_outlives_containers(compose: dict[str, Any]) -> None:
    """Each named volume is declared, and every declared one is used."""
    used = {
        mount.partition(":")[0]
        for service in compose["services"].values()
        for mount in service.get("volumes", [])
    }
    assert used == set(compose["volumes"])
