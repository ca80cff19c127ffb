"""PostgreSQL with the TimescaleDB extension, unpacked from Debian 13's packages by scripts/servers.sh."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.servers.origin import MissingServerError, Origin, given_url
from tests.servers.places import cache_directory
from tests.servers.postgres import Database, PostgresServer
from tests.servers.postgres_programs import Programs

__all__ = ["TimescaleServer"]

SETTINGS = {"shared_preload_libraries": "timescaledb", "timescaledb.telemetry_level": "off"}


class TimescaleServer(PostgresServer):
    """A server whose databases have the extension. Debian builds it under the Apache licence: no compression."""

    slug = "timescale"

    @classmethod
    def default(cls, *, settings: Mapping[str, str] | None = None) -> Self:
        """Return the developer's server if `STORAGE_TEST_TIMESCALE_URL` names one, else the unpacked one.

        Raises:
            MissingServerError: It was not fetched, or this user may not enter another root directory.
        """
        url = given_url("TIMESCALE")
        if url:
            return cls.from_url(url, "STORAGE_TEST_TIMESCALE_URL")
        root = cache_directory() / "timescale"
        if not (root / "complete").exists() or os.geteuid() != 0:
            remedy = (
                "needs root on Debian, where scripts/servers.sh fetches it; or set STORAGE_TEST_TIMESCALE_URL"
            )
            raise MissingServerError("TimescaleDB", remedy)
        binaries = next(root.glob("usr/lib/postgresql/*/bin"))
        programs = Programs(binaries, "Debian 13 postgresql-17-timescaledb", root=root)
        made = cls(programs, settings={**SETTINGS, **(settings or {})})
        made.origin = Origin("TimescaleDB", _version(binaries.parent), programs.obtained)
        return made

    def database(self, prefix: str = "", template: str = "template0", *, extension: bool = True) -> Database:
        """Create a database, with the extension unless it is to be found missing."""
        made = super().database(prefix, template)
        if extension:
            made.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        return made


def _version(installation: Path) -> str:
    """Return `2.19.3 on PostgreSQL 17`, as the names of the installed files have it."""
    libraries = sorted(installation.glob("lib/timescaledb-[0-9]*.so"))
    extension = libraries[-1].stem.removeprefix("timescaledb-") if libraries else "?"
    return f"{extension} on PostgreSQL {installation.name}"
