"""Settings: how URLs are read, what fills their gaps, how many connections there are, and what is never shown."""

from __future__ import annotations

import stat
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from gateway.errors import ConfigurationError
from gateway_postgres.address import Login, parse_address
from gateway_postgres.passfile import find_password
from gateway_postgres.profiles import PROFILES, PoolSize, profile_of, size_of
from gateway_postgres.settings import PostgresSettings
from gateway_postgres.tls import MODES, Tls, tls_of

NOTHING: dict[str, str] = {"PGPASSFILE": "/nowhere"}
PLAIN = Login()


def _password(url: str, login: Login, environ: dict[str, str]) -> str | None:
    return parse_address(url, login, environ).password


def test_a_url_says_everything() -> None:
    """Host, port, user, password and database of a URL are used as they stand."""
    found = parse_address("postgresql://bob:s3cret@db.example:5433/bots?sslmode=require", PLAIN, NOTHING)
    assert (found.hosts, found.ports, found.user, found.password, found.database) == (
        ("db.example",),
        (5433,),
        "bob",
        "s3cret",
        "bots",
    )
    assert found.tls.mode == "require"


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2", "POSTGRES"]
)
def test_every_spelling_of_the_scheme_is_read(scheme: str) -> None:
    """Names of drivers, which SQLAlchemy's URLs hold, are read over."""
    assert parse_address(f"{scheme}://u@h/d", PLAIN, NOTHING).hosts == ("h",)


@given(
    user=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20),
    password=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20),
    database=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=20),
)
def test_percent_encoded_parts_come_back(user: str, password: str, database: str) -> None:
    """Whatever characters a name or a password has, percent-encoding brings it through."""
    url = f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@h:1/{quote(database, safe='')}"
    found = parse_address(url, PLAIN, NOTHING)
    assert (found.user, found.password, found.database) == (user, password, database)


def test_gaps_are_filled_as_libpq_fills_them() -> None:
    """Host, port, user, password, database and TLS come from libpq's variables where the URL is silent."""
    environ = {
        **NOTHING,
        "PGHOST": "db",
        "PGPORT": "6000",
        "PGUSER": "ann",
        "PGPASSWORD": "pw",
        "PGDATABASE": "d",
        "PGSSLMODE": "require",
    }
    found = parse_address("postgresql://", PLAIN, environ)
    assert str(found) == "ann@db:6000/d"
    assert (found.password, found.tls.mode) == ("pw", "require")


def test_the_url_wins_over_settings_and_variables() -> None:
    """A password in the URL is used before the setting's, and that before the variable's."""
    environ = {"PGPASSWORD": "third"}
    login = Login("second")
    assert _password("postgresql://u:first@h/d", login, environ) == "first"
    assert _password("postgresql://u@h/d", login, environ) == "second"
    assert _password("postgresql://u@h/d", PLAIN, environ) == "third"


def test_without_a_database_the_users_name_is_taken() -> None:
    """As in libpq, the database is called like the user where nothing says otherwise."""
    assert parse_address("postgresql://ann@h", PLAIN, NOTHING).database == "ann"


