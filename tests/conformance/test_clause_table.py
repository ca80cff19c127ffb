"""The documentation lists the clauses as they are."""

from __future__ import annotations

import re
from pathlib import Path

from gateway.conformance import BackendConformance, Clause, clauses_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "backends.md"


def asked(clause: Clause) -> str:
    """Return when a clause is asked, as the table says it."""
    needs = [capability.value for capability in sorted(clause.needs)]
    return ", ".join(needs + ([f"not {clause.without.value}"] if clause.without else [])) or "always"


def test_the_table_of_clauses_is_the_kit() -> None:
    """Each clause stands in docs/backends.md with its sentence and its condition, in the kit's order."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(test_\w+)` \| (.+) \| ([a-z_, ]+) \|$", text, re.MULTILINE)
    kit = [(clause.name, clause.summary, asked(clause)) for clause in clauses_of(BackendConformance)]
    assert len(kit) > 90
    assert rows == kit


def test_every_clause_is_a_sentence() -> None:
    """A clause says in one sentence what it promises, so that a failure needs no look at its code."""
    summaries = [clause.summary for clause in clauses_of(BackendConformance)]
    assert [text for text in summaries if not re.fullmatch(r"[A-Z].*\.", text)] == []
    assert len(set(summaries)) == len(summaries)
