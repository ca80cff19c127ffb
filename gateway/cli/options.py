"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["AsJson", "KindArgument", "Kinds", "Order", "Since", "StoreName", "Until", "Where"]

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
KindArgument = Annotated[str, typer.Argument(metavar="KIND", help="A record kind; see `gateway kinds`.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="KIND", help="Only this kind; may be given several times."),
]
StoreName = Annotated[
    str | None,
    typer.Option("--store", metavar="NAME", help="Ask this store; by default the one that bots read now."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FIELD=VALUE",
        help="Only records with this value; the field may end in __ne, __lt, __le, __gt, __ge or __in. "
        "May be given several times; all must hold.",
    ),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="From this time on: 2026-01-31, or 2026-01-31T12:00:00Z."),
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before this time.")]
Order = Annotated[
    str, typer.Option("--order", metavar="asc|desc", help="By time for logs, by key for the rest.")
]
