"""How the processes of pytest-xdist share the tests, so that they end together and start few servers.

A file, or a class of one, stays whole on one worker, so that what it sets up is set up once. All tests on QuestDB
are one share: that server costs more than any other, and more while nobody uses it than others do in use. The
shares that last longest are handed out first, because one that begins last is waited for by everybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import pytest

__all__ = ["LONGEST", "in_order", "share_of"]

LONGEST: Final = (
    "questdb",
    "tests/demo/test_demo_run.py",
    "tests/bots/test_mirror_faults.py",
    "tests/crash/test_crash_rounds.py",
    "tests/cli/test_cli_mirror.py",
    "tests/bots/test_cache_reads.py",
    "tests/plugins/redis/test_redis_bots.py",
    "tests/bots/test_series.py",
    "tests/bots/test_crash.py",
    "tests/plugins/postgres/test_postgres_schema.py",
    "tests/bots/test_production.py",
    "tests/bots/test_cache_processes.py",
    "tests/contrib/test_plugin_template.py",
)
"""Shares that take longer than their number of tests lets one think, the longest first."""


def share_of(nodeid: str) -> str:
    """Return the share that a test belongs to: `questdb`, or its file, with the class if it is in one."""
    if "questdb" in nodeid.lower():
        return "questdb"
    return nodeid.partition("[")[0].rpartition("::")[0]


def in_order(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests with the longest shares first, each in the order in which it was found."""
    sizes = Counter(share_of(item.nodeid) for item in items)
    shares = [*LONGEST, *(share for share, _ in sizes.most_common() if share not in LONGEST)]
    places = {share: at for at, share in enumerate(shares)}
    return sorted(items, key=lambda item: places[share_of(item.nodeid)])
