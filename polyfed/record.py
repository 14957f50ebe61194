"""Parts as data and back: how an experiment is written into its run folder and read again, without pickle.

A part becomes `{"part": "polyfed.agents.dqn.DQN", ...fields}`. Reading imports from `polyfed` alone, so a run folder
cannot make a reader import anything else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from typing import Any

import numpy as np

from polyfed.leaves import is_part


def to_data(value: Any) -> Any:
    """A part, or numbers, strings and tuples of them, as JSON data.

    >>> from polyfed.agents import HardUpdate
    >>> to_data(HardUpdate(period=10))
    {'part': 'polyfed.agents.target.HardUpdate', 'period': 10}
    """
    if is_part(value):
        cls = type(value)
        fields = {f.name: to_data(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"part": f"{cls.__module__}.{cls.__qualname__}", **fields}
    if isinstance(value, (tuple, list)):
        return [to_data(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)) or hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if callable(value):
        name = getattr(value, "__qualname__", repr(value))
        raise ValueError(
            f"{name} is code, which a record cannot hold: run it with Simulation in Python, or use a part such as SB3."
        )
    raise ValueError(f"{value!r} cannot be recorded as data: use numbers, strings, tuples and parts.")


def from_data(data: Any) -> Any:
    """The part that `to_data` recorded; lists become tuples.

    >>> from polyfed.agents import HardUpdate
    >>> from_data(to_data(HardUpdate(period=10)))
    HardUpdate(period=10)
    """
    if isinstance(data, list):
        return tuple(from_data(v) for v in data)
    if not isinstance(data, dict):
        return data
    cls = _part_class(str(data.get("part")))
    known = {f.name for f in dataclasses.fields(cls)}
    fields = {name: from_data(value) for name, value in data.items() if name != "part"}
    if unknown := set(fields) - known:
        raise ValueError(
            f"{cls.__name__} has no field {sorted(unknown)[0]!r}: "
            "the record was edited, or written by another version of polyfed."
        )
    try:
        return cls(**fields)
    except (TypeError, ValueError):
        given = ", ".join(fields) or "nothing"
        raise ValueError(
            f"{cls.__name__} cannot be made from {given}: the record was edited, or written by another version of "
            "polyfed."
        ) from None


def _part_class(path: str) -> type:
    module, _, name = path.rpartition(".")
    if module == "polyfed" or module.startswith("polyfed."):
        try:
            cls = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            cls = None
        if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == module:
            return cls
    raise ValueError(f"{path!r} is not a part of polyfed: a record names parts of polyfed only.")


def canonical(data: Any) -> str:
    """JSON with sorted keys and no white space: equal data, equal text."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=True)


def digest(data: Any) -> str:
    """SHA-256 of the canonical text, in hexadecimal.

    >>> digest({"a": 1})[:8]
    '015abd7f'
    """
    return hashlib.sha256(canonical(data).encode()).hexdigest()
