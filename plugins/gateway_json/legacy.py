"""The legacy source `positions`: a directory of `position_*.json` files, one a market.

The bots agree on the idea and not on the names: `position_side` or `side`, `position_open` or `is_open`. What
a `Position` has no field for goes into its `extra`; nothing is dropped. Damaged files do occur in the field
and are reported, each with a sentence. The source is only ever read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from gateway.errors import InvalidRecordError
from gateway.hookspecs import hookimpl
from gateway.legacy import LegacyItem, LegacySource
from gateway.records.codec import codec_of, from_micros, make_record
from gateway.records.trading import POSITIONS

__all__ = ["POSITION_FILES", "gateway_legacy_sources", "read_positions"]

_LARGEST: Final = 8 * 2**20
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "condition_id": ("condition_id",),
    "market_name": ("market_name", "market"),
    "side": ("position_side", "side"),
    "entry_price": ("entry_price",),
    "amount": ("amount", "size"),
    "trailing_stop_price": ("trailing_stop_price",),
    "is_open": ("position_open", "is_open"),
    "opened_at": ("entry_time", "opened_at"),
    "closed_at": ("closed_at",),
    "close_reason": ("close_reason",),
    "exit_price": ("exit_price",),
    "pnl": ("pnl",),
}
"""Names that older bots give to a field, the one to believe first."""
_TIMES: Final = ("opened_at", "closed_at")


def read_positions(path: Path) -> Iterator[LegacyItem]:
    """Yield every file of a directory in the order of names: a position, or why it is none.

    One file works, too.

    Raises:
        InvalidRecordError: There is no such directory, or no position file in it.
    """
    if path.is_file():
        return iter([_item(path)])
    if not path.is_dir():
        raise InvalidRecordError(
            f"{path} does not exist; name the directory that holds the position_*.json files"
        )
    files = sorted(path.iterdir())
    if not any(_is_position(file) for file in files):
        raise InvalidRecordError(f"{path} holds no position_*.json files; name the directory that does")
    return (_item(file) for file in files)


POSITION_FILES = LegacySource(
    name="positions",
    summary="Directory of position_*.json files, one a market, as older bots kept them",
    read=read_positions,
)


@hookimpl
def gateway_legacy_sources() -> tuple[LegacySource, ...]:
    """Bring the directory of position files."""
    return (POSITION_FILES,)


def _is_position(path: Path) -> bool:
    return path.name.startswith("position_") and path.suffix == ".json"


def _item(path: Path) -> LegacyItem:
    problem = _objection(path)
    if problem is not None:
        return LegacyItem(path.name, problem=problem)
    try:
        return _parsed(path.name, _content(path))
    except (OSError, ValueError, InvalidRecordError) as error:
        return LegacyItem(path.name, problem=str(error))


def _objection(path: Path) -> str | None:
    """Return why a file is not worth reading; None if it is."""
    if path.is_dir():
        return "is a directory; import it on its own if it holds positions"
    if path.suffix == ".tmp":
        return "was left by an interrupted write; if it holds a position, rename it to position_<id>.json"
    if not _is_position(path):
        return "is not named position_*.json, so it is no position file"
    size = path.stat().st_size
    if size == 0:
        return "is empty: its write was interrupted; take the position from the exchange or a backup"
    return f"is {size} bytes long, far more than a position needs" if size > _LARGEST else None


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"is not whole JSON ({error}): its write was interrupted, or it is damaged"
        ) from error
    if not isinstance(content, dict):
        raise ValueError("holds no JSON object, so it is no position")  # noqa: TRY004  content, not a caller's type
    return content


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _parsed(origin: str, content: dict[str, Any]) -> LegacyItem:
    rest = dict(content)
    fields = {name: value for name, keys in _NAMES.items() if (value := _take(rest, keys)) is not None}
    at = _written_at(rest, fields)
    for name in _TIMES:
        if name in fields:
            fields[name] = _moment(name, fields[name])
    fields.setdefault("opened_at", at)
    _settle_timestamps(rest, at, opened_at=fields["opened_at"])
    record = make_record(POSITIONS, {**fields, "extra": rest or None})
    codec_of(POSITIONS).encode(record)  # finds now, with the file's name, what no store could keep exactly
    return LegacyItem(origin, record=record, at=at)


def _take(rest: dict[str, Any], keys: tuple[str, ...]) -> Any:
    """Take a field out of the rest under the first of its names; another name's other value stays."""
    found = next((rest[key] for key in keys if rest.get(key) is not None), None)
    for key in keys:
        if key in rest and (rest[key] is None or rest[key] == found):
            del rest[key]
    return found


def _written_at(rest: Mapping[str, Any], fields: Mapping[str, Any]) -> datetime:
    """Return when the file was written, by the first of its times."""
    given = {"timestamp": rest.get("timestamp"), "timestamp_iso": rest.get("timestamp_iso"), **fields}
    for name in ("timestamp", "timestamp_iso", "opened_at"):
        if given.get(name) is not None:
            return _not_ahead(_moment(name, given[name]))
    raise ValueError("has no timestamp, so it cannot be told from newer positions; add one, in Unix seconds")


def _not_ahead(moment: datetime) -> datetime:
    """Refuse a time to come: its version would win against what the bot writes from now on."""
    if moment > datetime.now(UTC) + timedelta(days=1):
        raise ValueError(f"its time {moment.isoformat()} lies in the future; correct it")
    return moment


def _moment(name: str, value: object) -> datetime:
    """Return Unix seconds or ISO 8601 as an aware time, to the microsecond."""
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise ValueError(f"its {name} {value!r} has no time zone; end it in Z if it is UTC")
        return moment
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"its {name} is neither Unix seconds nor ISO 8601")
    try:
        # By its shortest representation, as money is: the digits that the bot wrote, not those of the binary
        # float.
        return from_micros(round(Decimal(str(value)) * 1_000_000))
    except OverflowError as error:
        raise ValueError(f"its {name} {value!r} lies beyond the calendar; is it in milliseconds?") from error


def _settle_timestamps(rest: dict[str, Any], at: datetime, *, opened_at: datetime) -> None:
    """Drop timestamps that the record or its version holds already; keep those that say something else."""
    text = rest.get("timestamp_iso")
    if isinstance(text, str) and abs(_moment("timestamp_iso", text) - at) < timedelta(seconds=1):
        del rest["timestamp_iso"]
    if at == opened_at:
        rest.pop("timestamp", None)