@pytest.mark.parametrize(
    ("url", "hosts", "ports"),
    [
        ("postgresql://u@a,b:6000/d", ("a", "b"), (5432, 6000)),
        ("postgresql://u@a:1,b:2/d", ("a", "b"), (1, 2)),
        ("postgresql://u@/d?host=a,b&port=7", ("a", "b"), (7, 7)),
        ("postgresql://u@[::1]:6000/d", ("::1",), (6000,)),
        ("postgresql://u@%2Frun%2Fpostgresql/d", ("/run/postgresql",), (5432,)),
        ("postgresql:///d?host=/run/postgresql&user=u", ("/run/postgresql",), (5432,)),
        ("postgresql://u@/d", ("localhost",), (5432,)),
    ],
)
def test_hosts_of_every_form_are_read(url: str, hosts: tuple[str, ...], ports: tuple[int, ...]) -> None:
    """Several hosts, addresses of IPv6 and directories of sockets are all hosts."""
    found = parse_address(url, PLAIN, NOTHING)
    assert (found.hosts, found.ports) == (hosts, ports)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://u:geheim@h/d", "postgresql://user"),
        ("/var/lib/geheim", "postgresql://user"),
        ("postgresql://u:ge/heim@h/d", "percent-encode"),
        ("postgresql://u:ge@h:geheim/d", "number from 1 to 65535"),
        ("postgresql://u:geheim@h:70000/d", "number from 1 to 65535"),
        ("postgresql://u:geheim@h/d?sslmode=always", "TLS mode"),
        ("postgresql://u:geheim@h/d?channel_binding=require", "channel_binding"),
        ("postgresql://u:geheim@a,b,c/d?port=1,2", "3 hosts and 2 ports"),
        ("postgresql://u:geheim@h/d?target_session_attrs=best", "target_session_attrs"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(url: str, words: str) -> None:
    """The sentence says what is wrong, and holds no piece of the password."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        PostgresSettings(url=url).endpoints()
    assert "heim" not in str(caught.value)


def test_a_store_needs_an_address() -> None:
    """Without a URL there is no place to look, and the sentence names the variables."""
    with pytest.raises(ConfigurationError, match="STORAGE_POSTGRES_URL"):
        PostgresSettings().address()
    assert PostgresSettings().endpoints() == ()


def test_endpoints_say_what_the_production_rules_ask() -> None:
    """Host, user, password, and whether the connection is encrypted and the server verified, for both URLs."""
    settings = PostgresSettings(
        url="postgresql://bot:one@a,b/d?sslmode=require",
        admin_url="postgresql://boss@/d?host=/run/postgresql",
        admin_password=SecretStr("two"),
    )
    first, second, socket = settings.endpoints()
    assert [(item.host, item.user, item.password) for item in (first, second, socket)] == [
        ("a", "bot", "one"),
        ("b", "bot", "one"),
        (None, "boss", "two"),
    ]
    assert [(item.encrypted, item.verified) for item in (first, socket)] == [(True, False), (False, False)]


def test_a_client_certificate_authenticates(tmp_path: Path) -> None:
    """With a certificate of its own the client needs no password."""
    cert, key = tmp_path / "c.pem", tmp_path / "k.pem"
    for file in (cert, key):
        file.touch()
    settings = PostgresSettings(
        url="postgresql://bot@h/d", tls="verify-full", tls_cert=str(cert), tls_key=str(key)
    )
    (found,) = settings.endpoints()
    assert (found.authenticated, found.verified) == (True, True)


def test_the_operator_connects_as_the_bot_unless_told() -> None:
    """Without an admin URL the operator's commands use the bot's; the bot's password is never used for another."""
    settings = PostgresSettings(url="postgresql://bot@h/d", password=SecretStr("one"))
    assert settings.admin_address(NOTHING) == settings.address(NOTHING)
    other = settings.model_copy(update={"admin_url": "postgresql://boss@h/d"})
    assert other.admin_address(NOTHING).password is None


@pytest.mark.parametrize("mode", MODES)
def test_both_drivers_get_the_same_tls_mode(mode: str, tmp_path: Path) -> None:
    """Each mode reaches asyncpg and libpq unchanged, with its files."""
    ca = tmp_path / "ca file.pem"
    ca.touch()
    tls = tls_of(mode, ca=str(ca))
    assert f"sslmode={mode}" in tls.dsn()
    assert "ca+file.pem" in tls.dsn()
    assert tls.libpq_arguments() == {"sslmode": mode, "sslrootcert": str(ca)}
    assert (tls.encrypted, tls.verified) == (
        mode not in {"disable", "prefer"},
        mode in {"verify-ca", "verify-full"},
    )


def test_authorities_mean_full_verification(tmp_path: Path) -> None:
    """Who names authorities to trust and no mode gets the strictest one, not one that never looks at them."""
    ca = tmp_path / "ca.pem"
    ca.touch()
    assert tls_of(None, ca=str(ca)).mode == "verify-full"
    assert tls_of(None) == Tls("prefer")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tls": "require", "tls_ca": "/nowhere/ca.pem"}, "tls_ca: there is no file"),
        ({"tls": "require", "tls_key": "/nowhere/key.pem"}, "without its certificate"),
        ({"tls": "verify-ca", "tls_ca": "system"}, "tls=verify-full"),
        ({"tls": "disable"}, "keep one of the two"),
    ],
)
def test_tls_settings_that_contradict_are_refused(options: dict[str, str], words: str) -> None:
    """Files that are not there, and modes that say different things, are named before anything connects."""
    url = "postgresql://u@h/d" + ("?sslmode=require" if options["tls"] == "disable" else "")
    with pytest.raises(ConfigurationError, match=words):
        PostgresSettings.model_validate({"url": url, **options}).endpoints()


