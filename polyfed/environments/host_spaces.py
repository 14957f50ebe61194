"""Gymnasium's spaces as ours: observations as vectors of numbers, actions as one choice or one vector.

Observations of any make are flattened: choices to one-hot, `Dict` and `Tuple` entry after entry in Gymnasium's order;
bytes of images are divided by 255 and keep their rows, columns and channels as `Box.shape`. Several choices at once
(`MultiDiscrete`, or a `Tuple` of `Discrete`) become one choice among all combinations, the last changing fastest.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from polyfed.environments.spaces import Box, Discrete, Space

MAX_CHOICES = 10_000  # combinations of choices


@dataclasses.dataclass(frozen=True)
class Observations:
    """Observations of an environment as vectors."""

    space: Box
    flatten: Callable[[Any], np.ndarray]  # what it shows -> float32 [D]


@dataclasses.dataclass(frozen=True)
class Actions:
    """Actions of an environment as it takes them."""

    space: Space
    size: int  # numbers of an action: 1 for a choice
    take: Callable[[np.ndarray], Any]  # float32 [size] -> what it takes


def observations(space: gymnasium.Space) -> Observations:
    """How observations of a space are read.

    >>> observations(spaces.Dict({"door": spaces.Discrete(2), "at": spaces.Box(-1.0, 1.0, (2,))})).space.size
    4
    """
    if isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) in (2, 3):
        count = math.prod(space.shape)
        image = Box(low=(0.0,) * count, high=(1.0,) * count, shape=space.shape)
        return Observations(image, lambda x: np.asarray(x, np.float32).ravel() / np.float32(255))
    if isinstance(space, spaces.Box):
        return Observations(_box(space), lambda x: np.asarray(x, np.float32).ravel())
    try:
        flat = spaces.flatten_space(space)
    except NotImplementedError:
        flat = None
    if not isinstance(flat, spaces.Box):
        raise ValueError(
            f"Observations in {space} have no fixed number of entries, so no network can read them: wrap the "
            "environment so that it shows a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these."
        )
    return Observations(_box(flat), lambda x: np.asarray(spaces.flatten(space, x), np.float32).ravel())


def actions(space: gymnasium.Space) -> Actions:
    """How actions of a space are made.

    >>> both = actions(spaces.MultiDiscrete([2, 3]))
    >>> both.space, both.take(np.array([4.0], np.float32)).tolist()
    (Discrete(n=6), [1, 1])
    """
    if isinstance(space, spaces.Discrete):
        start = int(space.start)
        return Actions(Discrete(int(space.n)), 1, lambda x: start + int(x[0]))
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        starts = np.asarray(space.start)
        kind = space.dtype
        return _combined([int(n) for n in space.nvec], lambda x: (np.asarray(x) + starts).astype(kind), space)
    if isinstance(space, spaces.Tuple) and all(isinstance(s, spaces.Discrete) for s in space.spaces):
        parts: Any = space.spaces
        firsts = [int(s.start) for s in parts]
        return _combined(
            [int(s.n) for s in parts], lambda x: tuple(a + b for a, b in zip(x, firsts, strict=True)), space
        )
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        low, high, shape = np.ravel(space.low), np.ravel(space.high), space.shape
        dtype: Any = space.dtype
        return Actions(_box(space), low.size, lambda x: np.clip(x.astype(dtype), low, high).reshape(shape))
    raise ValueError(
        f"Actions in {space} are neither one choice, nor several, nor numbers: wrap the environment so that it takes a "
        "Discrete, MultiDiscrete or Box."
    )


def _combined(counts: list[int], made: Callable[[tuple[int, ...]], Any], space: gymnasium.Space) -> Actions:
    total = math.prod(counts)
    if total > MAX_CHOICES:
        raise ValueError(
            f"Actions in {space} have {total} combinations, and a policy must weigh each: wrap the environment so that "
            f"at most {MAX_CHOICES} are left."
        )
    return Actions(Discrete(total), 1, lambda x: made(tuple(int(i) for i in np.unravel_index(int(x[0]), counts))))


def _box(space: spaces.Box) -> Box:
    low, high = (tuple(float(x) for x in np.ravel(bound)) for bound in (space.low, space.high))
    return Box(low=low, high=high)
