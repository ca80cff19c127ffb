"""Rules for every test run: what was not run is said aloud, and continuous integration does not pass over it.

A test may be skipped for want of the legacy data beside the checkout (marker `shared_data`) or of the one server
that continuous integration may lack, and a clause of the conformance kit is not asked of a backend that does not
declare the capability. Under `CI=true` any other skip is a failure: a test that nobody runs is a test that nobody
has. So every other server must be there in CI; elsewhere the tests that lack one are counted at the end.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Generator
from typing import Any, Final

import pytest

SHARED_DATA: Final = "shared_data"
NOT_ASKED: Final = "not asked:"
"""How the conformance kit begins the reason of a clause that a backend's capabilities rule out."""

NO_SERVER: Final = "no server: "
"""How the reason of a test begins that lacks a server; see tests/conftest.py."""

OPTIONAL_SERVER: Final = "no server, which CI may lack: "
"""The same for a server that cannot be had everywhere."""


def pytest_configure() -> None:
    """Let tests interrupt the programs that they start.

    A run in the background of a shell script ignores Ctrl-C, and every program that it starts would inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _reason(report: Any) -> str:
    skipped = report.longrepr
    return str(skipped[2] if isinstance(skipped, (tuple, list)) else skipped).removeprefix("Skipped: ")


def _allowed(report: Any) -> bool:
    expected_failure = hasattr(report, "wasxfail")
    meant = _reason(report).startswith((NOT_ASKED, OPTIONAL_SERVER))
    return expected_failure or meant or SHARED_DATA in report.keywords


def _refuse(report: Any) -> None:
    if report.skipped and os.environ.get("CI") == "true" and not _allowed(report):
        report.longrepr = f"skipped, which CI does not allow: {_reason(report)}"
        report.outcome = "failed"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip that CI does not allow into a failure."""
    report = yield
    _refuse(report)
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself as a whole."""
    report = yield
    if not hasattr(report, "keywords"):
        report.keywords = {}  # type: ignore[attr-defined]  # a collector's report has none; `_allowed` asks for them
    _refuse(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were left out for want of the legacy data, and of each server."""
    skipped = terminalreporter.stats.get("skipped", [])
    missing = [report for report in skipped if SHARED_DATA in report.keywords]
    if missing:
        terminalreporter.section("legacy data", yellow=True)
        terminalreporter.write_line(
            f"{len(missing)} test(s) on real legacy data were NOT run: {_reason(missing[0])}"
        )
    reasons = [_reason(report) for report in skipped]
    lacking = Counter(reason for reason in reasons if reason.startswith((NO_SERVER, OPTIONAL_SERVER)))
    if lacking:
        terminalreporter.section("servers that were not there", yellow=True)
        for reason, count in sorted(lacking.items()):
            terminalreporter.write_line(f"{count} test(s) were NOT run: {reason}")
