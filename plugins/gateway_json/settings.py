"""Settings of the JSON backend, and the directory that they mean."""

from __future__ import annotations

from pathlib import Path

from gateway.backend import BackendSettings, OpenContext

__all__ = ["JsonSettings", "directory_of"]


class JsonSettings(BackendSettings):
    """Settings of the JSON backend.

    Attributes:
        url: The directory, with or without `json:` or `json://` before it. Defaults to `json` in the data
            directory.
        fsync: Whether a write waits until the disk has it. Without it writes are several times faster and
            survive a crash of the process, but a power failure may lose or tear what was acknowledged in the
            last seconds.
    """

    fsync: bool = True


def directory_of(context: OpenContext) -> Path:
    """Return the directory that a store is to be opened in, as an absolute path."""
    url = context.settings.url
    if not url:
        return (context.data_dir / "json").absolute()
    return Path(url.removeprefix("json:").removeprefix("//")).expanduser().absolute()
