"""The upkeep of the stores, each by its backend."""

from __future__ import annotations

from gateway.cli.exits import ExitCode, report_error
from gateway.cli.output import print_json, print_line
from gateway.cli.session import Session
from gateway.config import StoreConfig, open_context
from gateway.errors import CapabilityError, StoreError

__all__ = ["maintain_stores"]


def maintain_stores(session: Session, name: str | None, *, dry_run: bool, as_json: bool) -> ExitCode:
    """Do the upkeep of the named store, or of every store that has some, and print what was done.

    A store that fails is reported and stops no other; what was done in it before stays done.

    Raises:
        ConfigurationError: There is no such store.
        CapabilityError: It needs no upkeep, or no store does.
    """
    done, code = [], ExitCode.OK
    for store in _stores(session, name):
        try:
            steps = _maintain(session, store, dry_run)
        except StoreError as error:
            error.backend = error.backend or store.instance
            failed = report_error(error, as_json=as_json, debug=session.debug)
            code = code or failed
            continue
        done.append({"store": store.instance, "done": steps})
        if not as_json:
            for step in steps or ["nothing to do"]:
                print_line(f"{store.instance}: {step}")
    if as_json:
        print_json({"dry_run": dry_run, "stores": done})
    return code


def _stores(session: Session, name: str | None) -> list[StoreConfig]:
    if name is not None:
        return [session.configuration.store(name)]
    found = [store for store in session.configuration.stores if store.spec.maintain is not None]
    if not found:
        raise CapabilityError(
            f"no store needs upkeep ({', '.join(session.instances)}); there is nothing to do"
        )
    return found


def _maintain(session: Session, store: StoreConfig, dry_run: bool) -> list[str]:
    if store.spec.maintain is None:
        raise CapabilityError(f"{store.instance}: the {store.spec.name} backend needs no upkeep")
    context = open_context(session.configuration, store, tuple(session.registry.kinds))
    return list(store.spec.maintain(context, dry_run))
