"""Reading the address: every shape, what is refused, and no password in anything that people read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.errors import ConfigurationError
from gateway_redis.address import Shape
from gateway_redis.cache import RedisCache
from gateway_redis.settings import RedisSettings

SECRET = "h0rse staple/battery"  # noqa: S105 - no password of anybody
QUOTED = "h0rse%20staple%2Fbattery"


def _address(url: str, **more: Any) -> Any:
    return RedisSettings(url=url, **more).address()


@pytest.mark.parametrize(
    ("url", "shape", "places", "database", "service"),
    [
        ("redis://", Shape.SINGLE, (("localhost", 6379),), 0, ""),
        ("redis://db.example/3", Shape.SINGLE, (("db.example", 6379),), 3, ""),
        ("redis://db.example?db=3", Shape.SINGLE, (("db.example", 6379),), 3, ""),
        ("redis://[::1]:7000", Shape.SINGLE, (("::1", 7000),), 0, ""),
        ("redis+unix:///run/redis.sock?db=2", Shape.SINGLE, (("/run/redis.sock", 0),), 2, ""),
        ("redis+sentinel://a,b:1/prices/4", Shape.SENTINEL, (("a", 26379), ("b", 1)), 4, "prices"),
        ("rediss+sentinel://a/prices", Shape.SENTINEL, (("a", 26379),), 0, "prices"),
        ("redis+cluster://a:1,b", Shape.CLUSTER, (("a", 1), ("b", 6379)), 0, ""),
    ],
)
def test_every_shape_is_read(
    url: str, shape: Shape, places: tuple[tuple[str, int], ...], database: int, service: str
) -> None:
    """The URL says how the servers stand together, where they are, and which database is meant."""
    found = _address(url)
    assert (found.shape, found.places, found.database, found.service) == (shape, places, database, service)
    assert (found.tls is not None) == url.startswith("rediss")


def test_login_comes_from_the_url_and_else_from_the_settings() -> None:
    """The URL wins; a password is decoded."""
    login = _address(f"redis://bot:{QUOTED}@h").login
    assert (login.user, login.password) == ("bot", SECRET)
    login = _address("redis://h", username="other", password=SECRET).login
    assert (login.user, login.password) == ("other", SECRET)


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        ("http://h", {}, "named by a URL"),
        ("redis+ring://h", {}, "named by a URL"),
        ("redis://h/prices", {}, "number of a database"),
        ("redis://h/1?db=2", {}, "twice"),
        ("redis://h:70000", {}, "port is a number"),
        ("redis://h?ssl_cert_reqs=none", {}, "ssl_cert_reqs"),
        ("redis+sentinel://h", {}, "which master"),
        ("redis+cluster://h/1", {}, "database 0"),
        ("redis+unix://", {}, "no socket file"),
        ("rediss+unix:///s", {}, "no TLS"),
        (f"redis://u:{SECRET}@h", {}, "percent-encode"),
        ("rediss://h", {"tls_key": "k"}, "certificate"),
        ("rediss://h", {"tls_ca": "/no/such/ca.pem"}, "tls_ca"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(url: str, more: dict[str, Any], said: str) -> None:
    """Before anything is opened, and without a password in the sentence."""
    with pytest.raises(ConfigurationError) as caught:
        _address(url, **more)
    assert said in str(caught.value)
    assert "staple" not in str(caught.value)


def test_no_address_is_refused_by_the_name_of_the_variable() -> None:
    """Who forgot it is told what to set."""
    with pytest.raises(ConfigurationError, match="STORAGE_REDIS_URL"):
        RedisSettings().address()
    assert RedisSettings().endpoints() == ()


def test_no_password_is_shown() -> None:
    """Settings, addresses, endpoints and caches are printed by people and by logs."""
    held = RedisSettings(
        url=f"redis://bot:{QUOTED}@h1", password=SecretStr(SECRET), sentinel_password=SecretStr(SECRET)
    )
    shown = [repr(held), str(held), repr(held.address()), str(held.address()), repr(held.endpoints())]
    shown.append(repr(RedisCache(held)))
    assert not [text for text in shown if "staple" in text]


def test_endpoints_say_what_production_must_know(tmp_path: Path) -> None:
    """One for each server that is named, with what protects it; a socket file has no host."""
    ca = tmp_path / "ca.pem"
    ca.write_text("")
    plain, other = RedisSettings(url=f"redis+cluster://bot:{QUOTED}@a,b").endpoints()
    assert (plain.host, plain.user, plain.password) == ("a", "bot", SECRET)
    assert (plain.encrypted, plain.verified, plain.authenticated, other.host) == (False, False, False, "b")
    (full,) = RedisSettings(url="rediss://a", tls_ca=str(ca), tls_cert=str(ca), tls_key=str(ca)).endpoints()
    assert (full.encrypted, full.verified, full.authenticated) == (True, True, True)
    (loose,) = RedisSettings(url="rediss://a", tls="require").endpoints()
    assert (loose.encrypted, loose.verified) == (True, False)
    (socket,) = RedisSettings(url="redis+unix:///run/redis.sock").endpoints()
    assert socket.host is None
