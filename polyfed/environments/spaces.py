"""What an environment shows and takes: a box of numbers, or one of n choices."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Box:
    """Vectors with `low <= x <= high`, one bound per entry.

    `shape` says how the entries are laid out where that means something, as in the rows and columns of an image; the
    vectors themselves stay flat, in C order.

    >>> Box(low=(-1.0,), high=(1.0,)).size
    1
    >>> Box(low=(0.0,) * 6, high=(1.0,) * 6, shape=(2, 3)).size
    6
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    shape: tuple[int, ...] | None = None  # None: a vector, nothing more

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
