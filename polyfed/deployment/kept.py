"""What a site keeps, so that it goes on when it was killed: one file, whole or refused, never pickle."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from polyfed.errors import DamagedError
from polyfed.exchange.wire import Refused
from polyfed.runs.checkpoint import from_arrays, to_arrays
from polyfed.runs.files import write_bytes

NAME = "site.state"


@dataclasses.dataclass(frozen=True)
class Turn:
    """An exchange that was answered: on what message, with what, and what the client was before."""

    number: int
    sha256: str
    answer: bytes
    before: Any
    held: bytes = b""  # the message, where it goes into a sum and is never sent


State = tuple[int, Any, list[Turn]]
"""`(exchange, client after it, turns)`."""


def keep(folder: Path, run: str, state: State) -> None:
    """Write what a site has, whole or not at all.

    Args:
      folder: Of the site; made for its owner alone.
      run: Of which run.
      state: What it has.

    >>> import tempfile, jax.numpy as jnp
    >>> folder = Path(tempfile.mkdtemp())
    >>> keep(folder, "run", (7, {"w": jnp.ones(2)}, [Turn(7, "ab", b"+", {"w": jnp.zeros(2)})]))
    >>> number, client, turns = kept(folder, "run", {"w": jnp.zeros(2)})
    >>> number, client["w"].tolist(), turns[0].before["w"].tolist()
    (7, [1.0, 1.0], [0.0, 0.0])
    """
    from polyfed.deployment.answer import answer

    number, after, turns = state
    head = {"run": run, "number": number, "turns": [[turn.number, turn.sha256] for turn in turns]}
    trees = [save(to_arrays(tree)) for tree in (after, *(turn.before for turn in turns))]
    body = answer([json.dumps(head).encode(), *trees, *(part for turn in turns for part in (turn.answer, turn.held))])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_bytes(folder / NAME, hashlib.sha256(body).digest() + body)


def kept(folder: Path, run: str, like: Any) -> State | None:
    """What a site has kept of a run, or None where it has nothing of it.

    Args:
      folder: Of the site.
      run: Of which run.
      like: A client, for structure, shapes and types.

    Raises:
      DamagedError: The file was cut or edited.
    """
    from polyfed.deployment.answer import opened

    path = folder / NAME
    if not path.is_file():
        return None
    data = path.read_bytes()
    checksum, body = data[:32], data[32:]
    if hashlib.sha256(body).digest() != checksum:
        raise DamagedError(f"{path} was cut or edited: its checksum is not the recorded one.")
    try:
        (length,) = (int.from_bytes(body[1:5], "little"),)
        head = json.loads(body[5 : 5 + length])
        if head["run"] != run:
            return None
        turns = head["turns"]
        _, *parts = opened(body, num_parts=2 + 3 * len(turns))
        trees = [from_arrays(like, load(part), path) for part in parts[: 1 + len(turns)]]
    except (ValueError, KeyError, TypeError, Refused, SafetensorError) as error:
        raise DamagedError(f"{path} cannot be read: it was written by another version.") from error
    said = parts[1 + len(turns) :]
    rows = zip(turns, said[::2], trees[1:], said[1::2], strict=True)
    found = [Turn(n, sha, reply, tree, held) for (n, sha), reply, tree, held in rows]
    return int(head["number"]), trees[0], found
