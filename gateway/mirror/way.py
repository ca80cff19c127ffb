"""Ways: the mirrors of a route, and the intents that a batch along them leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.backend import Step
from gateway.intents import Journaling
from gateway.mirror.contract import Feeding, Mirroring

__all__ = ["Traced", "Way", "marked", "numbered"]

Traced = Callable[[Sequence[Step], Mapping[int, str]], None]
"""Is told, of a batch, what its steps came to, and by step index the `traceparent` of those that are traced."""


@dataclass(frozen=True, eq=False, slots=True)
class Way:
    """The mirrors of a route. One object a route, so that writes can be grouped by it cheaply.

    Attributes:
        feeds: The feeds of the mirrors; at least one.
        targets: The mirrors' instance names, in the same order.
        waits: Whether the caller waits for the mirrors.
        reports: Whether a caller who waits hears that a mirror failed; if not, the relay sees to it.
    """

    feeds: tuple[Feeding, ...]
    targets: tuple[str, ...]
    waits: bool = False
    reports: bool = True


def numbered(
    mirrors: Mirroring, ways: Sequence[tuple[Way | None, int]], traces: dict[int, str] | None = None
) -> tuple[int, Journaling | None]:
    """Number the steps of a batch, and say which intents it leaves behind.

    Every attempt is numbered anew: what an attempt whose answer was lost has left behind is the relay's.

    Args:
        mirrors: Knows which mirrors get intents at the moment.
        ways: Ways, each with how many steps in a row go along it; one of them at least is not None.
        traces: By step index, the `traceparent` of a write that is traced.

    Returns:
        The number of the first step, and the intents; None if none are to be left.
    """
    first = mirrors.numbers.take(sum(count for _, count in ways))
    targets: list[tuple[str, ...]] = []
    noted = False
    for way, count in ways:
        names = () if way is None else mirrors.noted(way.targets)
        noted = noted or bool(names)
        targets += [names] * count
    return first, Journaling(mirrors.numbers.owner, first, targets, traces or {}) if noted else None


def marked(writes: Sequence[tuple[str, int]]) -> dict[int, str]:
    """Return, by step index, the `traceparent` of the writes of a batch that are traced; hardly ever any.

    Args:
        writes: For each, its `traceparent`, empty where it is not traced, and how many steps it has.
    """
    found: dict[int, str] = {}
    at = 0
    for trace, count in writes:
        if trace:
            found.update(dict.fromkeys(range(at, at + count), trace))
        at += count
    return found
