"""What must not be in production: default or missing passwords, plain text to other machines, files open to all.

Everything here is a pure decision over facts. `gateway.config` gathers the facts and asks before a store is
opened: what is a failure here is refused in production, and is a warning anywhere else.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Final

from gateway.errors import ConfigurationError
from gateway.findings import Finding, Level
from gateway.upkeep import Endpoint

__all__ = ["endpoint_concerns", "file_concern", "is_default_password", "is_remote", "refuse"]

_DEFAULTS: Final = frozenset(
    # A text, because a list of this length would fill three pages.
    """
    postgres postgresql postgrespassword postgrespass postgres123 timescale timescaledb pgadmin pgbouncer citus
    password passwort passwd pass pwd passw0rd pssw0rd p4ssw0rd password1 password12 password123 password1234
    mypassword yourpassword yourpasswordhere yourstrongpassword yoursecurepassword strongpassword securepassword
    mysecretpassword secretpassword supersecret supersecretpassword verysecret dbpassword databasepassword
    userpassword adminpassword rootpassword newpassword somepassword apassword thepassword examplepassword
    testpassword devpassword defaultpassword insertpasswordhere pw secret mysecret topsecret changeme changeit
    change changethis changemeplease changemenow replaceme replacethis fixme placeholder redacted hidden
    admin admin123 administrator root toor user username dbuser guest test test123 testing tester example sample
    demo default dev devel development local localhost database db mydb gateway storage gatewayapp gatewayadmin
    gatewayreadonly trading trader bot tradingbot aitrader aitraderpassword aitraderpass shrinkage infobot
    letmein welcome welcome1 qwerty qwerty123 qwertyuiop asdf asdfgh abc123 abcd1234 iloveyou dragon monkey
    12 123 1234 12345 123456 1234567 12345678 123456789 1234567890 123123
    654321 foo bar foobar hunter2 correcthorsebatterystaple none null
    пароль секрет админ
    """.split()  # noqa: SIM905 - see above
)
"""Well-known passwords without case and punctuation: what images, tutorials and our own examples use."""

_RANDOM: Final = (
    "make a random one, for example with `openssl rand -hex 32`, and give it to the server and the bot"
)
_ENCRYPT: Final = (
    "ask for encryption and for proof of the server's identity in the store's settings (for PostgreSQL "
    "`sslmode=verify-full` in the URL)"
)


def is_default_password(password: str, user: str | None = None) -> bool:
    """Tell whether anybody would try this password first: a well-known one, or the user's own name.

    Case and punctuation do not count: `STRONG_PASSWORD`, `<password>` and `${PASSWORD}` are placeholders that somebody
    forgot to fill in.
    """
    if len(set(password.casefold())) <= 1:
        return True  # one sign again and again, such as asterisks copied from a listing
    plain = _plain(password)
    return plain in _DEFAULTS or bool(plain and user and plain == _plain(user))


def _plain(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def is_remote(host: str | None) -> bool:
    """Tell whether what is sent to a host can leave this machine.

    A socket file and the loopback do not; a private network does, and any name but `localhost` may.
    """
    name = (host or "").strip().strip("[]").rstrip(".").casefold()
    if not name or name.startswith(("/", "@")) or name == "localhost" or name.endswith(".localhost"):
        return False
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return True
    mapped = getattr(address, "ipv4_mapped", None)
    return not bool((mapped or address).is_loopback)


def endpoint_concerns(subject: str, endpoints: Iterable[Endpoint], *, production: bool) -> list[Finding]:
    """Return what is not safe about where a store connects to, each concern once.

    Args:
        subject: What the findings speak of, such as `store postgres`.
        endpoints: Where it connects to.
        production: Whether a concern that puts data at risk is a failure; elsewhere it is a warning.
    """
    found = (concern for endpoint in endpoints for concern in _concerns(subject, endpoint))
    return [_weighed(concern, production=production) for concern in dict.fromkeys(found)]


def _concerns(subject: str, endpoint: Endpoint) -> Iterator[Finding]:
    remote = is_remote(endpoint.host)
    where = f"{endpoint.host or 'this machine'}{f' as {endpoint.user}' if endpoint.user else ''}"
    if endpoint.password:
        if is_default_password(endpoint.password, endpoint.user):
            sentence = f"the password for {where} is a well-known default, or the user's own name"
            yield Finding(Level.FAIL, subject, sentence, _RANDOM)
    elif remote and not endpoint.authenticated:
        sentence = f"there is no password for {where}, and nothing else proves who connects"
        yield Finding(Level.FAIL, subject, sentence, _RANDOM)
    if remote and not endpoint.encrypted:
        sentence = f"what is sent to {where}, passwords and trades, may go as plain text through the network"
        yield Finding(Level.FAIL, subject, sentence, _ENCRYPT)
    elif remote and not endpoint.verified:
        sentence = f"the connection to {where} is encrypted, but any server could answer it"
        yield Finding(Level.WARN, subject, sentence, _ENCRYPT)


def file_concern(subject: str, path: str, mode: int, *, production: bool) -> Finding | None:
    """Return what is not safe about a file or directory that other users must not read; None if nothing is.

    Args:
        subject: What the finding speaks of.
        path: Where it is.
        mode: Its mode, as `stat` gives it.
        production: Whether this is a failure; elsewhere it is a warning.
    """
    if not mode & (stat.S_IROTH | stat.S_IWOTH):
        return None
    what = "written" if mode & stat.S_IWOTH else "read"
    sentence = f"{path} may be {what} by every user of this machine (mode {stat.S_IMODE(mode):03o})"
    found = Finding(Level.FAIL, subject, sentence, f"chmod o-rwx {path}")
    return _weighed(found, production=production)


def _weighed(concern: Finding, *, production: bool) -> Finding:
    if production or concern.level is not Level.FAIL:
        return concern
    return Finding(
        Level.WARN, concern.subject, concern.sentence, f"production refuses this; {concern.advice}"
    )


def refuse(concerns: Iterable[Finding]) -> None:
    """Refuse to go on if any concern is a failure.

    Raises:
        ConfigurationError: Names each of them, and what to do.
    """
    grave = [f"{one.subject}: {one.sentence}; {one.advice}" for one in concerns if one.level is Level.FAIL]
    if grave:
        raise ConfigurationError(f"this is not safe in production. {'. '.join(grave)}")