def test_the_machines_own_authorities_can_be_trusted() -> None:
    """`system` makes a context that demands a certificate for the very host."""
    context = tls_of("verify-full", ca="system").context()
    assert context is not None
    assert context.check_hostname
    assert tls_of("require").context() is None


def test_no_password_in_any_text() -> None:
    """Settings and addresses show neither passwords of URLs nor those of fields."""
    settings = PostgresSettings(
        url="postgresql://bot:geheim1@h/d",
        admin_url="postgresql://boss:geheim2@h/d?password=geheim3",
        password=SecretStr("geheim4"),
        admin_password=SecretStr("geheim5"),
    )
    address = settings.address()
    texts = [repr(settings), str(settings), repr(address), str(address), repr(settings.endpoints())]
    assert not [text for text in texts if "geheim" in text]


def test_settings_written_down_are_read_again() -> None:
    """A process that is handed the settings as JSON has the passwords too."""
    settings = PostgresSettings(url="postgresql://bot@h/d", password=SecretStr("geheim"))
    assert PostgresSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pool_size", -1),
        ("max_overflow", 1001),
        ("connect_timeout", 0),
        ("command_timeout", float("inf")),
        ("partitions_ahead", 0),
        ("statement_cache_size", -1),
        ("role_prefix", 'x"; DROP'),
        ("profile", "huge"),
        ("pooler", "perhaps"),
        ("partition_interval", "hour"),
    ],
)
def test_values_out_of_bounds_are_refused(field: str, value: object) -> None:
    """Every setting has bounds."""
    with pytest.raises(ValidationError):
        PostgresSettings.model_validate({"url": "postgresql://u@h/d", field: value})


@pytest.mark.parametrize(
    ("environ", "profile"),
    [
        ({}, "persistent"),
        ({"RAILWAY_ENVIRONMENT": "production"}, "serverless"),
        ({"AWS_LAMBDA_FUNCTION_NAME": "f"}, "serverless"),
        ({"VERCEL": ""}, "persistent"),
    ],
)
def test_the_profile_fits_the_platform(environ: dict[str, str], profile: str) -> None:
    """Platforms that freeze processes keep no connections; a chosen profile wins over what it looks like."""
    assert profile_of("auto", environ) == profile
    assert profile_of("large", environ) == "large"


def test_numbers_replace_those_of_the_profile() -> None:
    """The profiles have the documented sizes, and each number can be replaced; a pool is never empty."""
    assert (PROFILES["persistent"], PROFILES["large"]) == (PoolSize(5, 10), PoolSize(10, 20))
    assert PROFILES["serverless"].kept == 0
    assert size_of("persistent", 2, None) == PoolSize(2, 10)
    assert size_of("persistent", None, 0) == PoolSize(5, 0)
    assert size_of("large", 0, 0).total == 1


def test_the_password_file_is_read_as_libpq_reads_it(tmp_path: Path) -> None:
    """The first line that fits counts, with stars, comments and escaped colons."""
    file = tmp_path / "pgpass"
    file.write_text("# a comment\nother:5432:d:u:no\nh:5432:d:u:a\\:b\\\\c\n*:*:*:*:star\n")
    file.chmod(stat.S_IRUSR)
    assert find_password(file, ["h"], [5432], "d", "u") == "a:b\\c"
    assert find_password(file, ["h"], [6000], "d", "u") == "star"
    assert find_password(tmp_path / "none", ["h"], [5432], "d", "u") is None
    assert _password("postgresql://u@h/d", PLAIN, {"PGPASSFILE": str(file)}) == "a:b\\c"


def test_a_password_file_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    """As libpq does: a secret that everybody can read is none."""
    file = tmp_path / "pgpass"
    file.write_text("*:*:*:*:star\n")
    file.chmod(0o644)
    assert find_password(file, ["h"], [5432], "d", "u") is None
