"""Environments of Gymnasium that other processes step: all cores do, and one that dies takes nobody along.

A process holds `LiveWorlds`. It is sent rows and answers with rows; what it is not told is what it may have forgotten:
it asks for the actions of an episode only where it has to play it again. So a process that died is started once more
and goes on where the old one was. A world that ends or holds up its process again is out, as one that fails is.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from polyfed.environments.host_recipe import Recipe, facts
from polyfed.environments.live_worlds import NEVER, TOLD, TRACE, LiveWorlds, answer_for_none, answer_when_over, cut

STARTING = 120.0  # s that a process may take to come up
_BEGIN, _ADVANCE, _MISSING, _DONE = b"b", b"a", b"m", b"d"


class Gone(Exception):
    """A process died, or took too long."""


def serve(descriptor: int) -> None:
    """What a process does: answer until nobody asks any more."""
    link = Connection(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        worlds = LiveWorlds(Recipe.read(json.loads(link.recv_bytes())))
        link.send_bytes(_DONE)
        told = 0
        while True:
            answers = _answer(worlds, link, link.recv_bytes())
            new = dict(list(worlds.failures.items())[told:])
            told += len(new)
            words = json.dumps({world.hex(): reason for world, reason in new.items()}).encode() if new else b""
            link.send_bytes(_DONE + struct.pack("<I", answers.nbytes) + answers.tobytes() + words)


def _answer(worlds: LiveWorlds, link: Connection, message: bytes) -> np.ndarray:
    (count,) = struct.unpack_from("<I", message, 1)
    rows = np.frombuffer(message, np.uint32, offset=5).reshape(count, -1)
    if message[:1] == _BEGIN:
        return worlds.begin(rows)
    recall: list[Any] = [None] * count
    if missing := worlds.missing(rows):
        link.send_bytes(_MISSING + np.asarray(missing, np.uint32).tobytes())
        lengths = rows[missing, -1].astype(int)
        past = np.frombuffer(link.recv_bytes(), np.float32).reshape(int(lengths.sum()), worlds.facts.taken.size)
        for i, piece in zip(missing, np.split(past, np.cumsum(lengths)[:-1]), strict=True):
            recall[i] = piece
    return worlds.advance(rows, recall)


class Process:
    """A process that steps environments, from outside; may be started again."""

    def __init__(self, recipe: Recipe, patience: float):
        self.recipe, self.patience = recipe, patience
        self.lock = threading.Lock()
        self.episodes = 0  # that run there
        self._child: subprocess.Popen[bytes] | None = None
        self._link: Connection | None = None
        self.start()

    def start(self) -> None:
        """Come up, or come up again; raises `Gone` where it cannot."""
        self.stop()
        ours, theirs = socket.socketpair()
        code = f"from polyfed.environments.worker_worlds import serve; serve({theirs.fileno()})"
        path = os.pathsep.join(x for x in sys.path if x)
        self._child = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path},
        )
        theirs.close()
        self._link = Connection(ours.detach())
        self._answers = select.poll()  # kept: what `Connection.poll` makes anew every time costs more than a step
        self._answers.register(self._link.fileno(), select.POLLIN)
        self.send(json.dumps(dataclasses.asdict(self.recipe)).encode())
        self.receive(STARTING)

    def stop(self) -> None:
        """Go, at once."""
        if self._link is not None:
            self._link.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        self._child = self._link = None

    def send(self, message: bytes) -> None:
        """Raises `Gone`."""
        try:
            assert self._link is not None
            self._link.send_bytes(message)
        except (OSError, AssertionError) as error:
            raise Gone("its process died") from error

    def receive(self, patience: float | None = None) -> bytes:
        """Raises `Gone`."""
        patience = self.patience if patience is None else patience
        try:
            assert self._link is not None
            if not self._answers.poll(1000 * patience):
                raise Gone(f"its process did not answer within {patience:g} s")
            return self._link.recv_bytes()
        except (OSError, EOFError, AssertionError) as error:
            raise Gone("its process died") from error


class WorkerWorlds:
    """As `LiveWorlds`, in several processes; an episode stays in the one where it began.

    Args:
      recipe: How an environment is made.
      number: Of processes.
      patience: Seconds that a process may take for one answer.
      callers: Threads that call at the same time. Episodes that begin in one call are spread over the processes that
        are there for each thread, so that no thread waits for the environments of another.
    """

    def __init__(self, recipe: Recipe, number: int, patience: float, callers: int = 1):
        self.recipe, self.facts = recipe, facts(recipe)
        self._pieces = max(1, number // callers)  # processes for the episodes that begin in one call
        self.size, self.num_values = self.facts.seen.space.size, len(recipe.varied)
        self.failures: dict[bytes, str] = {}
        self._processes = [Process(recipe, patience) for _ in range(number)]
        self._where: dict[bytes, int] = {}  # the process of a running episode, by quantities and seed
        self._alike: Counter[bytes] = Counter()  # how often it runs: every policy is judged on the same ones
        self._lock = threading.Lock()
        atexit.register(self.close)

    def close(self) -> None:
        """Stop all processes."""
        for process in self._processes:
            process.stop()

    def begin(self, rows: np.ndarray) -> np.ndarray:
        """As `LiveWorlds.begin`."""
        rows = np.ascontiguousarray(rows)
        return self._spread(rows, _BEGIN, None, self.size)

    def advance(self, rows: np.ndarray, recall: np.ndarray) -> np.ndarray:
        """As `LiveWorlds.advance`."""
        rows = np.ascontiguousarray(rows)
        answers = self._spread(rows, _ADVANCE, recall, 2 * self.size + TOLD)
        over = (answers[:, self.size + 1] | answers[:, self.size + 2]) > 0
        with self._lock:
            for row in rows[over]:
                place = self._ended(row[: self.num_values + 1].tobytes())
                if place is not None and row[-2] != NEVER:
                    self._began(row[-2 - self.num_values : -1].tobytes(), place)
        return answers

    def _began(self, episode: bytes, place: int) -> int:
        """The process of an episode that begins: that of one that is alike, or else this one."""
        place = self._where.get(episode, place)
        self._where[episode] = place
        self._alike[episode] += 1
        self._processes[place].episodes += 1
        return place

    def _ended(self, episode: bytes) -> int | None:
        place = self._where.get(episode)
        if place is not None:
            self._processes[place].episodes -= 1
            self._alike[episode] -= 1
            if self._alike[episode] <= 0:
                del self._alike[episode], self._where[episode]
        return place

    def there(self, rows: np.ndarray) -> np.ndarray:
        """As `LiveWorlds.there`."""
        return np.array([[world not in self.failures] for world in cut(rows, self.num_values)], np.float32)

    def _spread(self, rows: np.ndarray, kind: bytes, recall: np.ndarray | None, width: int) -> np.ndarray:
        """Send every process its rows, then gather; other threads may use other processes meanwhile."""
        places = self._placed(rows, kind)
        answers = np.zeros((len(rows), width), np.uint32)
        shares = [(self._processes[p], np.flatnonzero(places == p)) for p in sorted({*places.tolist()} - {-1})]
        with contextlib.ExitStack() as stack:
            for process, _ in shares:  # in one order, so that no two threads wait for each other
                stack.enter_context(process.lock)
            broken: dict[int, str] = {}
            for nth, (process, mine) in enumerate(shares):
                try:
                    process.send(_message(kind, rows[mine]))
                except Gone as error:
                    broken[nth] = str(error)
            for nth, (process, mine) in enumerate(shares):
                try:
                    if nth not in broken:
                        answers[mine] = self._gathered(process, rows[mine], _of(recall, mine), width)
                        continue
                except Gone as error:
                    broken[nth] = str(error)
                answers[mine] = self._again(process, kind, rows[mine], _of(recall, mine), width)
        if kind == _ADVANCE:
            self._answer_without(rows, answers, places)
        return answers

    def _placed(self, rows: np.ndarray, kind: bytes) -> np.ndarray:
        """The process of every row, -1 for those that need none."""
        end, places = self.num_values + 1, np.full(len(rows), -1)
        episodes, needs_none = cut(rows, end), np.zeros(len(rows), bool)
        if kind == _ADVANCE:
            needs_none = (rows[:, end : end + TRACE] == NEVER).all(axis=1)
        if self.failures:
            needs_none |= ~self.there(rows[:, : self.num_values]).astype(bool)[:, 0]
        with self._lock:
            homeless = []
            for i in np.flatnonzero(~needs_none).tolist():
                known = self._where.get(episodes[i]) if kind == _ADVANCE else None
                if known is None:
                    homeless.append(i)
                else:
                    places[i] = known
            for piece in np.array_split(homeless, self._pieces) if homeless else ():
                idlest = int(np.argmin([process.episodes for process in self._processes]))
                for i in piece.tolist():
                    places[i] = self._began(episodes[i], idlest)
        return places

    def _gathered(self, process: Process, rows: np.ndarray, recall: Sequence[Any] | None, width: int) -> np.ndarray:
        message = process.receive()
        if message[:1] == _MISSING:
            assert recall is not None
            missing = np.frombuffer(message, np.uint32, offset=1)
            process.send(np.concatenate([recall[i][: int(rows[i, -1])] for i in missing]).astype(np.float32).tobytes())
            message = process.receive()
        (size,) = struct.unpack_from("<I", message, 1)
        if words := message[5 + size :]:
            self.failures.update({bytes.fromhex(world): reason for world, reason in json.loads(words).items()})
        return np.frombuffer(message, np.uint32, count=size // 4, offset=5).reshape(len(rows), width)

    def _again(self, process: Process, kind: bytes, rows: np.ndarray, recall: Any, width: int) -> np.ndarray:
        """One row after the other in a process started anew; a row at which it is gone again is a world that is out."""
        answers = np.zeros((len(rows), width), np.uint32)
        up = False
        for i in range(len(rows)):
            world = rows[i, : self.num_values].tobytes()
            if world in self.failures:
                continue
            try:
                if not up:
                    process.start()
                    up = True
                process.send(_message(kind, rows[i : i + 1]))
                answers[i] = self._gathered(process, rows[i : i + 1], _of(recall, np.array([i])), width)[0]
            except Gone as error:
                self.failures[world] = f"{error}, and again after it was started anew"
                up = False
        if not up:
            with contextlib.suppress(Gone):
                process.start()
        return answers

    def _answer_without(self, rows: np.ndarray, answers: np.ndarray, places: np.ndarray) -> None:
        """What `LiveWorlds` answers for episodes that are over, and for worlds that are out."""
        for i in np.flatnonzero(places < 0) if not self.failures else range(len(rows)):
            if rows[i, : self.num_values].tobytes() in self.failures:
                answer_for_none(rows[i], answers[i], self.size, self.num_values)
            elif places[i] < 0:
                answer_when_over(answers[i], self.size)


def _message(kind: bytes, rows: np.ndarray) -> bytes:
    return kind + struct.pack("<I", len(rows)) + rows.tobytes()


def _of(recall: Any, mine: np.ndarray) -> Any:
    return None if recall is None else [recall[i] for i in mine]
