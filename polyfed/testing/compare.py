"""Made-up rounds, and what makes two trees the same."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.agents.networks import MLP
from polyfed.types import Nested, Payload, Update


def an_update_of(payload: Payload, weight: Any) -> Update:
    """An update of NumPy arrays."""
    weight = np.asarray(weight, np.float32)
    return Update(payload=payload, weight=weight)


def made_up_update(seed: int, num_clients: int) -> Update:
    """A made-up round in NumPy: parameters and predictions on scales from 1e-3 to 30."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (scale * random.normal(size=(num_clients, *shape))).astype(np.float32)

    network = {"weight": normal(3, 5, scale=0.3), "bias": normal(15, scale=1e-3), "temperature": normal(scale=1.0)}
    payload = {"network": network, "predictions": normal(3, 5, scale=30.0)}
    return an_update_of(payload, random.uniform(0.5, 2.0, size=num_clients))


def made_up_networks(seed: int, num_clients: int) -> Update:
    """A made-up round of small networks in NumPy, each with units of its own.

    Example:
      >>> made_up_networks(seed=0, num_clients=5).payload.layers[0].weight.shape
      (5, 6, 3)
    """
    keys = jax.random.split(jax.random.key(seed), num_clients)
    stack = jax.vmap(lambda key: MLP(3, 2, hidden=(6, 4), activation="relu", key=key))(keys)
    weight = np.random.default_rng(seed).uniform(0.5, 2.0, size=num_clients)
    return an_update_of(jax.tree.map(np.asarray, stack), weight)


def made_up_nested(seed: int, num_clients: int) -> Update:
    """A made-up round of `Nested` networks in NumPy, of widths from 1 to all; the first has all.

    Example:
      >>> int(made_up_nested(seed=0, num_clients=5).payload.width[0])
      6
    """
    update = made_up_networks(seed, num_clients)
    widths = np.random.default_rng(seed).integers(1, 7, num_clients).astype(np.int32)
    widths[0] = 6
    payload: Any = Nested
    return an_update_of(payload(update.payload, widths), update.weight)


def with_content(update: Update, content: float, where: np.ndarray, weight: Any) -> Update:
    """The update with other weights, the payload of the clients in `where` filled with `content`.

    Integers are filled with the nearest integer there is, -1 for NaN.
    """

    def fill(leaf: Any) -> np.ndarray:
        value: Any = np.float32(content)
        if np.issubdtype(leaf.dtype, np.integer):
            limits = np.iinfo(leaf.dtype)
            value = leaf.dtype.type(-1 if np.isnan(content) else min(max(content, limits.min), limits.max))
        return np.where(where.reshape(-1, *[1] * (leaf.ndim - 1)), value, leaf)

    return an_update_of(jax.tree.map(fill, update.payload), weight)


def rows(tree: Any, clients: Any) -> Any:
    """The rows of some of the clients, in the order given."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[clients], tree)


def assert_same(actual: Any, expected: Any, sentence: str, tolerance: float = 2e-5) -> None:
    """Raises `AssertionError` with the sentence unless all leaves agree, relative to the largest entry of the leaf."""
    given, wanted = str(jax.tree.structure(actual)), str(jax.tree.structure(expected))
    if given != wanted:
        raise AssertionError(f"{sentence} It gave {given}, not {wanted}.")
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        largest = np.max(np.abs(other), initial=0.0, where=np.isfinite(other))
        close = np.isclose(one, other, rtol=0, atol=tolerance * largest, equal_nan=True)
        if not np.all(close):
            where = tuple(int(i) for i in np.argwhere(~close)[0])
            raise AssertionError(f"{sentence} At entry {where} it gave {one[where]!r}, not {other[where]!r}.")


def same_bits(one: Any, other: Any) -> bool:
    """Whether all leaves agree bit for bit, NaN with NaN."""
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b), equal_nan=True) for a, b in leaves)


def form(tree: Any) -> Any:
    """Structure, shapes and types: what must not change where a compiled loop carries it."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves]
