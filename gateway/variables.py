"""What the user wrote: variables of the environment and of `.env`, and arguments, by precedence.

An argument wins over the environment, the environment over `.env`. A variable that is set to nothing counts
as not set, because that is how compose files and deployment forms pass on what they do not have.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.catalogue import did_you_mean
from gateway.errors import ConfigurationError, UnknownVariableError
from gateway.redaction import is_secret_name, redact
from gateway.settings import PREFIX

__all__ = ["ARGUMENT", "DEFAULT", "ENVIRONMENT", "Given", "Variables", "explain_settings"]

ENVIRONMENT: Final = "environment"
ARGUMENT: Final = "argument"
DEFAULT: Final = "default"
"""The source of what nobody gave."""


@dataclass(frozen=True, slots=True)
class Given:
    """One value as the user gave it.

    Attributes:
        name: The variable or argument, spelled as the user did.
        value: Text from the environment; anything from an argument.
        source: `argument`, `environment` or the name of the env file.
    """

    name: str
    value: Any
    source: str

    def __repr__(self) -> str:
        return f"<Given {self.name} from {self.source}>"

    @property
    def label(self) -> str:
        """How errors call it."""
        if self.source == ARGUMENT:
            return f"the argument {self.name!r}"
        return self.name if self.source == ENVIRONMENT else f"{self.name} (in {self.source})"


class Variables:
    """Everything that was given, by the upper-case name of its variable.

    Args:
        environ: The process environment.
        env_file: A file of `NAME=value` lines; one that does not exist is empty. `${...}` is not expanded,
            since passwords may hold it.
        overrides: Arguments, by the lower-case name of their variable without `STORAGE_`. None: not given.

    Attributes:
        secret_file: The env file, if there is a password or a key in it, ours or anybody's; None otherwise.

    Raises:
        ConfigurationError: The env file cannot be read.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        env_file: Path | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self._given: dict[str, Given] = {}
        written = _read(env_file)
        self.secret_file = env_file if _hold_secrets(written) else None
        self._add(written, env_file.name if env_file else "")
        self._add(environ, ENVIRONMENT)
        arguments = {name: value for name, value in (overrides or {}).items() if value is not None}
        self._given |= {
            f"{PREFIX}{name}".upper(): Given(name, value, ARGUMENT) for name, value in arguments.items()
        }

    def __repr__(self) -> str:
        return f"<Variables {', '.join(name for name, _ in self.prefixed())}>"

    def _add(self, values: Mapping[str, str | None], source: str) -> None:
        # The exact spelling comes last and wins over one in another case.
        for name in sorted(values, key=str.isupper):
            value = (values[name] or "").strip()
            known = self._given.get(name.upper())
            if known is None or value:
                self._given[name.upper()] = Given(name, value, source)

    def get(self, name: str) -> Given | None:
        """Return what was given for a variable; None if it is not set, or set to nothing."""
        given = self._given.get(name)
        # An argument may be empty on purpose: it takes back what the environment says.
        return given if given is not None and (given.value != "" or given.source == ARGUMENT) else None

    def first(self, *names: str) -> Given | None:
        """Return what was given for the first of several names that is set.

        A name of the process comes before any in the env file: a file that came along from a developer's machine must
        not talk a server out of being in production.
        """
        found = [given for name in names if (given := self.get(name)) is not None]
        return next(
            (given for given in found if given.source in {ARGUMENT, ENVIRONMENT}), next(iter(found), None)
        )

    def prefixed(self) -> Iterator[tuple[str, Given]]:
        """Yield every variable and argument of the gateway, those set to nothing too."""
        yield from sorted((name, given) for name, given in self._given.items() if name.startswith(PREFIX))

    def refuse_unknown(self, known: Collection[str], reserved: Collection[str]) -> None:
        """Refuse what nobody reads: a mistyped setting would otherwise be a setting silently not made.

        Args:
            known: Upper-case names that are read.
            reserved: Prefixes under which any variable is allowed. Arguments are meant for this very gateway,
                so there is nobody else whose they could be.

        Raises:
            UnknownVariableError: Names each, and what was probably meant.
        """
        unknown = [
            given
            for name, given in self.prefixed()
            if name not in known and (given.source == ARGUMENT or not name.startswith(tuple(reserved)))
        ]
        if unknown:
            raise UnknownVariableError("; ".join(_unknown(given, known) for given in unknown))


def _unknown(given: Given, known: Collection[str]) -> str:
    if given.source == ARGUMENT:
        names = [name.removeprefix(PREFIX).lower() for name in known]
        return f"{given.label} is no setting of the gateway{did_you_mean(given.name, names)}"
    # Compared without the prefix, which would make any two names look alike.
    names = [name.removeprefix(PREFIX) for name in known]
    meant = did_you_mean(given.name.upper().removeprefix(PREFIX), names, PREFIX)
    return (
        f"{given.label} is no variable that the gateway reads{meant or '; remove it, or install its plugin'}"
    )


def _read(env_file: Path | None) -> Mapping[str, str | None]:
    try:
        if env_file is None or not env_file.is_file():
            return {}
        # Editors on Windows put a byte order mark in front, which would become part of the first name.
        return dotenv_values(env_file, interpolate=False, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{env_file} cannot be read ({error}); make it readable UTF-8, or use the environment instead"
        ) from error


def _hold_secrets(values: Mapping[str, str | None]) -> bool:
    return any(value and (is_secret_name(name) or redact(value) != value) for name, value in values.items())


def explain_settings(error: ValidationError, named: Callable[[str], tuple[str, Given | None]]) -> str:
    """Turn pydantic's report into one sentence for each setting, in the words the user used.

    Args:
        error: What pydantic found.
        named: Returns the variable of a field, and what was given for it.
    """
    return "; ".join(_sentence(item, named) for item in error.errors(include_url=False, include_input=False))


def _sentence(item: ErrorDetails, named: Callable[[str], tuple[str, Given | None]]) -> str:
    wrong = _wording(item)
    if not item["loc"]:
        return redact(wrong)
    variable, given = named(str(item["loc"][0]))
    if given is None:
        return redact(f"{variable} {wrong}")
    shown = "" if is_secret_name(variable) else f"is {_shown(given.value)}, but "
    return f"{given.label} {shown}{redact(wrong)}"


def _wording(item: ErrorDetails) -> str:
    """Return `must be ...`: what is wrong and what is allowed at once."""
    if item["type"] == "missing":
        return "is not set, and the backend needs it"
    text = item["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if text.startswith("Input should be"):
        return f"must be{text.removeprefix('Input should be').partition(', unable to')[0]}"
    return text if text.startswith(("must", "is ", "has ", PREFIX)) else f"is refused: {text}"


def _shown(value: object) -> str:
    text = redact(str(value))
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
