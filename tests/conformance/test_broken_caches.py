"""Broken caches: each is rejected by the clause that is about its defect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

from gateway.backend import BackendSettings, BackendSpec, OpenContext
from gateway.cache.contract import Contact, End, EndAnswer, Fill, FillAnswer, Miss, Terms
from gateway.conformance import CacheConformance, CacheHarness, cache_harness
from gateway.errors import CacheError, CacheMovedError
from gateway_memory.cache import CacheServer, MemoryCache

S = TypeVar("S", bound=type[CacheServer])
NEVER = 10**9

BROKEN: dict[str, tuple[Callable[[], CacheServer], type[MemoryCache], str]] = {}


def breaks(clause: str) -> Callable[[S], S]:
    """Note which clause must reject a server."""

    def note(server: S) -> S:
        BROKEN[server.__name__] = (server, MemoryCache, clause)
        return server

    return note


def breaks_connection(clause: str) -> Callable[[type[MemoryCache]], type[MemoryCache]]:
    """Note which clause must reject a connection."""

    def note(connection: type[MemoryCache]) -> type[MemoryCache]:
        BROKEN[connection.__name__] = (CacheServer, connection, clause)
        return connection

    return note


@breaks("test_one_reader_gets_the_lease_and_fills")
class EverybodyFills(CacheServer):
    """Gives every asker a lease."""

    def get(self, name: str, token: str, terms: Terms) -> bytes | Miss:
        """Never tell anybody to wait."""
        found = super().get(name, token, terms)
        return Miss.LEASED if found is Miss.WAIT else found


@breaks("test_a_fill_without_the_lease_is_refused")
class AnybodyFills(CacheServer):
    """Takes a fill from anybody."""

    def fill(self, fill: Fill, terms: Terms) -> FillAnswer:
        """Take it."""
        self._entry(fill.name, terms)[1].lease = fill.token
        return super().fill(fill, terms)


@breaks("test_a_lease_runs_out")
class LastingLeases(CacheServer):
    """Never takes a lease back."""

    def get(self, name: str, token: str, terms: Terms) -> bytes | Miss:
        """Give a lease for ever."""
        return super().get(name, token, terms._replace(lease_ms=NEVER))


@breaks("test_a_value_runs_out")
class LastingValues(CacheServer):
    """Keeps filled values for ever."""

    def fill(self, fill: Fill, terms: Terms) -> FillAnswer:
        """Keep it for ever."""
        return super().fill(fill, terms._replace(value_ms=NEVER))


@breaks("test_a_write_drops_the_value")
class KeepsTheValue(CacheServer):
    """Goes on serving the old value while a row is written."""

    def get(self, name: str, token: str, terms: Terms) -> bytes | Miss:
        """Look past the fences."""
        entry = self._entry(name, terms)[1]
        fences, entry.fences = entry.fences, {}
        found = super().get(name, token, terms)
        entry.fences = fences
        return found


@breaks("test_a_fill_that_a_write_overtook_is_refused")
class LeavesTheLease(CacheServer):
    """A write leaves a reader's lease as it is."""

    def begin(self, name: str, token: str, terms: Terms) -> None:
        """Put the lease back."""
        entry = self._entry(name, terms)[1]
        lease = entry.lease
        super().begin(name, token, terms)
        entry.lease = lease


@breaks("test_a_write_can_leave_its_row")
class KeepsNoRow(CacheServer):
    """Never keeps what a writer leaves."""

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Drop it."""
        return super().end(end._replace(value=None), terms)


@breaks("test_every_writer_has_a_fence_of_its_own")
class OneFence(CacheServer):
    """Has one fence for all writers."""

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Take all fences down."""
        answer = super().end(end, terms)
        self._entry(end.name, terms)[1].fences.clear()
        return answer


