"""What production refuses: passwords that everybody knows, none at all, plain text to others, files open to all."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.findings import Finding, Level
from gateway.guard import endpoint_concerns, file_concern, is_default_password, is_remote, refuse
from gateway.upkeep import Endpoint

ROOT = Path(__file__).parents[2]
STRONG = "b1946ac92492d2347c6235b4d2611184"
SAFE = Endpoint("db.example", "bot", STRONG, encrypted=True, verified=True)


def levels(*endpoints: Endpoint, production: bool = True) -> list[Level]:
    """Return how the guard weighs these endpoints."""
    return [one.level for one in endpoint_concerns("store s", endpoints, production=production)]


@pytest.mark.parametrize(
    "password",
    [
        "postgres",
        "PASSWORD",
        "changeme",
        "change-me!",
        "STRONG_PASSWORD",
        "strong-password",
        "<password>",
        "${POSTGRES_PASSWORD}",
        "%PASSWORD%",
        "123456",
        "p@ssw0rd",
        "***",
        "x",
        "Пароль",
        "aitrader",
    ],
)
def test_passwords_that_everybody_tries_first_are_known(password: str) -> None:
    """Case, punctuation and the marks of a placeholder do not make a secret of them."""
    assert is_default_password(password)


@pytest.mark.parametrize(
    "password", [STRONG, "correct horse battery", "Tr0ub4dor&3", "!#%&/()=?", "postgres-9f3a"]
)
def test_other_passwords_pass(password: str) -> None:
    """The guard knows defaults; it does not judge strength, and must not refuse what it cannot know."""
    assert not is_default_password(password, "bot")


@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20))
def test_the_users_own_name_is_no_password(name: str) -> None:
    """It is the first guess, with punctuation around it or not."""
    assert is_default_password(name, name)
    assert is_default_password(f"<{name}>", name)


@pytest.mark.parametrize(
    "page",
    ["README.md", "docker-compose.yml", *map(str, (ROOT / "docs").glob("*.md")), "contrib/sql/roles.sql"],
)
def test_every_password_in_our_own_examples_is_refused(page: str) -> None:
    """Whoever copies an example must not run production with a password that is in the documentation."""
    path = ROOT / page
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    urls = re.findall(r"postgres\w*(?:\+\w+)?://[^\s:/@`|]+:([^\s@`|]+)@", text)
    statements = re.findall(r"PASSWORD\s+'([^']+)'", text, re.IGNORECASE)
    assert [password for password in (*urls, *statements) if not is_default_password(password)] == []


@pytest.mark.parametrize(
    "host",
    [None, "", "localhost", "LOCALHOST.", "db.localhost", "127.0.0.1", "127.8.9.10", "::1", "[::1]", "::ffff:127.0.0.1", "/run/postgresql", "@abstract"],
)  # fmt: skip
def test_this_machine_is_not_remote(host: str | None) -> None:
    """What goes through a socket or the loopback cannot be read on the way."""
    assert not is_remote(host)


@pytest.mark.parametrize(
    "host",
    ["db", "db.example", "10.0.0.5", "192.168.1.2", "172.17.0.1", "fd00::1", "fe80::1%eth0", "0.0.0.0", "localhost.example", "127.0.0.1.example", "::ffff:10.0.0.1"],  # noqa: S104 - an address to judge, not to bind
)  # fmt: skip
def test_everything_else_is_remote(host: str) -> None:
    """A private network is a network: others are in it."""
    assert is_remote(host)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (SAFE, []),
        (Endpoint("db.example", "bot", STRONG, encrypted=True), ["could answer"]),
        (Endpoint("db.example", "bot", STRONG), ["plain text"]),
        (Endpoint("10.0.0.5", "bot"), ["no password", "plain text"]),
        (Endpoint("db.example", "bot", "", encrypted=True, verified=True), ["no password"]),
        (Endpoint("db.example", "bot", authenticated=True, encrypted=True, verified=True), []),
        (Endpoint("db.example", "bot", "Bot", encrypted=True, verified=True), ["well-known default"]),
        (Endpoint("127.0.0.1", "postgres", "postgres"), ["well-known default"]),
        (Endpoint(None, "bot", "changeme"), ["well-known default"]),
        (Endpoint("127.0.0.1", "bot", STRONG), []),
        (Endpoint("localhost", "bot"), []),
        (Endpoint(None), []),
    ],
)
def test_each_concern_is_found(endpoint: Endpoint, expected: list[str]) -> None:
    """Default passwords count everywhere, missing ones and plain text only where others can reach the server."""
    found = endpoint_concerns("store s", [endpoint], production=True)
    assert len(found) == len(expected)
    assert all(part in one.sentence for one, part in zip(found, expected, strict=True))
    assert all(one.advice for one in found)


def test_an_unproved_server_is_a_warning_even_in_production() -> None:
    """Encryption without proof of identity is common with managed servers; it is said, and not refused."""
    assert levels(Endpoint("db.example", "bot", STRONG, encrypted=True)) == [Level.WARN]


def test_two_logins_of_one_store_are_told_apart_and_repetitions_are_not() -> None:
    """The bot's login and the operator's may both be wrong; several servers with one fault are one sentence each."""
    bot, admin = Endpoint("h", "bot", "bot", encrypted=True, verified=True), Endpoint("h", "owner", STRONG)
    found = endpoint_concerns("store s", [bot, admin, bot], production=True)
    assert [("as bot" in one.sentence, "as owner" in one.sentence) for one in found] == [
        (True, False),
        (False, True),
    ]


ENDPOINTS = st.builds(
    Endpoint,
    st.sampled_from([None, "localhost", "db.example", "10.0.0.5"]),
    st.sampled_from([None, "bot"]),
    st.sampled_from([None, "", "bot", "postgres", STRONG, "\N{SNOWMAN}hidden\N{SNOWMAN}"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(ENDPOINTS, max_size=3))
def test_development_is_warned_of_what_production_refuses(endpoints: list[Endpoint]) -> None:
    """The same concerns, in the same order, never a failure; so that nobody is surprised on the day of the rollout."""
    strict = endpoint_concerns("store s", endpoints, production=True)
    lenient = endpoint_concerns("store s", endpoints, production=False)
    assert [one.sentence for one in strict] == [one.sentence for one in lenient]
    assert {one.level for one in lenient} <= {Level.WARN}
    refuse(lenient)


@given(st.lists(ENDPOINTS, max_size=3))
def test_no_password_is_in_a_concern(endpoints: list[Endpoint]) -> None:
    """What is said about a password does not say the password, nor does an endpoint that is printed."""
    found = endpoint_concerns("store s", endpoints, production=True)
    assert "\N{SNOWMAN}" not in f"{found} {endpoints}"
    assert STRONG not in f"{found} {endpoints}"


@given(ENDPOINTS, ENDPOINTS)
def test_more_protection_never_adds_a_concern(endpoint: Endpoint, other: Endpoint) -> None:
    """Encrypting, verifying and authenticating can only take concerns away."""
    better = Endpoint(
        endpoint.host, endpoint.user, endpoint.password, authenticated=True, encrypted=True, verified=True
    )
    assert set(endpoint_concerns("s", [better], production=True)) <= set(
        endpoint_concerns("s", [endpoint, other], production=True)
    )


def test_refusal_names_everything_at_once() -> None:
    """Nobody has to start a bot three times to learn of three mistakes; warnings are no reason to refuse."""
    found = endpoint_concerns(
        "store s",
        [Endpoint("db", "bot", "bot"), Endpoint("db", "x", STRONG, encrypted=True)],
        production=True,
    )
    with pytest.raises(
        ConfigurationError, match=r"not safe in production.*default.*openssl.*plain text.*verify-full"
    ) as caught:
        refuse(found)
    assert "could answer" not in str(caught.value)
    refuse([Finding(Level.WARN, "s", "something", "do it")])


@given(st.integers(0, 0o777), st.booleans())
def test_a_file_is_open_exactly_if_others_may_read_or_write_it(mode: int, production: bool) -> None:
    """The group is the operator's own affair; everybody is not."""
    found = file_concern("passwords", ".env", stat.S_IFREG | mode, production=production)
    assert (found is not None) == bool(mode & 0o006)
    if found is not None:
        assert found.level is (Level.FAIL if production else Level.WARN)
        assert "chmod o-rwx .env" in found.advice
