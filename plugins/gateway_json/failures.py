"""Translation of the operating system's errors into the gateway's, at the plugin's edge."""

from __future__ import annotations

import errno
from typing import Final

from gateway.errors import StoreError, StoreFullError, StoreReadOnlyError, StoreUnavailableError

__all__ = ["ApplyError", "read_failure", "write_failure"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


class ApplyError(Exception):
    """Carries what an update's own function raised past the translation.

    Attributes:
        error: What the function raised; it reaches the caller as it is.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def write_failure(error: OSError) -> StoreError:
    """Return what a failed write means to a caller."""
    where = _where(error)
    if error.errno in _FULL:
        return StoreFullError(
            f"no space left to write {where} ({error.strerror}); free some space or raise the quota. "
            "What was stored before is untouched"
        )
    if error.errno in _FORBIDDEN:
        return StoreReadOnlyError(
            f"{where} may not be written ({error.strerror}); give this user write permission, "
            "or choose another directory with STORAGE_JSON_URL"
        )
    return read_failure(error)


def read_failure(error: OSError) -> StoreError:
    """Return what a failed read means to a caller: the store is down, which is not the same as empty."""
    where = _where(error)
    if error.errno in _GONE:
        return StoreUnavailableError(f"{where} is gone; put the directory back, or open the gateway anew")
    if error.errno in _FORBIDDEN:
        return StoreUnavailableError(
            f"{where} may not be read ({error.strerror}); give this user read permission"
        )
    return StoreUnavailableError(f"{where} cannot be used: {error.strerror or error}")


def _where(error: OSError) -> str:
    return str(error.filename) if error.filename else "the store's directory"
