"""Passwords in a file, as libpq keeps them: `host:port:database:user:password` in `~/.pgpass`."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["find_password"]

_FIELD: Final = re.compile(r"((?:[^\\:]|\\.)*)(?::|$)")
_ESCAPED: Final = re.compile(r"\\(.)")


def find_password(
    file: Path, hosts: Sequence[str], ports: Sequence[int], database: str, user: str
) -> str | None:
    """Return the password of the first line that fits; None without one.

    As in libpq, a file that others may read is not used, a `*` fits everything, and the directory of a socket
    may be called localhost.
    """
    try:
        if not file.is_file() or stat.S_IMODE(file.stat().st_mode) & 0o077:
            return None
        lines = file.read_bytes().split(b"\n")
    except OSError:
        return None
    for host, port in zip(hosts, ports, strict=True):
        # libpq says localhost for the directory that was built into it alone, which another build does not know.
        names = {host, "localhost"} if host.startswith("/") else {host}
        for line in lines:
            found = _password_in(_text_of(line), (names, {str(port)}, {database}, {user}))
            if found is not None:
                return found
    return None


def _text_of(line: bytes) -> str:
    """Return a line as text; one that is not UTF-8, such as a comment of long ago, counts as empty."""
    try:
        return line.decode().rstrip("\r")
    except UnicodeDecodeError:
        return ""


def _password_in(line: str, wanted: Sequence[set[str]]) -> str | None:
    if line.startswith("#"):
        return None
    fields = [_ESCAPED.sub(r"\1", part) for part in _FIELD.findall(line)]
    if len(fields) < len(wanted) + 1:
        return None
    fits = all(given == "*" or given in names for given, names in zip(fields, wanted, strict=False))
    return fields[len(wanted)] if fits else None
