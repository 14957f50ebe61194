"""Public checks of the contracts: give your own part to one, it raises `AssertionError` in a sentence where it fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.aggregation.rule import AggregationRule
from polyfed.types import Payload, Update

_TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}


def _an_update(seed: int, num_clients: int) -> Update:
    """A made-up round: a small network's parameters on three scales and the predictions on four states, in NumPy."""
    random = np.random.default_rng(seed)

    def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (scale * random.normal(size=(num_clients, *shape))).astype(np.float32)

    network = {"weight": normal(3, 5, scale=0.3), "bias": normal(3, scale=1e-3), "temperature": normal()}
    weight = random.uniform(0.5, 2.0, size=num_clients).astype(np.float32)
    return Update(payload={"network": network, "predictions": normal(4, 2, scale=30.0)}, weight=weight)


def _taken(update: Update, clients: Any) -> Update:
    """The update of some of the clients, in the order given."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[clients], update)


def _merged(rule: AggregationRule, update: Update) -> Payload:
    """One round from the rule's first state."""
    return rule.aggregate(rule.init(jax.tree.map(lambda leaf: leaf[0], update.payload)), update)[0]


def _assert_same(actual: Payload, expected: Payload, sentence: str, *, exact: bool = False) -> None:
    """Raises `AssertionError` with the sentence unless all leaves agree, bit for bit or within float32 tolerance."""
    close: Callable[..., None] = np.testing.assert_array_equal if exact else np.testing.assert_allclose
    actual_structure, expected_structure = jax.tree.structure(actual), jax.tree.structure(expected)
    if actual_structure != expected_structure:
        raise AssertionError(f"{sentence} The payload became {actual_structure}, from {expected_structure}.")
    for one, other in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        close(np.asarray(one), np.asarray(other), err_msg=sentence, **({} if exact else _TOLERANCE))


def _check_form(rule: AggregationRule, update: Update) -> None:
    """Facts, shapes, types and metrics; the state can go round after round in a compiled loop."""
    name = type(rule).__name__
    for fact in ("linear", "personal"):
        if not isinstance(getattr(rule, fact, None), bool):
            raise AssertionError(f"{name}.{fact} says whether the rule is {fact}. Set it to True or False in the class.")
    state = rule.init(jax.tree.map(lambda leaf: leaf[0], update.payload))
    merged, after, metrics = jax.jit(lambda r, s, u: r.aggregate(s, u))(rule, state, update)
    for leaf, sent in zip(jax.tree.leaves(merged), jax.tree.leaves(update.payload), strict=True):
        wanted = sent.shape if rule.personal else sent.shape[1:]
        if leaf.shape != wanted or leaf.dtype != sent.dtype:
            raise AssertionError(f"{name} made {leaf.dtype}{leaf.shape} of {sent.dtype}{sent.shape}, not {wanted}.")
    if wrong := [key for key, value in metrics.items() if jnp.ndim(value) != 0]:
        raise AssertionError(f"{name} gives metrics {wrong} that are not scalars. Reduce them, or name each entry.")
    shapes = [jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree) for tree in (state, after)]
    if shapes[0] != shapes[1]:
        raise AssertionError(f"{name}'s state changes from {shapes[0]} to {shapes[1]}. Keep its shapes and types fixed.")


