"""Files that are whole or not there: written beside, flushed to the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from polyfed.errors import DiskError

REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the disk is read-only",
    errno.EACCES: "writing there is not permitted",
    errno.EPERM: "writing there is not permitted",
    errno.ENOTDIR: "a part of the path is a file",
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one sentence (`DiskError`)."""
    try:
        yield
    except OSError as error:
        reason = REASONS.get(error.errno or 0, os.strerror(error.errno) if error.errno else str(error))
        raise DiskError(
            f"{path} could not be written because {reason}: mend that, then resume an experiment with "
            "`polyfed run --resume`, or start a study anew; everything written before is intact."
        ) from error


def sync_folder(folder: Path) -> None:
    """Make renames in a folder last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file or none."""
    beside = path.with_name(f".{path.name}.writing")
    with writing(path):
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
        sync_folder(path.parent)


def write_json(path: Path, data: Any) -> None:
    """Write JSON, indented for people."""
    write_bytes(path, (json.dumps(data, indent=1) + "\n").encode())


def append_lines(path: Path, lines: list[str]) -> None:
    """Add lines at the end of a file and flush them to the disk."""
    with writing(path), path.open("ab") as file:
        file.write("".join(line + "\n" for line in lines).encode())
        file.flush()
        os.fsync(file.fileno())


def sha256(path: Path, length: int | None = None) -> str:
    """SHA-256 of a file, or of its first `length` bytes."""
    with path.open("rb") as file:
        if length is None:
            return hashlib.file_digest(file, "sha256").hexdigest()
        return hashlib.sha256(file.read(length)).hexdigest()
