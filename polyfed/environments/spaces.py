"""What an environment shows and takes: a box of numbers, or one of n choices."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Box:
    """Vectors with `low <= x <= high`, one bound per entry.

    >>> Box(low=(-1.0,), high=(1.0,)).size
    1
    """

    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.low)

    @property
    def bounded(self) -> bool:
        """Whether every bound is finite."""
        return all(math.isfinite(x) for x in (*self.low, *self.high))


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers `0 .. n-1`.

    >>> Discrete(2).n
    2
    """

    n: int


Space = Box | Discrete
