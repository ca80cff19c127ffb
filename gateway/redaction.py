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
# None of these looks at what stands before the ://, which would take ages in a long text without one.
# The password ends at the last @ before the path: passwords hold @ more often than hosts do.
_USERINFO: Final = re.compile(r"(?P<head>://[^/?#:@\s]*):(?P<password>[^/?#\s]*)@")
# A password with a slash, a ? or a # that was not percent-encoded: not a valid URL, and still a secret.
_BROKEN_USERINFO: Final = re.compile(r"(?P<head>://[^/?#:@\s]+):(?P<password>\S*)@")
# In a text that begins with a URL, or is a list of stores with one in it: white space behind that belongs to a
# password that was not percent-encoded.
_WHOLE_URL: Final = re.compile(r"(?P<head>://[^/?#:@\s]*):(?P<password>.*)@", re.DOTALL)
# Up to the next parameter and no less: passwords hold commas and semicolons, and lists of parameters seldom do.
_PARAMETER: Final = re.compile(
    rf"(?P<head>\b\w*(?:{_SENSITIVE_WORDS})\s*=\s*)(?P<value>'(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^&\s]+)",
    re.IGNORECASE,
)
# In such a text, up to the next option: white space, and an & without a name and an = behind it, are the password's.
_OPTION: Final = re.compile(
    rf"(?P<head>[?&]\w*(?:{_SENSITIVE_WORDS})\s*=)(?P<value>.*?)(?=&[a-z_][\w.-]*=|\Z)",
    re.IGNORECASE | re.DOTALL,
)
# As dictionaries and JSON are written.
_ITEM: Final = re.compile(
    rf"(?P<head>(?P<quote>['\"])[\w-]*(?:{_SENSITIVE_WORDS})(?P=quote)\s*:\s*)"
    r"(?P<value>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Tell whether a variable or field of this name holds a secret: passwords, tokens, keys."""
    return _SENSITIVE_NAME.search(name) is not None


def redact(text: str) -> str:
    """Return a text without the passwords in it: in URLs, and in parameters such as `password=...`."""
    before, url, _ = text.partition("://")
    whole = url and len(before.split()) == 1
    if url and "@" in text:
        text = _USERINFO.sub(rf"\g<head>:{HIDDEN}@", text)
        text = _BROKEN_USERINFO.sub(rf"\g<head>:{HIDDEN}@", text)
        if whole:
            text = _WHOLE_URL.sub(rf"\g<head>:{HIDDEN}@", text)
    if whole:
        text = _OPTION.sub(rf"\g<head>{HIDDEN}", text)
    if "'" in text or '"' in text:
        text = _ITEM.sub(rf"\g<head>\g<quote>{HIDDEN}\g<quote>", text)
    return _PARAMETER.sub(rf"\g<head>{HIDDEN}", text) if "=" in text else text
