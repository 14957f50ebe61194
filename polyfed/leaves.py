"""Numbers of a part as arrays, one per client: what may differ between clients or be swept without compiling again."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.checks import as_numbers


def is_part(value: Any) -> bool:
    """Whether a value is a part: an instance of a dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def dynamic_fields(part: Any) -> list[str]:
    """Names of the fields that are leaves; static fields fix shapes and branches."""
    return [f.name for f in dataclasses.fields(part) if not f.metadata.get("static", False)]


def _map_numbers(path: str, value: Any, function: Any) -> Any:
    if is_part(value):
        new = {n: _map_numbers(f"{path}.{n}", getattr(value, n), function) for n in dynamic_fields(value)}
        return _replace(value, new)
    if isinstance(value, tuple) and all(is_part(v) for v in value):
        return tuple(_map_numbers(f"{path}[{i}]", v, function) for i, v in enumerate(value))
    return None if value is None else function(path, value)


def _replace(part: Any, new: dict[str, Any]) -> Any:
    """A copy with fields replaced, without running checks or converters again."""
    copy = object.__new__(type(part))
    for field in dataclasses.fields(part):
        object.__setattr__(copy, field.name, new.get(field.name, getattr(part, field.name)))
    return copy


def with_number(part: Any, path: str, value: float) -> Any:
    """A copy of a part with one field replaced.

    Args:
      part: An instance of a dataclass.
      path: Names of fields joined by dots.
      value: The new number.

    >>> from polyfed.agents import DQN, WorstCase
    >>> with_number(DQN(worst_case=WorstCase()), "worst_case.omega", 0.7).worst_case.omega
    0.7
    >>> with_number(DQN(), "worst_case.omega", 0.7)
    Traceback (most recent call last):
    ValueError: worst_case.omega leads nowhere: DQN's worst_case is none, which has no field omega.
    """
    name, _, rest = path.partition(".")
    if not is_part(part) or name not in [field.name for field in dataclasses.fields(part)]:
        raise ValueError(f"{path} leads nowhere: {type(part).__name__} has no field {name}.")
    if not rest:
        return dataclasses.replace(part, **{name: value})
    inner = getattr(part, name)
    if inner is None:
        wanted = rest.partition(".")[0]
        raise ValueError(f"{path} leads nowhere: {type(part).__name__}'s {name} is none, which has no field {wanted}.")
    return dataclasses.replace(part, **{name: with_number(inner, rest, value)})


def check_leaves(name: str, part: Any, num_clients: int | None) -> None:
    """Raise `ValueError` if a leaf is neither one number nor, where there are `num_clients`, one per client."""

    def check(path: str, value: Any) -> None:
        try:
            shape = as_numbers(value).shape
        except (TypeError, ValueError):
            raise ValueError(f"{path} = {value!r} is not a number: give one, or one per client.") from None
        given = f"{shape[0]} values" if len(shape) == 1 else f"an array of shape {shape}"
        if num_clients is None and shape:
            raise ValueError(f"{path} has {given}, but all clients have it in common: give one number.")
        if shape not in ((), (num_clients,)):
            raise ValueError(
                f"{path} has {given} for {num_clients} clients, but every client needs its own: "
                f"give one number for all, or {num_clients}."
            )

    _map_numbers(name, part, check)


def differing(name: str, part: Any) -> list[str]:
    """Paths of the leaves that give clients different numbers.

    >>> from polyfed.agents import DQN
    >>> differing("agent", DQN(learning_rate=(1e-3, 1e-4)))
    ['agent.learning_rate']
    """
    found: list[str] = []
    _map_numbers(name, part, lambda path, value: found.append(path) if np.size(value) > 1 else None)
    return found


def stacked(part: Any, num_clients: int | None) -> Any:
    """The part with every number as an array: float32, or int32 where all are integers.

    Shapes are `[num_clients]`, or `[]` for a part that all clients have in common (`num_clients=None`).

    >>> from polyfed.agents import DQN
    >>> stacked(DQN(learning_rate=(1e-3, 1e-4)), num_clients=2).discount.shape
    (2,)
    """

    shape = () if num_clients is None else (num_clients,)

    def stack(_: str, value: Any) -> Any:
        array = np.asarray(value)
        dtype = np.int32 if np.issubdtype(array.dtype, np.integer) else np.float32
        return jnp.asarray(np.broadcast_to(array, shape).astype(dtype))

    return _map_numbers("part", part, stack)


def is_floating(leaf: Any) -> bool:
    """Whether a leaf holds numbers with a fraction; counts and flags pass through what rounds or scales weights.

    >>> is_floating(jnp.ones(2)), is_floating(jnp.int32(3))
    (True, False)
    """
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.inexact))


def leaf_names(tree: Any) -> list[str]:
    """The path of every array in a tree, in the tree's order: `server.broadcast.layers.0.weight`."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
