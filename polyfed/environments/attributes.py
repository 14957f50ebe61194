"""Attributes of a live environment by path, such as `model.opt.gravity[2]`: read, changed, and checked after changing.

A path is names joined by points, each with an index where it is an array: a number, `*` for all, one per axis. Nothing
of it is evaluated, and names that begin with an underscore are refused.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

_PART = re.compile(r"([A-Za-z]\w*)(?:\[([0-9*, -]+)\])?")
_EXAMPLE = "model.opt.gravity[2]"


def _parsed(path: str) -> list[tuple[str, tuple[Any, ...]]]:
    """Names and indices; raises `ValueError` if this is no path."""
    parts = []
    for piece in path.split("."):
        found = _PART.fullmatch(piece)
        if found is None:
            raise ValueError(
                f"'{path}' is no path to an attribute: give names joined by points, with an index where it is an "
                f"array, such as {_EXAMPLE}."
            )
        name, index = found.groups()
        entries = () if index is None else tuple(x.strip() for x in index.split(","))
        try:
            parts.append((name, tuple(slice(None) if x == "*" else int(x) for x in entries)))
        except ValueError as error:
            raise ValueError(f"[{index}] in '{path}' is no index: give whole numbers, or * for all.") from error
    return parts


def _owner(target: Any, path: str) -> tuple[Any, str, tuple[Any, ...]]:
    """The object that holds the last name of a path, that name and its index; `ValueError` if it is not there."""
    parts, owner = _parsed(path), target
    for i, (name, index) in enumerate(parts):
        if not hasattr(owner, name):
            raise ValueError(
                f"{type(target).__name__} has no attribute '{path}': {type(owner).__name__} has no '{name}'. See what "
                "it has with dir(gymnasium.make(...).unwrapped)."
            )
        if i < len(parts) - 1:
            owner = getattr(owner, name)
            owner = owner[index if len(index) > 1 else index[0]] if index else owner
    return owner, *parts[-1]


def read(target: Any, path: str) -> np.ndarray:
    """The numbers at a path, float64; a scalar where there is one.

    Raises:
      ValueError: There is no such attribute, or it holds no numbers.

    >>> import types
    >>> body = types.SimpleNamespace(mass=np.array([1.0, 2.0]))
    >>> read(types.SimpleNamespace(body=body), "body.mass[1]").item()
    2.0
    """
    owner, name, index = _owner(target, path)
    value = getattr(owner, name)
    try:
        value = value[index if len(index) > 1 else index[0]] if index else value
        if value is None:  # which NumPy would take for NaN
            raise TypeError("nothing is there")
        numbers = np.array(value, np.float64)
        if not numbers.size:
            raise TypeError("it is empty")
        return numbers
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise ValueError(
            f"'{path}' of {type(target).__name__} is no number that can be changed: {type(value).__name__}. Give one "
            "that is, with an index where it is an array."
        ) from error


def write(target: Any, path: str, value: Any) -> None:
    """Change the numbers at a path, and look whether they are changed.

    Args:
      target: An environment, usually `unwrapped`.
      path: As in `read`.
      value: A number, or numbers of the shape that `read` gives.

    Raises:
      ValueError: There is no such attribute, it cannot be set, or it does not hold the value afterwards.

    >>> import types
    >>> target = types.SimpleNamespace(length=0.5, mass=np.ones(3))
    >>> write(target, "length", 1.0)
    >>> write(target, "mass[*]", [1.0, 2.0, 3.0])
    >>> target.length, target.mass.tolist()
    (1.0, [1.0, 2.0, 3.0])
    """
    before = read(target, path)
    owner, name, index = _owner(target, path)
    wanted = np.broadcast_to(np.asarray(value, np.float64), before.shape)
    try:
        if index:
            getattr(owner, name)[index if len(index) > 1 else index[0]] = wanted
        elif before.ndim:
            getattr(owner, name)[...] = wanted
        else:
            setattr(owner, name, float(wanted))
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"'{path}' of {type(target).__name__} cannot be set: {error}. Give an attribute that can, or an argument "
            "of the constructor as kwargs.NAME."
        ) from error
    after = read(target, path)
    if not np.allclose(after, wanted, rtol=1e-6, atol=0.0):
        raise ValueError(
            f"'{path}' of {type(target).__name__} is {_shown(after)} after it was set to {_shown(wanted)}: something "
            "derives it. Change what it is derived from."
        )


def _shown(value: np.ndarray) -> str:
    """A number, or the first of several."""
    first = float(np.ravel(value)[0])
    return f"{first:g}" if math.isfinite(first) else str(first)
