"""The conformance kit: what makes a backend a backend, as tests that an author inherits.

```python
from gateway.conformance import BackendConformance

class TestMyStore(BackendConformance):
    spec = MY_SPEC
```

Every clause is one test. Clauses of capabilities that the spec does not declare are skipped, and say so.
Needs the extra `conformance`. Names are imported when they are first used, because pytest imports this
package in every run of everybody who has the gateway installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.conformance.cache_harness import CacheHarness, CacheUser
    from gateway.conformance.cache_suite import CacheConformance
    from gateway.conformance.clauses import Clause, clauses_of
    from gateway.conformance.harness import Harness
    from gateway.conformance.kinds import KINDS, PROBE_COUNTER, PROBE_LOG, PROBE_STATE
    from gateway.conformance.rows import Scribe
    from gateway.conformance.suite import BackendConformance

__all__ = [
    "KINDS",
    "PROBE_COUNTER",
    "PROBE_LOG",
    "PROBE_STATE",
    "BackendConformance",
    "CacheConformance",
    "CacheHarness",
    "CacheUser",
    "Clause",
    "Harness",
    "Scribe",
    "clauses_of",
]

_HOME: Final = {
    "BackendConformance": "suite",
    "CacheConformance": "cache_suite",
    "CacheHarness": "cache_harness",
    "CacheUser": "cache_harness",
    "Clause": "clauses",
    "Harness": "harness",
    "KINDS": "kinds",
    "PROBE_COUNTER": "kinds",
    "PROBE_LOG": "kinds",
    "PROBE_STATE": "kinds",
    "Scribe": "rows",
    "clauses_of": "clauses",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
