"""Keeping secrets out of what people read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redaction import is_secret_name, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://bot:pw@db:5432/x", "postgresql://bot:***@db:5432/x"),
        ("postgresql+asyncpg://bot:p@w@db/x", "postgresql+asyncpg://bot:***@db/x"),
        ("redis://:pw@h/0", "redis://:***@h/0"),
        ("postgres://bot:p/w?d#1@h/x", "postgres://bot:***@h/x"),
        ("a=json:/x,b=server://u:pw@h/d", "a=json:/x,b=server://u:***@h/d"),
        ("host=db password=pw user=bot", "host=db password=*** user=bot"),
        ("host=db password='p w' user=bot", "host=db password=*** user=bot"),
        ("server://h/d?sslpassword=pw&x=1", "server://h/d?sslpassword=***&x=1"),
        ("https://h/d?api_key=p;w&x=1", "https://h/d?api_key=***&x=1"),
        ("server://h/d?password=p,w;x&sslmode=require", "server://h/d?password=***&sslmode=require"),
        (r"host=db password='p\'w x' user=bot", "host=db password=*** user=bot"),
        ('host=db password="p w" user=bot', "host=db password=*** user=bot"),
        ("postgresql://bot:p w@db/x", "postgresql://bot:***@db/x"),
        ("postgresql://bot:p\n/w d@db/x", "postgresql://bot:***@db/x"),
        ("postgresql://db:5432/x", "postgresql://db:5432/x"),
        ("/var/lib/bot@home/a.db", "/var/lib/bot@home/a.db"),
        ("sqlite:////var/a.db", "sqlite:////var/a.db"),
    ],
)
def test_passwords_go_and_the_rest_stays(text: str, expected: str) -> None:
    """URLs and parameters lose their secrets and nothing else."""
    assert redact(text) == expected


@pytest.mark.parametrize(
    "name",
    ["STORAGE_DB_PASSWORD", "password", "STORAGE_DB_SSLPASSWORD", "API_KEY", "AUTH_TOKEN", "client_secret"],
)
def test_names_of_secrets_are_recognised(name: str) -> None:
    """Values of these are never shown."""
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["STORAGE_URL", "STORAGE_PASSIVE", "STORAGE_KEYSPACE", "STORAGE_COMPASS", "readers"]
)
def test_other_names_are_not(name: str) -> None:
    """Hiding too much would make `gateway config` useless."""
    assert not is_secret_name(name)


PASSWORDS = st.text(
    st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1, max_size=20
)


@given(PASSWORDS)
def test_no_password_of_any_shape_survives_in_a_url(password: str) -> None:
    """Whatever a password is made of, encoded or not, it is not in what is shown."""
    marked = f"\N{SNOWMAN}{password}\N{SNOWMAN}"
    assert "\N{SNOWMAN}" not in redact(f"postgresql://bot:{marked}@db.example/x")


@given(PASSWORDS.filter(lambda text: not {"&", " ", "'", '"'} & set(text)))
def test_no_password_of_any_shape_survives_in_a_parameter(password: str) -> None:
    """Only what ends a parameter ends the password in it."""
    marked = f"\N{SNOWMAN}{password}\N{SNOWMAN}"
    assert "\N{SNOWMAN}" not in redact(f"postgresql://db.example/x?password={marked}&sslmode=require")
