"""Fleets on this machine for the tests of a deployment: a server started by its command, and sites that are watched."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from polyfed.deployment import keys
from polyfed.deployment.join import join
from polyfed.deployment.local_socket import listening
from polyfed.deployment.processes import free_port
from polyfed.deployment.resident import Resident

NAMES = ("client-0", "client-1", "client-2")


@dataclasses.dataclass
class Watched:
    """A site that writes down what it was sent, by round, and may change what it says: `change(round, answer)`."""

    resident: Any
    change: Callable[[int, bytes], bytes] | None = None
    sent: dict[int, list[bytes]] = dataclasses.field(default_factory=dict)
    phases: list[str] = dataclasses.field(default_factory=list)

    @property
    def name(self) -> str:
        return self.resident.name

    @property
    def over(self) -> threading.Event:
        return self.resident.over

    def answer(self, phase: Any, message: bytes) -> bytes:
        self.phases.append(phase)
        answer = self.resident.answer(phase, message)
        if phase != "round" or answer[:1] != b"+":
            return answer
        number, numbers = parts_of(message)
        self.sent.setdefault(number, []).append(numbers)
        return self.change(number, answer) if self.change else answer


def parts_of(message: bytes) -> tuple[int, bytes]:
    """The round of a message, and the bytes of its numbers."""
    (length,) = struct.unpack_from("<I", message, 8)
    return json.loads(message[12 : 12 + length])["round"], message[12 + length :]


def started(words: Sequence[str], log: Path, **how: Any) -> subprocess.Popen[bytes]:
    """A command of polyfed that runs, writing into a log."""
    with log.open("ab") as file:
        command = [sys.executable, "-m", "polyfed", *words]
        return subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **how)


@dataclasses.dataclass(frozen=True)
class Fleet:
    """A folder with keys, and a port that nobody has."""

    folder: Path
    port: int

    @classmethod
    def make(cls, folder: Path, names: Sequence[str] = NAMES, hosts: Sequence[str] = ("127.0.0.1",)) -> Fleet:
        keys.make(folder / "keys", list(names), list(hosts))
        return cls(folder, free_port())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def served(self) -> Path:
        """The one run folder."""
        (found,) = self.folder.glob("runs/*/*/")
        return found

    def lines(self, name: str = "audit.jsonl") -> list[dict[str, Any]]:
        """What a log of the run holds."""
        return [json.loads(line) for line in (self.served / name).read_text().splitlines()]

    @property
    def said(self) -> str:
        """By the server."""
        return (self.folder / "server.log").read_text(errors="replace")

    def serve(self, experiment: Path | str, *words: str) -> subprocess.Popen[bytes]:
        """Start the server."""
        own = ["--keys", str(self.folder / "keys"), "--port", str(self.port), "--host", "127.0.0.1", "--no-report"]
        given = [str(experiment), *words, "--out", str(self.folder / "runs")]
        return started(["serve", *given, *own], self.folder / "server.log")

    def resume(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a server that goes on with the one run."""
        own = ["--keys", str(self.folder / "keys"), "--port", str(self.port), "--host", "127.0.0.1", "--no-report"]
        return started(["serve", "--resume", str(self.served), *words, *own], self.folder / "server.log")

    def site(self, name: str, *words: str) -> subprocess.Popen[bytes]:
        """Start a site."""
        own = ["--name", name, "--keys", str(self.folder / "keys"), "--site", str(self.folder / "site")]
        return started(["join", "--server", self.address, *own, *words], self.folder / f"{name}.log")

    @contextlib.contextmanager
    def joined(self, *sites: Watched | Resident, tries: int = 20) -> Iterator[None]:
        """Sites in this process, whose messages Flower's own processes bring."""
        threads = [threading.Thread(target=self._join, args=(site, tries), daemon=True) for site in sites]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for site in sites:
                site.over.set()
            for thread in threads:
                thread.join(timeout=60.0)

    @contextlib.contextmanager
    def carried(self, *sites: Watched) -> Iterator[None]:
        """Sites in this process, whose messages one process brings that stands for all their SuperNodes."""
        script, root = Path(__file__).with_name("messenger.py"), self.folder / "keys" / "server" / "ca.pem"
        with contextlib.ExitStack() as stack:
            words = [sys.executable, str(script), self.address, str(root)]
            for site in sites:
                path = self.folder / "s" / f"{site.name}.sock"
                stack.enter_context(listening(path, site.answer))  # type: ignore[arg-type]
                words += [str(self.folder / "keys" / site.name / "client.key"), str(path)]
            with (self.folder / "messenger.log").open("ab") as log:
                process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
            stack.enter_context(ended(process))
            yield

    def _join(self, site: Any, tries: int) -> None:
        log = (self.folder / f"{site.name}.log").open("a", buffering=1)
        with log, contextlib.suppress(Exception):
            join(self.address, site, self.folder / site.name, self.folder / "keys", tries, lambda s: print(s, file=log))


@contextlib.contextmanager
def ended(*processes: subprocess.Popen[bytes]) -> Iterator[None]:
    """Processes of ours that end with the context."""
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=20.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def until(true: Callable[[], bool], patience_s: float = 300.0) -> None:
    """Wait for something; fails where it does not come."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < patience_s, "it did not come"
        time.sleep(0.1)
