"""Conditions as SQL text: what each comparison means here, with NULL spelled out. Pure.

QuestDB compares floats with a tolerance of 1e-10 and takes the least whole number for NULL. What the text cannot test
exactly it tests too loosely, and says so; rows are then tested again outside.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from gateway.errors import InvalidRecordError
from gateway.query import Condition, Op, Query
from gateway.records.codec import Value
from gateway.records.row import Key
from gateway_questdb.layout import LEAST, Form, Layout, quoted

__all__ = ["Literals", "Parameters", "beyond", "condition_text"]

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - the driver takes and gives times without a zone
_LEAST_LONG: Final = -(2**63)
_NEVER: Final = "1 = 0"
_SIGNS: Final = {Op.LT: "<", Op.LE: "<=", Op.GT: ">", Op.GE: ">="}
_LOOSE_SIGNS: Final = {Op.LT: "<=", Op.LE: "<=", Op.GT: ">=", Op.GE: ">="}


class Parameters:
    """The parameters of a statement under construction."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: list[Any] = []

    def add(self, value: Any) -> str:
        """Take a value and return the placeholder that stands for it."""
        self.values.append(value)
        return f"${len(self.values)}"

    def typed(self, form: Form, value: Value) -> str:
        """Take a canonical value of a field and return what stands for it in a comparison with the column."""
        if form is Form.TIMESTAMP:
            assert isinstance(value, int), "a time is a number of microseconds"  # noqa: S101 - for the type
            moment = _EPOCH + timedelta(microseconds=value)
            if moment == datetime.max:  # noqa: DTZ901 - without a zone; the driver takes it for infinity
                return f"cast(cast({self.add(f'{moment.isoformat()}Z')} as varchar) as timestamp)"
            # Without a cast, so that the server can leave partitions out.
            return self.add(moment)
        if form is Form.DECIMAL:
            return f"cast(cast({self.add(value)} as varchar) as decimal(60,30))"
        if form is Form.FLAG:
            return self.add("true" if value else "false")
        if form is Form.LONG:
            # A cast would make the parameter a float, which holds 53 bits. Beside the column it is a whole number.
            return self.add(value)
        if form is Form.DOUBLE:
            return f"cast({self.add(value)} as double)"
        return f"cast({self.add(value)} as varchar)"


class Literals(Parameters):
    """Values written into the statement, for the one way to QuestDB that takes no parameters: exports over HTTP.

    In QuestDB's SQL a text ends at the first single quote that is not doubled, and nothing else is special in it. A
    text that has one is asked for with parameters all the same, see `holds`: QuestDB 9.3 makes another text of
    `cast('''a' as varchar)`.
    """

    __slots__ = ()

    @staticmethod
    def holds(query: Query) -> bool:
        """Tell whether the values of a query keep their meaning as literals."""
        values = [*query.where, *(query.after or ())]
        return not any("'" in text for value in values for text in _texts_in(value))

    def add(self, value: Any) -> str:
        """Return a value as it is written in a statement."""
        if value is None:
            return "null"
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return repr(value)
        text = f"{value.isoformat()}Z" if isinstance(value, datetime) else str(value)
        return "'{}'".format(text.replace("'", "''"))


def _texts_in(value: Condition | Value) -> list[str]:
    held = value.value if isinstance(value, Condition) else value
    return [text for text in (held if isinstance(held, tuple) else (held,)) if isinstance(text, str)]


def condition_text(layout: Layout, condition: Condition, into: Parameters) -> tuple[str, bool]:
    """Return the text of one condition, empty for none, and whether it tests exactly what the condition says.

    Raises:
        InvalidRecordError: The kind has no such field, or several values are compared by something else than `in`.
    """
    kind = layout.kind
    name, op, value = condition.field, condition.op, condition.value
    if name not in kind.field_names:
        raise InvalidRecordError(
            f"{kind.name} has no field {name!r}; its fields are {', '.join(kind.field_names)}"
        )
    form = layout.form(name)
    if op is Op.IN:
        values = value if isinstance(value, tuple) else ()
        return _one_of(layout, name, values, into), form is not Form.DOUBLE
    if isinstance(value, tuple):
        raise InvalidRecordError(f"{kind.name}.{name}: only `in` compares with several values")
    if op is Op.EQ:
        return _equal(layout, name, value, into), form is not Form.DOUBLE or value is None
    if op is Op.NE:
        return _differs(layout, name, value, into)
    if value is None:
        return _NEVER, True
    return _ordered(layout, name, op, value, into), form is not Form.DOUBLE


def _is_null(layout: Layout, name: str) -> str:
    column = quoted(name)
    if layout.form(name) is not Form.LONG:
        return f"{column} IS NULL"
    if name in layout.kind.key:
        return _NEVER  # NULL in a key is the least whole number
    return f"({column} IS NULL AND {_not_least(name)})"


