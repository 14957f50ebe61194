"""A log of who sent what, when, and whether it was let in: JSON lines, each bound to the one before by its digest.

A line that is changed, taken out, put in or moved breaks the chain from there on. Lines cut off at the end do not: keep
the last digest elsewhere (it is printed at the end of a run) and give it to `verify`.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from polyfed.errors import DamagedError
from polyfed.runs.files import append_lines, writing

START = "0" * 64


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened to a message."""

    what: str  # "accepted", "refused", "absent", "greeted", "began", "ended", "mended"
    client: str = ""
    round: int = 0
    phase: str = ""
    sha256: str = ""  # of the message
    num_bytes: int = 0
    code: str = ""  # why it was refused
    why: str = ""


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Audit:
    """Adds to a log; goes on with one that is there, without half a line that a killed server left at its end.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "audit.jsonl")
    >>> audit = Audit(path)
    >>> audit.note(Event("accepted", client="ann", round=1))
    >>> Audit(path).note(Event("refused", client="eve", round=1, code="not-finite"))
    >>> verify(path)[0]
    2

    Raises:
      DamagedError: The log that is there was changed.
    """

    def __init__(self, path: Path):
        self.path = path
        half = _without_half_a_line(path)
        self.count, self.last = verify(path) if path.is_file() else (0, START)
        if half:
            why = "a server was ended within this line, which was taken out"
            self.note(Event("mended", sha256=hashlib.sha256(half).hexdigest(), num_bytes=len(half), why=why))

    def note(self, *events: Event) -> None:
        """Add events, flushed to the disk together."""
        lines = []
        for event in events:
            time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
            body = {"number": self.count, "time": time, **dataclasses.asdict(event), "before": self.last}
            self.count, self.last = self.count + 1, _digest(body)
            lines.append(json.dumps({**body, "digest": self.last}))
        if lines:
            append_lines(self.path, lines)


def _without_half_a_line(path: Path) -> bytes:
    """Cut off what follows the last whole line of a log, and give it."""
    data = path.read_bytes() if path.is_file() else b""
    half = data[data.rfind(b"\n") + 1 :]
    if half:
        with writing(path), path.open("r+b") as file:
            file.truncate(len(data) - len(half))
            os.fsync(file.fileno())
    return half


def verify(path: Path, last: str = "") -> tuple[int, str]:
    """The number of lines of a log, and the digest of the last one.

    Args:
      path: The log.
      last: The digest that the last line must have; empty: any.

    Raises:
      DamagedError: A line was changed, taken out, put in or moved; the sentence says which.
    """
    before, count = START, 0
    for count, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            body = json.loads(line)
            given = body.pop("digest")
            whole = body["number"] == count - 1 and body["before"] == before and _digest(body) == given
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole = False
        if not whole:
            raise DamagedError(f"{path} was changed at line {count}: it does not follow from the line before.")
        before = given
    if last and last != before:
        raise DamagedError(f"{path} ends with {before[:16]}, not with {last[:16]}: lines were cut off, or added.")
    return count, before
