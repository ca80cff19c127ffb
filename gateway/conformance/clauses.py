"""Clauses: single promises of the contract, each a test that needs no plugin for asynchronous tests."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

import pytest

from gateway.backend import Capability
from gateway.conformance.harness import Harness

__all__ = ["CLAUSE_MARK", "Clause", "clause", "clauses_of"]

CLAUSE_MARK: Final = "__gateway_clause__"
Body = Callable[..., Coroutine[Any, Any, None]] | Callable[..., None]
Method = Callable[[Any, Harness], None]


@dataclass(frozen=True, slots=True)
class Clause:
    """One promise.

    Attributes:
        name: Name of the test method.
        summary: The promise as a sentence.
        needs: Capabilities without which the clause is not asked.
        without: A capability with which the clause makes no sense.
    """

    name: str
    summary: str
    needs: frozenset[Capability]
    without: Capability | None = None

    def objection(self, declared: frozenset[Capability]) -> str | None:
        """Return why a backend that declares these capabilities is not asked; None if it is."""
        missing = sorted(self.needs - declared)
        if missing:
            return f"not asked: the backend does not declare {', '.join(missing)}"
        if self.without is not None and self.without in declared:
            return f"not asked: the backend declares {self.without.value}"
        return None


def clause(*needs: Capability, without: Capability | None = None) -> Callable[[Body], Method]:
    """Make a method of a conformance class a clause.

    The method takes the harness, or an opened store, or both, and may be a coroutine. It becomes an ordinary
    test with the one argument `harness`, run on a loop of its own: authors need no pytest plugin for asyncio,
    and clauses can be called without pytest.

    Args:
        needs: Capabilities that the backend must declare for the clause to be asked.
        without: A capability with which it is not asked.
    """

    def wrap(body: Body) -> Method:
        wanted = list(inspect.signature(body).parameters)[1:]
        spec = Clause(body.__name__, _first_line(body), frozenset(needs), without)

        @functools.wraps(body)
        def test(self: object, harness: Harness) -> None:
            objection = spec.objection(harness.spec.capabilities)
            if objection is not None:
                pytest.skip(objection)
            given = {"harness": harness, "store": harness.run(harness.open()) if "store" in wanted else None}
            outcome = body(self, **{name: given[name] for name in wanted})
            if outcome is not None:
                harness.run(outcome)

        # pytest reads the body's signature through __wrapped__ and would ask for a fixture `store`.
        del test.__dict__["__wrapped__"]
        setattr(test, CLAUSE_MARK, spec)
        return cast("Method", test)

    return wrap


def clauses_of(suite: type) -> Iterator[Clause]:
    """Yield the clauses of a conformance class, in the order of its modules and lines."""
    found: dict[str, Clause] = {}
    for owner in suite.__mro__:
        for value in vars(owner).values():
            spec = getattr(value, CLAUSE_MARK, None)
            if isinstance(spec, Clause):
                found.setdefault(spec.name, spec)
    yield from found.values()


def _first_line(body: Body) -> str:
    return (inspect.getdoc(body) or body.__name__).splitlines()[0]
