"""For whom a site has shown shares: two sums of one message over different clients would tell a message of one of them.

A line for each exchange, on the disk before the shares leave, and never taken out: what is learned from the same start
is the same in another run of the experiment, too.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from polyfed.errors import DamagedError
from polyfed.runs.files import append_lines, write_bytes

NAME = "site.sums"


@dataclasses.dataclass(frozen=True)
class Shown:
    """Shares that were shown: in which exchange, with what broadcast and message, and who was left."""

    experiment: str  # digest
    run: str
    number: int  # of the exchange
    broadcast: str  # digest
    message: str  # digest
    left: tuple[str, ...]  # clients


class Memory:
    """All for which a site has shown shares.

    Args:
      folder: Of the site; None: it forgets when it ends.

    Raises:
      DamagedError: What was kept was edited; a last line that was cut is of shares that never left.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> Memory(folder).add(Shown("e", "run", 3, "b", "m", ("ann", "bob")))
    >>> Memory(folder).of(Shown("e", "another run", 3, "b", "m", ())).left
    ('ann', 'bob')
    >>> Memory(folder).of(Shown("e", "another run", 4, "b", "m", ())) is None
    True
    """

    def __init__(self, folder: Path | None = None):
        self._path = None if folder is None else folder / NAME
        self._exchanges: dict[tuple[str, int], Shown] = {}
        self._messages: dict[tuple[str, int, str], Shown] = {}
        if self._path is not None and self._path.is_file():
            for shown in _read(self._path):
                self._learn(shown)

    def exchange(self, run: str, number: int) -> Shown | None:
        """What was shown in an exchange."""
        return self._exchanges.get((run, number))

    def of(self, now: Shown) -> Shown | None:
        """What was shown in this exchange, or of the same message in that of another run."""
        return self.exchange(now.run, now.number) or self._messages.get((now.experiment, now.number, now.message))

    def add(self, now: Shown) -> None:
        """Remember, before the shares leave."""
        if self.exchange(now.run, now.number) == now:
            return
        self._learn(now)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            append_lines(self._path, [json.dumps(dataclasses.asdict(now))])

    def _learn(self, shown: Shown) -> None:
        self._exchanges[shown.run, shown.number] = shown
        self._messages.setdefault((shown.experiment, shown.number, shown.message), shown)


def _read(path: Path) -> list[Shown]:
    whole, _, cut = path.read_bytes().rpartition(b"\n")
    if cut:  # else the next line would go on with it
        write_bytes(path, whole + b"\n" if whole else b"")
    try:
        found = [json.loads(line) for line in whole.splitlines()]
        return [Shown(**{**one, "left": tuple(one["left"])}) for one in found]
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(
            f"{path} was edited, so this site does not know what it has shown: give it another --site folder."
        ) from error