def _least(name: str) -> str:
    # Names of fields hold no quotes; the commas tell one name from another that it ends or begins with.
    return f"coalesce(strpos({quoted(LEAST)}, ',{name},'), 0) > 0"


def _not_least(name: str) -> str:
    return f"coalesce(strpos({quoted(LEAST)}, ',{name},'), 0) = 0"


def _is_least(layout: Layout, name: str) -> str:
    return f"{quoted(name)} IS NULL" if name in layout.kind.key else _least(name)


def _equal(layout: Layout, name: str, value: Value, into: Parameters) -> str:
    if value is None:
        return _is_null(layout, name)
    form = layout.form(name)
    if form is Form.LONG and value == _LEAST_LONG:
        return _is_least(layout, name)
    return f"{quoted(name)} = {_operand(form, value, into)}"


def _operand(form: Form, value: Value, into: Parameters) -> str:
    """Return the right side of an equation. A symbol is found by its number only if nothing is cast."""
    return into.add(value) if form is Form.SYMBOL else into.typed(form, value)


def _differs(layout: Layout, name: str, value: Value, into: Parameters) -> tuple[str, bool]:
    if value is None:
        return f"NOT {_is_null(layout, name)}" if layout.form(
            name
        ) is Form.LONG else f"{quoted(name)} IS NOT NULL", True
    if layout.form(name) is Form.DOUBLE:
        return "", False  # the tolerance would leave out rows that do differ
    equal = _equal(layout, name, value, into)
    if layout.form(name) is Form.LONG and value == _LEAST_LONG:
        return f"NOT ({equal})", True
    return f"(NOT ({equal}) OR {quoted(name)} IS NULL)", True


def _one_of(layout: Layout, name: str, values: tuple[Value, ...], into: Parameters) -> str:
    form = layout.form(name)
    plain = [
        value for value in values if value is not None and not (form is Form.LONG and value == _LEAST_LONG)
    ]
    tests = []
    if form in {Form.SYMBOL, Form.VARCHAR} and len(plain) > 1:
        tests.append(f"{quoted(name)} IN ({', '.join(into.add(value) for value in plain)})")
    else:
        tests += [_equal(layout, name, value, into) for value in plain]
    if None in values:
        tests.append(_is_null(layout, name))
    if form is Form.LONG and _LEAST_LONG in values:
        tests.append(_is_least(layout, name))
    return f"({' OR '.join(tests)})" if tests else _NEVER


def _ordered(layout: Layout, name: str, op: Op, value: Value, into: Parameters) -> str:
    form, column = layout.form(name), quoted(name)
    if form is Form.LONG:
        return _ordered_long(layout, name, op, value, into)
    if form in {Form.SYMBOL, Form.FLAG}:
        column = f"cast({column} as varchar)"
    operand = f"cast({into.add(value)} as varchar)" if form is Form.SYMBOL else into.typed(form, value)
    sign = _LOOSE_SIGNS[op] if form is Form.DOUBLE else _SIGNS[op]
    return f"({column} {sign} {operand} AND {quoted(name)} IS NOT NULL)"


def _ordered_long(layout: Layout, name: str, op: Op, value: Value, into: Parameters) -> str:
    """Return an ordering of whole numbers, of which the least is kept as NULL."""
    least = _is_least(layout, name)
    if value == _LEAST_LONG:
        return {
            Op.LT: _NEVER,
            Op.LE: least,
            Op.GT: f"{quoted(name)} IS NOT NULL",
            Op.GE: f"({quoted(name)} IS NOT NULL OR {least})",
        }[op]
    test = f"({quoted(name)} {_SIGNS[op]} {into.typed(Form.LONG, value)} AND {quoted(name)} IS NOT NULL)"
    return f"({test} OR {least})" if op in {Op.LT, Op.LE} else test


def beyond(layout: Layout, bound: Key, sign: str, into: Parameters) -> str:
    """Return the test for rows beyond a place in listing order.

    Args:
        layout: Of the kind.
        bound: Values of `kind.order`.
        sign: `<`, `>` or `<=`.
        into: Takes the values.
    """
    names = layout.kind.order
    strict = {"<": Op.LT, ">": Op.GT, "<=": Op.LT}[sign]
    tests: list[str] = []
    equal: list[str] = []
    for at, (name, value) in enumerate(zip(names, bound, strict=True)):
        last = at == len(names) - 1
        op = Op.LE if last and sign == "<=" else strict
        tests.append(" AND ".join([*equal, _ordered(layout, name, op, value, into)]))
        if not last:
            equal.append(_equal(layout, name, value, into))
    text = f"({' OR '.join(f'({test})' for test in tests)})"
    if names[0] == layout.designated and len(names) > 1:
        # Says nothing new, but only this lets the server leave partitions out.
        first = {"<": Op.LE, ">": Op.GE, "<=": Op.LE}[sign]
        column, operand = quoted(names[0]), into.typed(Form.TIMESTAMP, bound[0])
        text = f"{text} AND {column} {_SIGNS[first]} {operand}"
    return text
