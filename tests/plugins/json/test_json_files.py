from __future__ import annotations

import errno
from pathlib import Path

import pytest

from gateway_json.files import Disk, last_newline, unused_name


@pytest.mark.parametrize("fsync", [True, False])
def test_replace_leaves_only_the_new_content(tmp_path: Path, fsync: bool) -> None:
    """A replaced file has the new content, and nothing is left beside it."""
    path = tmp_path / "a.json"
    for content in (b"old", b"new"):
        Disk(fsync=fsync).replace(path, content)
    assert path.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert path.stat().st_mode & 0o007 == 0, "not readable by the world"


def test_a_failed_preparation_leaves_nothing(tmp_path: Path) -> None:
    """When the content cannot be written, neither the old file changes nor a new one stays."""
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def chunks() -> object:
        yield b"half"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        Disk().prepare(path, chunks())  # type: ignore[arg-type]  # a generator is an iterable of chunks
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert path.read_bytes() == b"old"


def test_append_says_where(tmp_path: Path) -> None:
    """An append reports the offset it began at and the size it reached."""
    path = tmp_path / "a.jsonl"
    first, second = Disk().append(path, b"one\n"), Disk().append(path, b"two\n")
    assert [(first.start, first.size), (second.start, second.size)] == [(0, 4), (4, 8)]
    assert path.read_bytes() == b"one\ntwo\n"
    assert second.mtime_ns == path.stat().st_mtime_ns


def test_a_missing_root_is_not_made_again(tmp_path: Path) -> None:
    """Directories are made below the root only; a vanished root is an error."""
    root = tmp_path / "gone"
    with pytest.raises(FileNotFoundError):
        Disk().make_dir(root, root / "trades")
    root.mkdir()
    Disk().make_dir(root, root / "tenant=a" / "trades")
    assert (root / "tenant=a" / "trades").is_dir()


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (b"", 0),
        (b"torn", 0),
        (b"a\n", 2),
        (b"a\ntorn", 2),
        (b"a\n" + b"x" * 200_000, 2),
        (b"x" * 131_072 + b"\n", 131_073),
    ],
)
def test_whole_lines_end_at_the_last_newline(tmp_path: Path, content: bytes, whole: int) -> None:
    """The last newline is found however far back it lies."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    assert last_newline(path) == whole


def test_setting_aside_overwrites_nothing(tmp_path: Path) -> None:
    """Two files of one name are set aside under two names."""
    for content in (b"one", b"two"):
        (tmp_path / "a.tmp").write_bytes(content)
        Disk().set_aside(tmp_path / "a.tmp", ".stale")
    assert sorted(path.read_bytes() for path in tmp_path.iterdir()) == [b"one", b"two"]
    assert unused_name(tmp_path / "free") == tmp_path / "free"
