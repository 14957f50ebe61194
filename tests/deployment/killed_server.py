"""The server's loop that ends itself with SIGKILL at a point; put in from outside, for the product knows none."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from polyfed.deployment import audit, deploy
from polyfed.deployment.carrier import Carrier, Phase, Replies
from polyfed.deployment.local_socket import SocketError, call
from polyfed.deployment.remote import Remote
from polyfed.exchange.gate import Gate
from polyfed.runs import checkpoint, run, store


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Sockets(Carrier):
    """Sites behind sockets in a folder, one after another; `point(name)` is called on the way."""

    def __init__(self, folder: Path, point: Callable[[str], None] = lambda name: None):
        self.folder, self.point = folder, point

    def clients(self) -> tuple[str, ...]:
        return tuple(sorted(path.stem for path in self.folder.glob("*.sock")))

    def exchange(self, phase: Phase, messages: Mapping[str, bytes], deadline_s: float) -> Replies:
        arrived, failed = [], dict[str, str]()
        self.point(f"before {phase}")
        for name, message in messages.items():
            try:
                arrived.append((name, call(self.folder / f"{name}.sock", phase, message, deadline_s)))
            except SocketError as error:
                failed[name] = str(error)
            self.point(f"within {phase}")
        self.point(f"after {phase}")
        return Replies(tuple(arrived), failed)


def at(name: str, nth: int) -> Callable[[str], None]:
    """What is called with names, and ends the process at the nth of one."""
    seen = [0]

    def point(now: str) -> None:
        if now == name:
            seen[0] += 1
            if seen[0] == nth:
                die()

    return point


def before(owner: Any, name: str, nth: int) -> None:
    """The process ends before the nth call of a function."""
    whole, point = getattr(owner, name), at("call", nth)

    def instead(*args: Any, **how: Any) -> Any:
        point("call")
        return whole(*args, **how)

    setattr(owner, name, instead)


def after(owner: Any, name: str, nth: int) -> None:
    """The process ends after the nth call of a function."""
    whole, point = getattr(owner, name), at("call", nth)

    def instead(*args: Any, **how: Any) -> Any:
        found = whole(*args, **how)
        point("call")
        return found

    setattr(owner, name, instead)


def within(owner: Any, log: str, nth: int) -> None:
    """The process ends when half of the nth addition to a log is on the disk."""
    whole, seen = owner.append_lines, [0]

    def instead(path: Path, lines: list[str]) -> None:
        seen[0] += path.name == log
        if path.name == log and seen[0] == nth:
            text = "".join(line + "\n" for line in lines)
            with path.open("a") as file:
                file.write(text[: len(text) // 2])
            die()
        whole(path, lines)

    owner.append_lines = instead


# With three rounds, evaluated before the first, after the second and the third.
POINTS: dict[str, Callable[[], Any]] = {
    "before the greeting": lambda: at("before hello", 1),
    "when one site was greeted": lambda: at("within hello", 1),
    "before a round is sent": lambda: at("before round", 2),
    "after the first answer": lambda: at("within round", 4),
    "when all have answered": lambda: at("after round", 2),
    "before the merge": lambda: before(Gate, "close", 2),
    "after the merge": lambda: after(Remote, "exchange", 2),
    "before an audit line": lambda: before(audit, "append_lines", 9),
    "within an audit line": lambda: within(audit, "audit.jsonl", 9),
    "within the line of a round": lambda: within(store, "metrics.jsonl", 2),
    "before an evaluation": lambda: at("before evaluate", 2),
    "after an evaluation": lambda: at("after evaluate", 2),
    "within the line of an evaluation": lambda: within(store, "evaluation.jsonl", 2),
    "before a checkpoint": lambda: before(run, "write_checkpoint", 2),
    "within a checkpoint": lambda: after(checkpoint, "write_arrays", 2),
    "before a checkpoint is renamed": lambda: before(checkpoint.os, "replace", 6),
    "after a checkpoint": lambda: after(run, "write_checkpoint", 2),
    "after the last round": lambda: after(run, "write_checkpoint", 3),
    "before the ledger of the end": lambda: before(store, "write_json", 1),
    "after the ledger of the end": lambda: after(store, "write_json", 1),
    "before the word that it is over": lambda: at("before stop", 1),
    "when one site knows that it is over": lambda: at("within stop", 1),
}


def serve(folder: str, sockets: str, name: str) -> None:
    point = POINTS[name]() if name else None
    deploy.go_on(Path(folder), Sockets(Path(sockets), point or (lambda now: None)), lambda progress: None)
