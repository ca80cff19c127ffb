"""Keeping secrets out of what people read: settings, errors, logs, representations."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["HIDDEN", "is_secret_name", "redact"]

HIDDEN: Final = "***"
"""What stands where a secret was."""

_SENSITIVE_WORDS: Final = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|(?:api|access|private)[-_]?key|credentials?"
)
_SENSITIVE_NAME: Final = re.compile(
    rf"(?:^|[-_.])(?:ssl|tls)?(?:{_SENSITIVE_WORDS})(?:$|[-_.])", re.IGNORECASE
)
# The password ends at the last @ before the path: passwords hold @ more often than hosts do.
_USERINFO: Final = re.compile(
    r"(?P<head>[a-z][a-z0-9+.-]*://[^/?#:@\s]*):(?P<password>[^/?#\s]*)@", re.IGNORECASE
)
# A password with a slash, a ? or a # that was not percent-encoded: not a valid URL, and still a secret.
_BROKEN_USERINFO: Final = re.compile(
    r"(?P<head>[a-z][a-z0-9+.-]*://[^/?#:@\s]+):(?P<password>\S*)@", re.IGNORECASE
)
# A text that is a URL and nothing else: white space in it belongs to a password that was not percent-encoded.
_WHOLE_URL: Final = re.compile(
    r"(?P<head>\A\s*[a-z][a-z0-9+.-]*://[^/?#:@\s]*):(?P<password>.*)@", re.IGNORECASE | re.DOTALL
)
# Up to the next parameter and no less: passwords hold commas and semicolons, and lists of parameters seldom do.
_PARAMETER: Final = re.compile(
    rf"(?P<head>\b\w*(?:{_SENSITIVE_WORDS})\s*=\s*)(?P<value>'(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^&\s]+)",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Tell whether a variable or field of this name holds a secret: passwords, tokens, keys."""
    return _SENSITIVE_NAME.search(name) is not None


def redact(text: str) -> str:
    """Return a text without the passwords in it: in URLs, and in parameters such as `password=...`."""
    if "@" in text:
        text = _USERINFO.sub(rf"\g<head>:{HIDDEN}@", text)
        text = _BROKEN_USERINFO.sub(rf"\g<head>:{HIDDEN}@", text)
        text = _WHOLE_URL.sub(rf"\g<head>:{HIDDEN}@", text)
    return _PARAMETER.sub(rf"\g<head>{HIDDEN}", text) if "=" in text else text
