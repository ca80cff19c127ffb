"""The guard, asked before anything is opened: by the configuration, by a gateway, and for files that all may read."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway import Gateway
from gateway.backend import Backend, BackendSettings, BackendSpec, OpenContext
from gateway.concerns import exposure_concerns
from gateway.config import Configuration, load_configuration, open_context
from gateway.errors import ConfigurationError
from gateway.findings import Level
from gateway.hookspecs import hookimpl
from gateway.registry import discover
from gateway.upkeep import Endpoint

posix = pytest.mark.skipif(os.name != "posix", reason="not asked: modes of files mean nothing here")


class ServerSettings(BackendSettings):
    """Settings of a backend on a server, which says where it connects."""

    password: SecretStr | None = None
    contradictory: bool = False

    def endpoints(self) -> tuple[Endpoint, ...]:
        """Connect to the host that the URL is."""
        if self.contradictory:
            raise ConfigurationError("the settings say two things")
        password = None if self.password is None else self.password.get_secret_value()
        return (Endpoint(self.url, "bot", password, encrypted=True, verified=True),)


OPENED: list[str] = []


async def note_opening(context: OpenContext) -> Backend:
    """Note that somebody got as far as opening this store."""
    OPENED.append(context.instance)
    raise NotImplementedError(context.instance)


class Servers:
    """A plugin with two backends on servers."""

    @hookimpl
    def gateway_backends(self) -> list[BackendSpec]:
        """Bring them."""
        return [BackendSpec(name, "", note_opening, ServerSettings) for name in ("north", "south")]


def configured(environ: Mapping[str, str], env_file: Path | None = None) -> Configuration:
    """Return the configuration of exactly these variables."""
    registry = discover(entry_points=list, extra_plugins={"servers": Servers()})
    return load_configuration(registry, environ=environ, env_file=env_file)


UNSAFE = {
    "STORAGE_BACKENDS": "north,south",
    "STORAGE_NORTH_URL": "north.example",
    "STORAGE_NORTH_PASSWORD": "changeme",
    "STORAGE_SOUTH_URL": "south.example",
}


@pytest.mark.parametrize("variable", ["STORAGE_ENVIRONMENT", "ENVIRONMENT", "RAILWAY_ENVIRONMENT"])
def test_no_store_is_opened_past_the_guard(variable: str, tmp_path: Path) -> None:
    """What is needed to open a store is not handed out in production if the store is not safe, wherever that is said."""
    environ = {**UNSAFE, variable: "production", "STORAGE_DATA_DIR": str(tmp_path)}
    config = configured(environ)
    with pytest.raises(
        ConfigurationError, match=r"store north: the password for north\.example as bot is a well-known"
    ):
        open_context(config, config.store("north"), ())
    with pytest.raises(ConfigurationError, match="store south: there is no password"):
        open_context(config, config.store("south"), (), read_only=True)
    lenient = configured({**environ, variable: "staging"})
    assert open_context(lenient, lenient.store("north"), ()).instance == "north"


@pytest.mark.anyio
async def test_a_gateway_names_all_objections_and_opens_nothing(tmp_path: Path) -> None:
    """Both stores' faults stand in one sentence, and neither was touched."""
    OPENED.clear()
    gateway = Gateway(
        plugins=[Servers()],
        environ={**UNSAFE, "ENVIRONMENT": "prod"},
        env_file=None,
        data_dir=tmp_path / "data",
    )
    with pytest.raises(ConfigurationError, match=r"store north: .*store south: ") as caught:
        await gateway.open()
    assert "changeme" not in str(caught.value)
    assert OPENED == []
    assert not (tmp_path / "data").exists()


@pytest.mark.anyio
async def test_development_is_warned_once_and_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A bot that opens its stores again and again says it once; and it does open them."""
    environ = {
        **UNSAFE,
        "STORAGE_NORTH_URL": f"{tmp_path.name}.example",
    }  # a store that no other test warns of
    with caplog.at_level(logging.WARNING, "gateway.concerns"):
        for _ in range(2):
            OPENED.clear()
            with pytest.raises(NotImplementedError):
                await Gateway(plugins=[Servers()], environ=environ, env_file=None, data_dir=tmp_path).open()
            assert OPENED == ["north"]
    warned = [message for message in caplog.messages if tmp_path.name in message]
    assert len(warned) == 1
    assert "production refuses this" in warned[0]
    assert "changeme" not in caplog.text


def test_settings_that_contradict_each_other_are_said_as_they_are() -> None:
    """That is no question of safety, and is refused everywhere."""
    config = configured({"STORAGE_BACKENDS": "north", "STORAGE_NORTH_CONTRADICTORY": "yes"})
    with pytest.raises(ConfigurationError, match=r"^the settings say two things$"):
        open_context(config, config.stores[0], ())


@posix
@pytest.mark.parametrize(
    ("line", "secret"),
    [
        ("STORAGE_NORTH_PASSWORD=9f3ac2", True),
        ("DATABASE_URL=north://bot:9f3ac2@h/d", True),
        ("EXCHANGE_API_KEY=9f3ac2", True),
        ("STORAGE_LANE_ROWS=5", False),
        ("STORAGE_NORTH_PASSWORD=", False),
    ],
)
def test_an_env_file_with_secrets_is_for_its_owner(line: str, secret: bool, tmp_path: Path) -> None:
    """Production refuses to run on a file of passwords that every user can read; without secrets it may be open."""
    file = tmp_path / ".env"
    file.write_text(f"STORAGE_BACKENDS=memory\n{line}\n")
    environ = {"STORAGE_BACKENDS": "north", "ENVIRONMENT": "production", "STORAGE_NORTH_URL": "localhost"}
    found = {}
    for mode in (0o644, 0o640):
        file.chmod(mode)
        config = configured(environ, file)
        found[mode] = [one.level for one in config.concerns() if one.subject == "passwords"]
    assert found == {0o644: [Level.FAIL] if secret else [], 0o640: []}


@posix
def test_stored_data_is_for_its_owner(tmp_path: Path) -> None:
    """A file that others can reach and read is found, wherever the settings say that it is; one out of reach is not."""
    data, other = tmp_path / "data", tmp_path / "other.db"
    data.mkdir(mode=0o755)
    for file in (data / "gateway.db", other):
        file.write_bytes(b"x")
        file.chmod(0o644)
    tmp_path.chmod(0o755)
    assert [one.sentence.split()[0] for one in exposure_concerns(None, [data, other], production=True)] == [
        str(data / "gateway.db"),
        str(other),
    ]
    (data / "gateway.db").chmod(0o600)
    tmp_path.chmod(0o700)
    assert exposure_concerns(None, [data, other, tmp_path / "missing"], production=True) == []


@posix
@pytest.mark.anyio
@pytest.mark.parametrize("backends", ["json", "memory"])
async def test_what_the_gateway_makes_itself_is_not_open_to_all(backends: str, tmp_path: Path) -> None:
    """A bot in production can open again what it made, whatever the umask of its user."""
    environ = {"ENVIRONMENT": "production", "STORAGE_BACKENDS": backends}
    before = os.umask(0o022)
    try:
        for _ in range(2):
            async with Gateway(environ=environ, env_file=None, data_dir=tmp_path / "data") as gateway:
                await gateway.insert_alert(alert_type="trade", level="INFO")
    finally:
        os.umask(before)
