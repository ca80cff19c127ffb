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
    is called localhost.
    """
    try:
        if not file.is_file() or stat.S_IMODE(file.stat().st_mode) & 0o077:
            return None
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for host, port in zip(hosts, ports, strict=True):
        wanted = ("localhost" if host.startswith("/") else host, str(port), database, user)
        for line in lines:
            found = _password_in(line, wanted)
            if found is not None:
                return found
    return None


def _password_in(line: str, wanted: tuple[str, ...]) -> str | None:
    if line.startswith("#"):
        return None
    fields = [_ESCAPED.sub(r"\1", part) for part in _FIELD.findall(line)]
    if len(fields) < len(wanted) + 1:
        return None
    fits = all(given in ("*", value) for given, value in zip(fields, wanted, strict=False))
    return fields[len(wanted)] if fits else None
