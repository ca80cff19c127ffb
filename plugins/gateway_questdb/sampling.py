"""Bars of ticks, made inside the server.

First and last values of a bar are those of its first and last time. Where several ticks share such a time, the server
takes any of them; the version decides, so those few ticks are fetched and the bars mended. The two questions see the
table at two moments: a bar that was mended and grew meanwhile is made again, of its rows. Bars of rows that may have
several versions are made here, of a stream of the rows that count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from gateway.candles import Bar, Sample, Sampler
from gateway.query import Condition, Op, Query, following
from gateway_questdb.bars import bars, ties
from gateway_questdb.layout import Layout
from gateway_questdb.origins import Origin
from gateway_questdb.reads import Answers

__all__ = ["Sampling", "mended"]

_PAGE: Final = 10_000
Span = tuple[int, int]
"""Times of the first and the last row of a bar."""
Stamped = tuple[int, int, float]
"""Version, digest and value of a row."""


class Sampling:
    """Samples.

    Args:
        answers: Waits for tables, knows what rows can be, and reads them.
    """

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def bars(self, request: Sample) -> list[Bar]:
        """Return bars, as `SampleStore.gateway_sample` says."""
        layout = await self._answers.layout(request.kind)

        async def ask(origin: Origin) -> list[Bar]:
            if origin is Origin.FRESH and not bars(layout, request).unsure:
                return await self._inside(layout, request)
            return await self._outside(layout, request, origin)

        return await self._answers.by_origin(layout, request.tenant, ask)

    async def _inside(self, layout: Layout, request: Sample) -> list[Bar]:
        found = await self._answers.fetch(bars(layout, request))
        spans: list[Span] = [(first, last) for _, first, last, *_ in found]
        made = [_bar(request.step, answer) for answer in found]
        if not made:
            return made
        first, last = min(span[0] for span in spans), max(span[1] for span in spans)
        tied = await self._answers.fetch(ties(layout, request, first, last))
        bare, made = made, mended(made, spans, tied)
        doubtful = [at for at, (old, new) in enumerate(zip(bare, made, strict=True)) if old is not new]
        if not doubtful:
            return made
        still = await self._sizes(layout, request, [made[at].start for at in doubtful])
        for at in doubtful:
            if still.get(made[at].start) != (*spans[at], made[at].ticks):
                remade = await self._outside(layout, _within(request, made[at].start), Origin.FRESH)
                made[at : at + 1] = remade[:1] or [made[at]]  # none is left if its partition was dropped
        return made

    async def _sizes(
        self, layout: Layout, request: Sample, starts: Sequence[int]
    ) -> dict[int, tuple[int, int, int]]:
        """Return first and last time and number of rows of the bars that begin there, and of those in between.

        Rows of a log are never taken away one by one: a bar that has as many as before has the same ones.
        """
        again = await self._answers.fetch(bars(layout, _within(request, min(starts), max(starts))))
        return {number * request.step: (first, last, rows) for number, first, last, *_, rows in again}

    async def _outside(self, layout: Layout, request: Sample, origin: Origin) -> list[Bar]:
        query = Query(request.kind, request.tenant, request.where, request.descending, _PAGE)
        sampler, made = Sampler(request), list[Bar]()
        while True:
            rows = await self._answers.page(layout, query, origin)
            for row in rows:
                done = sampler.add(row)
                if done is not None:
                    made.append(done)
                    if len(made) == request.limit:
                        return made
            if len(rows) < _PAGE:
                last = sampler.end()
                return made if last is None else [*made, last]
            query = following(query, rows[-1].position)


def _within(request: Sample, start: int, last: int | None = None) -> Sample:
    """Return a request for all bars from one that begins somewhere up to another, or for that one alone."""
    name = str(request.kind.time_field)
    end = (start if last is None else last) + request.step
    span = (Condition(name, Op.GE, start), Condition(name, Op.LT, end))
    return replace(request, where=(*request.where, *span), limit=None)


def _bar(step: int, answer: Sequence[Any]) -> Bar:
    number, _, _, first, high, low, last, volume, volumes, rows = answer
    return Bar(number * step, first, high, low, last, volume if volumes else None, rows)


def mended(made: Sequence[Bar], spans: Sequence[Span], tied: Iterable[Sequence[Any]]) -> list[Bar]:
    """Return bars whose first and last values are those of the smallest and greatest stamp of their time.

    Bars of which no end is tied are the given ones themselves.

    Args:
        made: Bars with any of the values of their first and last time.
        spans: First and last time of each.
        tied: Rows that share their time with others: time, version, digest, value.
    """
    lowest: dict[int, Stamped] = {}
    highest: dict[int, Stamped] = {}
    for moment, version, digest, value in tied:
        stamped = (version, digest, value)
        lowest[moment] = min(lowest.get(moment, stamped), stamped)
        highest[moment] = max(highest.get(moment, stamped), stamped)
    return [
        _with_ends(bar, lowest.get(first), highest.get(last))
        for bar, (first, last) in zip(made, spans, strict=True)
    ]


def _with_ends(bar: Bar, first: Stamped | None, last: Stamped | None) -> Bar:
    """Return a bar with other ends, where there are any."""
    if first is not None:
        bar = bar._replace(open=first[2])
    return bar if last is None else bar._replace(close=last[2])
