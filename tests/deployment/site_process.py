"""A site in one process, agent and node, that ends itself with SIGKILL: `site_process.py ADDRESS CA KEY FOLDER POINT`.

The name is that of the key's folder. Says on its output when it is connected, and what it has learned.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from messenger import node

from polyfed.deployment import resident
from polyfed.deployment.local_socket import listening
from polyfed.deployment.member import Member


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(resident.Resident):
    """Dies at `hello`, `before` a round that follows it, `within` keeping one, `after` one, or before the `second`."""

    point = ""
    greeted, learned = False, 0

    def answer(self, phase: Any, message: bytes) -> bytes:
        print(f"heard {phase}", flush=True)
        dying = {"before": self.greeted, "second": self.learned > 0}.get(self.point, False)
        if phase == self.point or (phase == "round" and dying):
            die()
        answer = super().answer(phase, message)
        self.greeted |= phase == "hello"
        if self.learned and self.point == "after":
            die()
        return answer


def main() -> None:
    address, authority, key, folder, point = sys.argv[1:]
    site = Mortal(Path(key).parent.name, Path(folder))
    site.point = point
    learn, keep = Member.round, resident.keep

    def learned(self: Member, client: Any, broadcast: Any, when: Any, newcomer: bool = False) -> Any:
        found = learn(self, client, broadcast, when, newcomer)
        site.learned += 1
        print(f"learned {when[0]}", flush=True)
        return found

    def kept(where: Path, run: str, state: Any) -> None:
        if site.learned and point == "within":
            (where / ".site.state.writing").write_bytes(b"half")
            die()
        keep(where, run, state)
        if site.learned:
            print(f"kept {state[0]}", flush=True)

    Member.round, resident.keep = learned, kept  # type: ignore[method-assign, assignment]
    socket = Path(folder, "agent.sock")
    with listening(socket, site.answer):  # type: ignore[arg-type]
        node(address, authority, Path(key), socket, lambda: print("connected", flush=True))


if __name__ == "__main__":
    main()
