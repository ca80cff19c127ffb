"""Rules for every test run: what was not run is said aloud, and continuous integration does not pass over it.

A test may be skipped for want of the legacy data beside the checkout (marker `shared_data`), and a clause of
the conformance kit is not asked of a backend that does not declare the capability. Under `CI=true` any other
skip is a failure: a test that nobody runs is a test that nobody has.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any, Final

import pytest

SHARED_DATA: Final = "shared_data"
NOT_ASKED: Final = "not asked:"
"""How the conformance kit begins the reason of a clause that a backend's capabilities rule out."""


def _reason(report: Any) -> str:
    skipped = report.longrepr
    return str(skipped[2] if isinstance(skipped, tuple) else skipped).removeprefix("Skipped: ")


def _allowed(report: Any) -> bool:
    expected_failure = hasattr(report, "wasxfail")
    return expected_failure or SHARED_DATA in report.keywords or _reason(report).startswith(NOT_ASKED)


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
    """Say how many tests were left out for want of the legacy data."""
    missing = [
        report for report in terminalreporter.stats.get("skipped", []) if SHARED_DATA in report.keywords
    ]
    if missing:
        terminalreporter.section("legacy data", yellow=True)
        terminalreporter.write_line(
            f"{len(missing)} test(s) on real legacy data were NOT run: {_reason(missing[0])}"
        )