@breaks("test_the_last_of_two_writers_leaves_no_row")
class ForgetsTheOther(CacheServer):
    """Forgets that another writer was there."""

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Count nobody but those who are there now."""
        entry = self._entry(end.name, terms)[1]
        if len(entry.fences) == 1:
            entry.shared.clear()
        return super().end(end, terms)


@breaks("test_announcing_again_is_one_fence")
class FirstFenceCounts(CacheServer):
    """A repeated announcement does not last anew."""

    def begin(self, name: str, token: str, terms: Terms) -> None:
        """Keep the first time."""
        until = self._entry(name, terms)[1].fences.get(token)
        super().begin(name, token, terms)
        if until is not None:
            self._entry(name, terms)[1].fences[token] = until


@breaks("test_a_fence_runs_out")
class LastingFences(CacheServer):
    """Never forgets a fence."""

    def begin(self, name: str, token: str, terms: Terms) -> None:
        """Put it up for ever."""
        super().begin(name, token, terms._replace(fence_ms=NEVER))


@breaks("test_an_end_without_a_beginning_drops_the_value")
class TrustsTheValue(CacheServer):
    """Keeps what was filled after a fence was lost."""

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Put value and lease back."""
        entry = self._entry(end.name, terms)[1]
        value, lease = entry.value, entry.lease
        answer = super().end(end, terms)
        if answer is EndAnswer.LOST:
            entry.value, entry.lease = value, lease
        return answer


@breaks("test_a_write_that_came_to_nothing_only_lifts_its_fence")
class AlwaysAFloor(CacheServer):
    """Takes an end without a mark for one with the highest."""

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Raise the floor."""
        return super().end(end._replace(mark=end.mark or "f" * 32), terms)


@breaks("test_nothing_below_the_floor_is_filled")
class NoFloor(CacheServer):
    """Has no floors."""

    def fill(self, fill: Fill, terms: Terms) -> FillAnswer:
        """Look past the floor."""
        self._entry(fill.name, terms)[1].floor = ""
        return super().fill(fill, terms)


@breaks("test_the_floor_is_never_lowered")
class LowersTheFloor(CacheServer):
    """The last end sets the floor."""

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Forget the floor before."""
        self._entry(end.name, terms)[1].floor = ""
        return super().end(end, terms)


@breaks("test_marks_are_compared_to_the_last_digit")
class RoundsMarks(CacheServer):
    """Compares marks as floating-point numbers, as Lua would."""

    def fill(self, fill: Fill, terms: Terms) -> FillAnswer:
        """Round the mark."""
        return super().fill(fill._replace(mark=f"{int(float(int(fill.mark, 16))):032x}"), terms)

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Round the mark."""
        mark = f"{int(float(int(end.mark, 16))):032x}" if end.mark else ""
        return super().end(end._replace(mark=mark), terms)


@breaks("test_a_floor_outlives_a_lost_fence")
class NoFloorWithoutFence(CacheServer):
    """An end whose fence was lost does nothing at all."""

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Leave the floor."""
        entry = self._entry(end.name, terms)[1]
        return super().end(end if end.token in entry.fences else end._replace(mark=""), terms)


@breaks("test_a_floor_runs_out")
class LastingFloors(CacheServer):
    """Never forgets a floor."""

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Raise it for ever."""
        return super().end(end, terms._replace(floor_ms=NEVER))


@breaks("test_a_young_entry_serves_nothing")
class NoProbation(CacheServer):
    """Trusts an entry that it has just made."""

    def get(self, name: str, token: str, terms: Terms) -> bytes | Miss:
        """Take it for old."""
        return super().get(name, token, terms._replace(probation_ms=0))


@breaks("test_a_write_keeps_no_row_in_a_young_entry")
class NoProbationForWriters(CacheServer):
    """Keeps a writer's row in an entry that it has just made."""

    def end(self, end: End, terms: Terms) -> EndAnswer:
        """Take it for old."""
        return super().end(end, terms._replace(probation_ms=0))


@breaks("test_an_old_entry_stays_old")
class ForgetsItsAge(CacheServer):
    """An entry whose value ran out is young again."""

    def get(self, name: str, token: str, terms: Terms) -> bytes | Miss:
        """Forget an entry without a value."""
        now, entry = self._entry(name, terms)
        if entry.value is None and entry.value_until:
            entry.since, entry.value_until = now, 0.0
        return super().get(name, token, terms)


@breaks("test_an_evicted_entry_is_unknown")
class KnowsTheEvicted(CacheServer):
    """Takes every entry for an old one, those that it lost too."""

    def _entry(self, name: str, terms: Terms) -> tuple[float, Any]:
        now, entry = super()._entry(name, terms)
        if entry.since == now and terms.probation_ms == 60_000:
            entry.since = now - 1000
        return now, entry


@breaks_connection("test_entries_have_nothing_to_do_with_each_other")
class ShortNames(MemoryCache):
    """Looks at the first hundred characters of a name."""

    async def get(
        self, incarnation: str, names: Sequence[str], token: str, terms: Terms
    ) -> Sequence[bytes | Miss]:
        """Cut the names."""
        return await super().get(incarnation, [name[:100] for name in names], token, terms)

    async def fill(self, incarnation: str, fills: Sequence[Fill], terms: Terms) -> Sequence[FillAnswer]:
        """Cut the names."""
        cut = [fill._replace(name=fill.name[:100]) for fill in fills]
        return await super().fill(incarnation, cut, terms)


