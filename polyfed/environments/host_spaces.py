"""Gymnasium's spaces as ours: observations as vectors of numbers, actions as one choice or one vector.

Observations of any make are flattened: choices to one-hot, `Dict` and `Tuple` entry after entry in Gymnasium's order.
Images (bytes in rows and columns, or numbers of one range that have channels too) are scaled to 0 to 1 and keep rows,
columns and channels as `Box.shape`; frames that are stacked before their rows, as `FrameStackObservation` does, become
the last channels, and so do channels that come first. Several choices at once
(`MultiDiscrete`, or a `Tuple` of `Discrete`) become one choice among all combinations, the last changing fastest. The
entry `action_mask` of a `Dict` says which choices are allowed, as is usual: 0 forbids.
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
    mask: tuple[int, int] | None = None  # where the flags of allowed actions begin and end


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
    if isinstance(space, spaces.Box) and _is_image(space):
        return _image(space)
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
    return Observations(_box(flat), lambda x: np.asarray(spaces.flatten(space, x), np.float32).ravel(), _mask(space))


def _is_image(space: spaces.Box) -> bool:
    """Bytes in rows and columns; numbers only where they have channels or frames too, and one finite range."""
    if space.dtype == np.uint8:
        return 2 <= len(space.shape) <= 4
    one = np.ptp(space.low) == 0 and np.ptp(space.high) == 0 if space.is_bounded() else False
    return len(space.shape) in (3, 4) and bool(one) and float(space.high.flat[0]) > float(space.low.flat[0])


def _image(space: spaces.Box) -> Observations:
    """Rows and columns, then channels, then frames; from 0 to 1."""
    byte = space.dtype == np.uint8
    low, range_ = (0.0, 255.0) if byte else (float(space.low.flat[0]), float(space.high.flat[0] - space.low.flat[0]))
    stacked = len(space.shape) == 4 or (len(space.shape) == 3 and space.shape[0] < min(space.shape[1:]))
    rest = space.shape[1:] if stacked else space.shape
    shape = (*rest[:2], math.prod(rest[2:]) * space.shape[0]) if stacked else rest
    count = math.prod(shape)

    def flatten(x: Any) -> np.ndarray:
        picture = np.moveaxis(np.asarray(x), 0, -1) if stacked else np.asarray(x)
        return (picture.astype(np.float32).ravel() - np.float32(low)) / np.float32(range_)

    return Observations(Box(low=(0.0,) * count, high=(1.0,) * count, shape=tuple(shape)), flatten)


def _mask(space: gymnasium.Space) -> tuple[int, int] | None:
    """Where the flags of a `Dict`'s `action_mask` come to stand."""
    if not isinstance(space, spaces.Dict) or "action_mask" not in space.spaces:
        return None
    names = list(space.spaces)
    sizes = [spaces.flatdim(part) for part in space.spaces.values()]
    nth = names.index("action_mask")
    return sum(sizes[:nth]), sum(sizes[: nth + 1])


def check_mask(mask: tuple[int, int] | None, taken: Space) -> None:
    """Raise `ValueError` in one sentence where a mask does not say of every choice whether it is allowed.

    >>> check_mask((0, 3), Discrete(3))
    """
    if mask is None or (isinstance(taken, Discrete) and mask[1] - mask[0] == taken.n):
        return
    choices = f"{taken.n} choices" if isinstance(taken, Discrete) else "no choices"
    raise ValueError(
        f"Observations have an action_mask of {mask[1] - mask[0]} numbers, but actions are {choices}, so it cannot say "
        "which are allowed: wrap the environment so that it has one flag for each, or shows no action_mask."
    )


def check_some_allowed(mask: tuple[int, int] | None, observation: np.ndarray) -> None:
    """Raise `ValueError` in one sentence where an episode goes on, but nothing may be done.

    >>> check_some_allowed((0, 2), np.array([0.0, 1.0]))
    """
    if mask is not None and not np.any(observation[slice(*mask)] > 0):
        raise ValueError(
            "its action_mask allows nothing although the episode goes on: end the episode there, or allow an action"
        )


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
