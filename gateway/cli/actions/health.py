"""Whether every store answers."""

from __future__ import annotations

from typing import Any

from gateway.backend import Health
from gateway.cli.exits import ExitCode
from gateway.cli.output import print_json, print_table
from gateway.cli.session import Session
from gateway.errors import StoreError

__all__ = ["show_health", "store_health"]


def show_health(session: Session, *, as_json: bool) -> ExitCode:
    """Print each store's own answer."""
    stores = {name: session.run(store_health(session, name)) for name in session.instances}
    ok = all(one.ok for one in stores.values())
    if as_json:
        print_json({"ok": ok, "stores": [_health(name, one) for name, one in stores.items()]})
    else:
        rows = [(name, "ok" if one.ok else "fail", one.summary) for name, one in stores.items()]
        print_table(("store", "state", "says"), rows, marked="state")
    return ExitCode.OK if ok else ExitCode.UNAVAILABLE


async def store_health(session: Session, name: str) -> Health:
    """Return a store's answer; that it cannot be opened is one."""
    try:
        async with session.stores(name) as stores:
            return await stores[name].health()
    except StoreError as error:
        return Health(ok=False, summary=str(error))


def _health(name: str, one: Health) -> dict[str, Any]:
    return {"name": name, "ok": one.ok, "summary": one.summary, "details": dict(one.details)}
