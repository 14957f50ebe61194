"""A site in one process, agent and node, that ends itself with SIGKILL: `site_process.py ADDRESS CA KEY FOLDER POINT`.

The name is that of the key's folder. Says on its output when it is connected, and what it has learned.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from fleets import parts_of
from messenger import node

from polyfed.deployment import resident
from polyfed.deployment.local_socket import listening
from polyfed.deployment.member import Member


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(resident.Resident):
    """Dies at a point: `hello`, `before 2`, `within 2`, `after 2` (of a round), `evaluate`."""

    point = ""

    def answer(self, phase: Any, message: bytes) -> bytes:
        print(f"heard {phase}", flush=True)
        number = f" {parts_of(message)[0]}" if phase == "round" else ""
        if self.point in (phase, f"before{number}") and self.point != "before":
            die()
        answer = super().answer(phase, message)
        if number and self.point == f"after{number}":
            die()
        return answer


def main() -> None:
    address, authority, key, folder, point = sys.argv[1:]
    learn, keep = Member.round, resident.keep

    def learned(self: Member, client: Any, broadcast: Any, when: Any, newcomer: bool = False) -> Any:
        found = learn(self, client, broadcast, when, newcomer)
        print(f"learned {when[0]} {'anew' if newcomer else ''}", flush=True)
        return found

    def kept(where: Path, run: str, state: Any) -> None:
        if point == f"within {state[0]}":
            (where / ".site.state.writing").write_bytes(b"half")
            die()
        keep(where, run, state)

    Member.round, resident.keep = learned, kept  # type: ignore[method-assign, assignment]
    site = Mortal(Path(key).parent.name, Path(folder))
    site.point = point
    socket = Path(folder, "agent.sock")
    with listening(socket, site.answer):  # type: ignore[arg-type]
        node(address, authority, Path(key), socket, lambda: print("connected", flush=True))


if __name__ == "__main__":
    main()
