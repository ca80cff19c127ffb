"""Values at the limits of each storage type, and those that stores are known to bend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

__all__ = ["AMOUNTS", "AWKWARD", "DOCUMENTS", "FLOATS", "MOMENTS", "TEXTS", "WHOLE"]

AMOUNTS = [
    "0", "1", "-1", "0.1", "-0.1", "1e-30", "-1e-30", "100000000000000000000000000000", "9007199254740993",
    "0.30000000000000000000000000001", "9" * 30 + "." + "9" * 30, "-" + "9" * 30 + "." + "9" * 30,
    "123456789012345678901234567890.000000000000000000000000000001", "0.00000001", "67123.45000001",
]  # fmt: skip
MOMENTS = [
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 59, 59, 999_999, tzinfo=UTC),
    datetime(2026, 3, 29, 2, 30, 0, 123_456, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=2))),
    datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=1))),
    datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
    datetime(2262, 4, 11, 23, 47, 16, 854_776, tzinfo=UTC),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
]
TEXTS = [
    "", " ", " leading and trailing ", "\t\n\r\n", "007", "1e5", "1.0", "true", "null", "NULL", "None", "{}",
    "'; drop table x; --", '"quoted"', "back\\slash", "%percent_", "caf\u00e9", "cafe\u0301", "\ufb01\u212b",
    "\u0440\u044b\u043d\u043e\u043a", "\u05e9\u05dc\u05d5\u05dd \u202ertl\u202c",
    "\u0627\u0644\u0633\u0648\u0642",
    "\u5e02\u5834", "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\ufeffbom", "\uffff",
    "\U0010ffff", "\x01\x1f\x7f\x85\u2028", "x" * 1024, "\U0001f600" * 1024,
]  # fmt: skip
FLOATS = [
    0.0, 1.0, -1.0, 0.1, 0.1 + 0.2, 1 / 3, 5e-324, -5e-324, 2.2250738585072014e-308, 1.7976931348623157e308,
    -1.7976931348623157e308, 1e22, 9007199254740993.0, 123456789.123456789, 1e-7, 16777217.0,
]  # fmt: skip
WHOLE = [0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, -(2**63)]
DOCUMENTS: list[dict[str, Any]] = [
    {}, {"": ""}, {"a": None}, {"a": {}}, {"a": []}, {"a": [[], {}, [None]]}, {"b": 1, "a": 2},
    {"1": 1, "01": 2, "10": 3}, {"n": 1}, {"n": 1.0}, {"n": "1"}, {"n": True}, {"n": 0.1 + 0.2},
    {"n": 5e-324}, {"n": 1e22}, {"n": 2**63 - 1}, {"wei": 10**24}, {"caf\u00e9": 1,
    "cafe\u0301": 2, "\U0001f600": 3},
    {"text": "caf\u00e9 cafe\u0301 \U0001f600 \u2028 / \\ \" \x1f"}, {"when": "2026-03-01T12:00:00Z"},
    {"deep": {"deeper": {"deepest": [1, [2, [3, [4, {"end": None}]]]]}}}, {"money": "1.10"},
]  # fmt: skip
AWKWARD = [
    "../up", "..", ".", "/", "a/b", "a\\b", "a", "A", "CON", "nul.txt", "a ", " a", "%2e", "a:b",
    "a\nb", "-rf", "*?",
]  # fmt: skip
"""Keys that a store which makes file names of them, or compares without regard to case, gets wrong."""
