"""Backends that bend values on their way in."""

from __future__ import annotations

import json
import struct
import unicodedata
from decimal import Decimal
from typing import Any, ClassVar

from gateway.conformance.kinds import PROBE_LOG
from gateway.errors import WriteRejectedError
from gateway.records.codec import Value, from_micros
from gateway.records.row import Row
from gateway.records.types import StorageType
from tests.conformance.broken.specimen import Specimen, breaks


class Bends(Specimen):
    """Changes the values of one storage type that are not part of a key."""

    storage: ClassVar[StorageType]
    bend: ClassVar[staticmethod[[Any], Value]]
    keys_too: ClassVar[bool] = False

    def bent(self, row: Row) -> Row:
        """Change each value of the type."""
        first = 0 if self.keys_too else len(row.kind.key)
        values = [
            type(self).bend(value)
            if position >= first and value is not None and spec.storage is self.storage
            else value
            for position, (value, spec) in enumerate(zip(row.values, row.kind.fields, strict=True))
        ]
        return row._replace(values=tuple(values))


@breaks("test_money_keeps_every_digit")
class MoneyAsFloat(Bends):
    """Keeps decimals as binary floats."""

    storage = StorageType.MONEY
    bend = staticmethod(lambda text: format(Decimal(repr(float(text))).normalize(), "f"))


@breaks("test_money_keeps_every_digit")
class MoneyWithTrailingZeros(Bends):
    """Keeps decimals with a fixed scale and gives them back with it."""

    storage = StorageType.MONEY
    bend = staticmethod(lambda text: f"{text}.00" if "." not in text else text)


@breaks("test_time_keeps_microseconds")
class Milliseconds(Bends):
    """Keeps times to the millisecond."""

    storage = StorageType.TIME
    bend = staticmethod(lambda micros: micros // 1000 * 1000)


@breaks("test_keys_may_hold_times")
class MillisecondKeys(Milliseconds):
    """Keeps times to the millisecond, in keys too."""

    keys_too = True


@breaks("test_time_keeps_microseconds")
class LocalTime(Bends):
    """Writes times in a local zone and takes them for UTC when it reads: an hour is gone in summer."""

    storage = StorageType.TIME
    bend = staticmethod(lambda micros: micros + 3_600_000_000 * (4 <= from_micros(micros).month <= 10))


@breaks("test_text_is_kept_as_it_is")
class TrimsText(Bends):
    """Trims text, as some drivers do with fixed widths."""

    storage = StorageType.TEXT
    bend = staticmethod(str.strip)


@breaks("test_text_is_kept_as_it_is")
class ShortText(Bends):
    """Cuts text at 255 characters."""

    storage = StorageType.TEXT
    bend = staticmethod(lambda text: text[:255])


@breaks("test_text_is_kept_as_it_is", "test_keys_are_any_text")
class NormalisesText(Bends):
    """Puts text into normal form C."""

    storage = StorageType.TEXT
    keys_too = True
    bend = staticmethod(lambda text: unicodedata.normalize("NFC", text))


@breaks("test_keys_are_any_text", "test_states_are_ordered_by_key")
class CaseBlindKeys(Specimen):
    """Takes keys that differ in case for the same."""

    def bent(self, row: Row) -> Row:
        """Write the key in lower case."""
        values = [value.lower() if isinstance(value, str) else value for value in row.key]
        return row._replace(values=(*values, *row.values[len(values) :]))


@breaks("test_floats_keep_every_bit", "test_any_record_comes_back")
class SinglePrecision(Bends):
    """Keeps floats in 32 bits."""

    storage = StorageType.FLOAT
    bend = staticmethod(lambda value: struct.unpack("f", struct.pack("f", max(min(value, 3e38), -3e38)))[0])


@breaks("test_floats_keep_every_bit")
class WholeFloatsBecomeNumbers(Bends):
    """Gives a whole float back as an integer."""

    storage = StorageType.FLOAT
    bend = staticmethod(lambda value: int(value) if value.is_integer() else value)


@breaks("test_whole_numbers_have_64_bits")
class NumbersAsFloats(Bends):
    """Keeps whole numbers in doubles, which have 53 bits for them."""

    storage = StorageType.INTEGER
    bend = staticmethod(lambda value: int(float(value)))


@breaks("test_flags_have_three_answers")
class FlagsAsNumbers(Bends):
    """Gives flags back as 0 and 1."""

    storage = StorageType.BOOLEAN
    bend = staticmethod(int)


@breaks("test_json_keeps_its_structure")
class DropsJsonNulls(Bends):
    """Drops keys whose value is null."""

    storage = StorageType.JSON
    bend = staticmethod(lambda text: _without_nulls(text))


@breaks("test_json_keeps_its_structure")
class JsonNumbersAsFloats(Bends):
    """Reads every JSON number as a float."""

    storage = StorageType.JSON
    bend = staticmethod(lambda text: _dumped(json.loads(text, parse_int=float)))


@breaks("test_json_of_a_mebibyte")
class SmallJson(Specimen):
    """Refuses documents of more than 64 KiB."""

    def bent(self, row: Row) -> Row:
        """Measure the document."""
        if any(isinstance(value, str) and len(value) > 65_535 for value in row.values):
            raise WriteRejectedError("data too long for column")
        return row


@breaks("test_levels_keep_their_order")
class SortsLevels(Specimen):
    """Gives levels back by price."""

    def bent(self, row: Row) -> Row:
        """Sort the levels."""
        if row.kind is not PROBE_LOG or row.deleted:
            return row
        at = PROBE_LOG.index("levels")
        text = row.values[at]
        if not isinstance(text, str):
            return row
        levels = json.dumps(sorted(json.loads(text)), separators=(",", ":"))
        return row._replace(values=(*row.values[:at], levels, *row.values[at + 1 :]))


@breaks("test_nothing_is_not_empty")
class EmptyIsNothing(Specimen):
    """Keeps no difference between empty and none."""

    def bent(self, row: Row) -> Row:
        """Write None for what is empty."""
        return row._replace(
            values=tuple(None if value in ("", "{}", "[]") else value for value in row.values)
        )


def _without_nulls(text: str) -> str:
    document = json.loads(text)
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if value is not None}
    return _dumped(document)


def _dumped(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