@breaks_connection("test_many_entries_in_one_call")
class Unordered(MemoryCache):
    """Answers in the order of the names."""

    async def get(
        self, incarnation: str, names: Sequence[str], token: str, terms: Terms
    ) -> Sequence[bytes | Miss]:
        """Sort first."""
        return await super().get(incarnation, sorted(names, reverse=True), token, terms)


@breaks_connection("test_nothing_asked_is_nothing_answered")
class RefusesNothing(MemoryCache):
    """Cannot be asked for nothing."""

    async def fill(self, incarnation: str, fills: Sequence[Fill], terms: Terms) -> Sequence[FillAnswer]:
        """Complain."""
        if not fills:
            raise CacheError("nothing to do")
        return await super().fill(incarnation, fills, terms)


@breaks_connection("test_another_server_than_was_meant_is_refused")
class AnyServer(MemoryCache):
    """Does not care which server is meant."""

    async def begin(self, incarnation: str, names: Sequence[str], token: str, terms: Terms) -> None:
        """Take whichever answers."""
        del incarnation
        await super().begin(self.server.incarnation, names, token, terms)


@breaks_connection("test_closing_is_final_and_may_be_repeated")
class NeverClosed(MemoryCache):
    """Goes on after it was closed."""

    async def close(self) -> None:
        """Stay open."""


@breaks_connection("test_contact_and_health_tell_of_the_server")
class Anonymous(MemoryCache):
    """Has no name for the life of its server."""

    async def contact(self) -> Contact:
        """Leave the incarnation out."""
        return (await super().contact())._replace(incarnation="")

    def _check(self, incarnation: str | None) -> None:
        super()._check(self.server.incarnation if incarnation == "" else incarnation)


@breaks_connection("test_connections_share_the_entries")
class ServerOfItsOwn(MemoryCache):
    """Has a server of its own."""

    def __init__(self, server: CacheServer) -> None:
        own = CacheServer()
        own.incarnation = server.incarnation
        super().__init__(own)


@breaks_connection("test_a_large_value_comes_back_whole")
class CutsValues(MemoryCache):
    """Cuts what is long."""

    async def fill(self, incarnation: str, fills: Sequence[Fill], terms: Terms) -> Sequence[FillAnswer]:
        """Keep the beginning."""
        return await super().fill(
            incarnation, [fill._replace(value=fill.value[:65_536]) for fill in fills], terms
        )


@breaks_connection("test_a_restarted_server_is_another_one")
class SameAgain(MemoryCache):
    """Takes the next life of the server for the same."""

    def _check(self, incarnation: str | None) -> None:
        try:
            super()._check(incarnation)
        except CacheMovedError:
            if incarnation == "another":
                raise


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_cache_is_rejected(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clause about the defect fails on it."""
    make_server, connection, clause = BROKEN[name]
    server = make_server()

    async def open_cache(_: OpenContext) -> MemoryCache:
        return connection(server)

    class Suite(CacheConformance):
        spec = BackendSpec(
            "broken", "Broken", settings=BackendSettings, store_of_record=False, open_cache=open_cache
        )

        def evict(self, _: Any, entry: str) -> None:
            """Lose an entry."""
            server.evict(entry)

        def restart(self) -> None:
            """Begin another life."""
            server.restart(keep=True)

    suite = Suite()
    monkeypatch.setattr(cache_harness, "LIMIT", 6.0)  # seconds that a clause waits for what never comes
    with (
        CacheHarness(Suite.spec, suite.make_context(tmp_path)) as caches,
        pytest.raises((AssertionError, CacheError, TimeoutError, pytest.fail.Exception)),
    ):
        getattr(suite, clause)(caches)


def test_every_clause_rejects_something() -> None:
    """A clause that no broken cache fails would be no clause. Those about races are left to real servers."""
    from gateway.conformance import clauses_of

    left = {
        "test_the_owner_of_a_lease_waits_too",
        "test_of_many_askers_one_gets_the_lease",
        "test_of_many_fills_one_is_kept",
        "test_a_cancelled_call_answers_nobody_else",
    }
    assert {one.name for one in clauses_of(CacheConformance)} - left == {
        clause for _, _, clause in BROKEN.values()
    }
