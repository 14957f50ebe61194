"""Flower's own processes: found, started with nothing that calls home, and ended with us."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from polyfed.errors import MissingExtraError

TOO_LONG = 124  # code of a program that took longer than it was given
TIED = """import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM: ends when its parent does, however that was
os.execv(sys.argv[1], sys.argv[1:])
"""


def need_flower() -> None:
    """Raise `MissingExtraError` where Flower is not installed."""
    if importlib.util.find_spec("flwr") is None:
        raise MissingExtraError(
            'A deployment needs a package that is not installed: pip install "polyfed[flower]", or simulate with '
            "`polyfed run`."
        )


def program(name: str) -> str:
    """The path of one of Flower's programs: beside this Python, or on the path."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise MissingExtraError(f'{name} is not installed: pip install "polyfed[flower]".')
    return found


def environment(home: Path) -> dict[str, str]:
    """What Flower's processes find: a home of their own, no telemetry, no look for updates, our programs first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    own = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": path,
        "NO_COLOR": "1",
    }
    return {**os.environ, **own}


@contextlib.contextmanager
def running(arguments: Sequence[str], home: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the end of the context, writing into `log`."""
    tied = [sys.executable, "-c", TIED] if sys.platform == "linux" else []
    with log.open("ab") as file:
        process = subprocess.Popen(
            [*tied, program(arguments[0]), *arguments[1:]],
            env=environment(home),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(arguments: Sequence[str], home: Path, timeout_s: float = 120.0) -> subprocess.CompletedProcess[str]:
    """A program that is run to its end; one that takes too long has failed with `TOO_LONG`."""
    words = [program(arguments[0]), *arguments[1:]]
    how: dict[str, Any] = {"env": environment(home), "stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    try:
        return subprocess.run(words, timeout=timeout_s, check=False, **how)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, TOO_LONG, "", f"it took longer than {timeout_s:g} s")


def free_port() -> int:
    """A port of this machine alone that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(host: str, port: int, timeout_s: float = 3.0) -> str:
    """Why nobody answers at an address; empty where somebody does."""
    try:
        with socket.create_connection((host, port), timeout_s):
            return ""
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__


def wait_for_port(host: str, port: int, process: subprocess.Popen[bytes], patience_s: float = 120.0) -> bool:
    """Wait until a process listens; False where it ended before, or took too long."""
    began = time.monotonic()
    while time.monotonic() - began < patience_s and process.poll() is None:
        if not answers(host, port, 1.0):
            return True
        time.sleep(0.2)
    return False


def tail(log: Path, lines: int = 3) -> str:
    """The last lines of a log, on one line of printable letters."""
    text = log.read_text(errors="replace") if log.is_file() else ""
    last = " ".join(" ".join(text.splitlines()[-lines:]).split())
    return "".join(letter for letter in last if letter.isprintable())[-300:]
