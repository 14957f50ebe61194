"""Failures that end a command, each with its exit code; wrong input is a `ValueError` and ends with 2."""

from __future__ import annotations

EXIT_CODES = {
    0: "done",
    1: "a stage of a --debug round failed and is named; or, with a traceback, a fault of polyfed or of your own file",
    2: "wrong input: a name, a value or a combination that cannot work",
    3: "quorum: too few clients of a deployment answered; what was done is kept, and can be resumed",
    4: "resume refused: other versions or another machine than the run was started with",
    5: "the disk refused: full, read-only or not permitted; what was written before is intact",
    6: "damaged run folder: a file was cut or edited, and no earlier checkpoint is whole",
    7: "busy: another process is working in this run folder",
    8: "a client's training diverged, and its rule does not leave such clients out",
    130: "interrupted by the user; a run can be resumed, a study starts anew",
}


LONGEST = 300  # characters of another's message in a sentence of ours


def on_a_line(error: BaseException) -> str:
    """An error's message as part of a sentence: on one line, of a length that can be read, without control characters.

    >>> on_a_line(ValueError("no such\\n   \\x1bthing"))
    'no such thing'
    """
    printable = "".join(letter if letter.isprintable() else " " for letter in str(error))
    message = " ".join(printable.split()) or "without a message"
    return message if len(message) <= LONGEST else f"{message[:LONGEST]}..."


class PolyfedError(Exception):
    """A failure with a sentence and an exit code."""

    exit_code = 1


class MissingExtraError(ModuleNotFoundError):
    """An extra is not installed; the sentence holds the command that installs it. Ends a command with 2."""


class QuorumError(PolyfedError):
    """Too few clients of a deployment answered."""

    exit_code = 3


class ResumeMismatchError(PolyfedError):
    """The run was started with other versions, or on another machine."""

    exit_code = 4


class DiskError(PolyfedError):
    """A file could not be written."""

    exit_code = 5


class DamagedError(PolyfedError):
    """A file does not hold what was written."""

    exit_code = 6


class DivergedError(PolyfedError):
    """A client's weights are no longer finite numbers."""

    exit_code = 8


class BusyError(PolyfedError):
    """Another process holds the run folder."""

    exit_code = 7