def _check_clients(rule: AggregationRule, update: Update) -> None:
    """Order, scale of weights, absent clients."""
    name, count = type(rule).__name__, len(update.weight)
    merged = _merged(rule, update)
    order = np.random.default_rng(0).permutation(count)
    expected = jax.tree.map(lambda leaf: np.asarray(leaf)[order], merged) if rule.personal else merged
    _assert_same(_merged(rule, _taken(update, order)), expected, f"{name} depends on the order of the clients.")
    for factor in (0.125, 1024.0):
        scaled = Update(payload=update.payload, weight=update.weight * np.float32(factor))
        _assert_same(_merged(rule, scaled), merged, f"{name} depends on the scale of the weights.")

    came = np.ones(count, bool)
    came[[0, count // 2]] = False
    weight = np.where(came, update.weight, np.float32(0))
    without = _merged(rule, _taken(update, came))

    def present_rows(result: Payload) -> Payload:
        return jax.tree.map(lambda leaf: np.asarray(leaf)[came], result) if rule.personal else result

    held = []
    for content in (1e30, np.inf, np.nan):
        payload = jax.tree.map(
            lambda leaf, content=content: np.where(came.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, np.float32(content)),
            update.payload,
        )
        held.append(_merged(rule, Update(payload=payload, weight=weight)))
        sentence = f"{name} lets through an absent client (weight 0) that holds {content}."
        _assert_same(present_rows(held[-1]), without, sentence)
        _assert_same(held[-1], held[0], sentence, exact=True)
        if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(held[-1])):
            raise AssertionError(f"{name} gives an absent client what is not finite. Give it zeros.")


def _check_consensus(rule: AggregationRule, update: Update, tolerance: float) -> None:
    """Equal payloads come back; zeros when nobody came."""
    name, count = type(rule).__name__, len(update.weight)
    for weight in (np.ones(count, np.float32), np.where(np.arange(count) % 3 == 1, 0, update.weight)):
        payload = jax.tree.map(lambda leaf: np.repeat(leaf[:1], count, axis=0), update.payload)
        merged = _merged(rule, Update(payload=payload, weight=weight))
        for leaf, sent in zip(jax.tree.leaves(merged), jax.tree.leaves(payload), strict=True):
            kept, wanted = (np.asarray(leaf)[weight > 0], sent[weight > 0]) if rule.personal else (leaf, sent[0])
            sentence = f"{name} changes payloads that are all equal."
            np.testing.assert_allclose(np.asarray(kept), wanted, rtol=tolerance, atol=0, err_msg=sentence)
    nobody = jax.tree.map(lambda leaf: np.full_like(leaf, np.nan), update.payload)
    merged = _merged(rule, Update(payload=nobody, weight=np.zeros(count, np.float32)))
    zeros = jax.tree.map(lambda leaf: np.zeros_like(leaf), merged)
    _assert_same(merged, zeros, f"{name} does not give zeros when nobody came.", exact=True)


def _check_transformed(rule: AggregationRule, updates: list[Update]) -> None:
    """The same result in NumPy, in JAX, compiled, and for several seeds at once."""
    name = type(rule).__name__
    expected = [_merged(rule, update) for update in updates]  # NumPy arrays in
    _assert_same(_merged(rule, jax.tree.map(jnp.asarray, updates[0])), expected[0], f"{name} differs on NumPy arrays.")
    compiled = jax.jit(_merged)
    _assert_same(compiled(rule, updates[0]), expected[0], f"{name} differs when it is compiled.")
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *updates)
    vmapped = jax.jit(jax.vmap(_merged, in_axes=(None, 0)))(rule, both)
    for seed, one in enumerate(expected):
        _assert_same(jax.tree.map(lambda leaf, i=seed: leaf[i], vmapped), one, f"{name} differs when it is vmapped.")


def check_rule(rule: AggregationRule, *, num_clients: int = 11, consensus_tolerance: float = 0.0) -> None:
    """Holds a rule to the contract of `AggregationRule`.

    Order and scale of weights do not matter; an absent client, whatever it holds, is as if it had never been there;
    a consensus is kept; nobody gives zeros; leaves keep shape and type; and the rule is the same on NumPy arrays,
    compiled and vmapped over seeds.

    Args:
      rule: The rule, stateful or not, personal or not.
      num_clients: Size of the made-up rounds; up to a third of them are absent at times.
      consensus_tolerance: Relative error allowed where all payloads are equal; 0 asks for the same values.

    Raises:
      AssertionError: Says in a sentence which part of the contract is broken.

    Example:
      >>> from polyfed.aggregation import WeightedMean
      >>> check_rule(WeightedMean())
    """
    rule.check()
    updates = [_an_update(seed, num_clients) for seed in range(2)]
    _check_form(rule, updates[0])
    _check_clients(rule, updates[0])
    _check_consensus(rule, updates[0], consensus_tolerance)
    _check_transformed(rule, updates)
