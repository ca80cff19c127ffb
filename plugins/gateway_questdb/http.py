"""Statements over HTTP, for the operator's commands: one at a time, each with its answer, without an event loop.

QuestDB has no transactions over statements; each of these is one by itself, and doing it twice does nothing more.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

from gateway.errors import StoreError, StoreUnavailableError
from gateway_questdb.address import Address
from gateway_questdb.errors import LOGIN, meaning_of_text, translate
from gateway_questdb.posts import headers_of, tls_context

__all__ = ["Http"]


class Http:
    """A server's HTTP port.

    Args:
        address: Where, and as whom.
        seconds: How long one statement may take.
        backend: Instance name, for errors.
    """

    def __init__(self, address: Address, seconds: float, backend: str) -> None:
        self.address = address
        self._seconds = seconds
        self._backend = backend
        self._context = tls_context(address)

    def __repr__(self) -> str:
        return f"<Http {self.address}>"

    def rows(self, sql: str) -> list[list[Any]]:
        """Run one statement and return its rows, none for a statement without any.

        Raises:
            StoreError: The server cannot be reached, or refuses.
        """
        answer = json.loads(self.get("exec", {"query": sql}))
        found: list[list[Any]] = answer.get("dataset", [])
        return found

    def run(self, statements: Sequence[str]) -> None:
        """Run statements one after the other.

        Raises:
            StoreError: One was refused; those before it are done.
        """
        for sql in statements:
            self.rows(sql)

    def get(self, path: str, query: dict[str, str]) -> bytes:
        """Return what the server answers to a question.

        Raises:
            StoreError: The server cannot be reached, or refuses.
        """
        scheme = "https" if self.address.tls else "http"
        url = f"{scheme}://{self.address}/{path}?{urlencode(query)}"
        request = urllib.request.Request(url, headers=headers_of(self.address))  # noqa: S310 - http or https, see above
        try:
            with urllib.request.urlopen(request, timeout=self._seconds, context=self._context) as answer:  # noqa: S310
                body: bytes = answer.read()
                return body
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(error.code, error.read()) from error
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLError):
                raise translate(reason, self._backend) from error
            raise StoreUnavailableError(
                f"the server at {self.address} cannot be reached over HTTP; check that it runs and that host and "
                "port are right",
                backend=self._backend,
            ) from error

    def _refused(self, status: int, body: bytes) -> StoreError:
        if status in {401, 403}:
            kind, text = LOGIN
            return kind(text, backend=self._backend)
        try:
            said = str(json.loads(body).get("error", ""))
        except (ValueError, AttributeError):
            said = ""
        found = meaning_of_text(said)
        if found is not None:
            return found[0](found[1], backend=self._backend)
        return StoreError(
            f"the server refuses a statement of the schema: {said or status}", backend=self._backend
        )
