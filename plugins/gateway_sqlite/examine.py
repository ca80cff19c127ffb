"""A close look at a SQLite file for `gateway doctor`: what its health does not weigh."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backend import OpenContext
from gateway.errors import ConfigurationError, StoreError
from gateway.findings import Finding, fail, ok, warn
from gateway_sqlite.errors import translated
from gateway_sqlite.files import log_of
from gateway_sqlite.maintain import LONG_LOG
from gateway_sqlite.probe import connect_to_look
from gateway_sqlite.settings import SqliteSettings, store_path

__all__ = ["FileFacts", "examine", "judge", "network_in"]

_MOUNTS: Final = Path("/proc/self/mounts")

_EMPTY_SHARE: Final = 0.5
_EMPTY_BYTES: Final = 64 * 1024 * 1024
"""A file that is half empty is worth a word from this size on."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is looked at.

    Attributes:
        bytes: Size of the file.
        free: Bytes in it that nothing uses.
        log: Bytes of its write-ahead log.
        on_network: Name of the file system if it is one over a network; empty otherwise.
    """

    bytes: int
    free: int
    log: int
    on_network: str = ""


def examine(context: OpenContext) -> list[Finding]:
    """Return what a close look found. A file that cannot be read is a finding."""
    settings = context.settings
    if not isinstance(settings, SqliteSettings):
        raise ConfigurationError("the sqlite backend is opened with SqliteSettings")
    subject = f"store {context.instance}"
    path = store_path(settings, context.data_dir)
    if not path.is_file():
        return []  # which opening it says
    try:
        with translated(context.instance):
            return judge(subject, _facts(path, settings))
    except StoreError as error:
        return [fail(f"{subject}: file", str(error), "")]


def judge(subject: str, facts: FileFacts) -> list[Finding]:
    """Return what the facts mean."""
    findings = []
    if facts.log > LONG_LOG:
        findings.append(
            warn(
                f"{subject}: log",
                f"the write-ahead log has grown to {_mib(facts.log)}",
                "run `gateway maintain`; if it stays, look for a process that keeps a transaction open",
            )
        )
    else:
        findings.append(ok(f"{subject}: log", f"{_mib(facts.log)} of write-ahead log"))
    if facts.free >= _EMPTY_BYTES and facts.free > _EMPTY_SHARE * facts.bytes:
        findings.append(
            warn(
                f"{subject}: space",
                f"{_mib(facts.free)} of {_mib(facts.bytes)} are empty",
                "new rows will use them; to give them back, stop the bots and run `sqlite3 FILE VACUUM`",
            )
        )
    else:
        findings.append(ok(f"{subject}: space", f"{_mib(facts.bytes)}, {_mib(facts.free)} of it empty"))
    if facts.on_network:
        findings.append(
            warn(
                f"{subject}: disk",
                f"the file lies on a network file system ({facts.on_network}), which may not share it safely",
                "move it to a local disk",
            )
        )
    return findings


def _facts(path: Path, settings: SqliteSettings) -> FileFacts:
    with closing(connect_to_look(path, settings.busy_timeout)) as connection:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        (page,) = connection.execute("PRAGMA page_size").fetchone()
    log = log_of(path)
    return FileFacts(
        path.stat().st_size, free * page, log.stat().st_size if log.exists() else 0, _network(path)
    )


def _network(path: Path) -> str:
    """Return the file system of a path if it is one over a network, as Linux lists them; empty if it is not known."""
    try:
        return network_in(_MOUNTS.read_text(encoding="utf-8"), path.resolve())
    except (OSError, UnicodeDecodeError):
        return ""


def network_in(mounts: str, path: Path) -> str:
    """Return the file system of a path if it is one over a network; empty otherwise.

    Args:
        mounts: The table of what is mounted, as in `/proc/self/mounts`.
        path: Absolute, without links.
    """
    best, kind = "", ""
    for line in mounts.splitlines():
        parts = line.split()
        place = parts[1].replace("\\040", " ") if len(parts) > 2 else ""
        if place and path.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, parts[2]
    return kind if kind.startswith(("nfs", "cifs", "smb", "fuse.sshfs", "ceph", "glusterfs")) else ""


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
