"""The contract of `AggregationRule`, held against a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from polyfed.aggregation.rule import AggregationRule
from polyfed.testing.compare import an_update_of, assert_same, made_up_update, rows, with_content
from polyfed.types import Metrics, Payload, Update

_Round = Callable[[AggregationRule, Update], tuple[Payload, Any, Metrics]]


def _round(rule: AggregationRule, update: Update) -> tuple[Payload, Any, Metrics]:
    """One round from the rule's first state."""
    return rule.aggregate(rule.init(jax.tree.map(lambda leaf: leaf[0], update.payload)), update)


def _check_form(rule: AggregationRule, update: Update, compiled: _Round) -> None:
    """Facts, shapes, types and metrics; the state can go round after round in a compiled loop."""
    name = type(rule).__name__
    for fact in ("linear", "personal"):
        if not isinstance(getattr(rule, fact, None), bool):
            raise AssertionError(f"{name} does not say whether it is {fact}. Set {fact} to True or False in the class.")
    merged, after, metrics = compiled(rule, update)
    for leaf, sent in zip(jax.tree.leaves(merged), jax.tree.leaves(update.payload), strict=True):
        shape = sent.shape if rule.personal else sent.shape[1:]
        if leaf.shape != shape or leaf.dtype != sent.dtype:
            given = f"{leaf.dtype}{list(leaf.shape)} from payloads {sent.dtype}{list(sent.shape)}"
            raise AssertionError(f"{name} gave {given}. Give {sent.dtype}{list(shape)}.")
    if wrong := [key for key, value in metrics.items() if jnp.ndim(value) != 0]:
        raise AssertionError(f"{name} gives metrics {wrong} that are not scalars. Reduce them, or name every entry.")
    before = rule.init(jax.tree.map(lambda leaf: leaf[0], update.payload))
    forms = [jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.result_type(leaf)), state) for state in (before, after)]
    if forms[0] != forms[1]:
        raise AssertionError(f"{name}'s state went from {forms[0]} to {forms[1]}. Keep its shapes and types.")


def _check_clients(rule: AggregationRule, update: Update, compiled: _Round) -> None:
    """Order, scale of weights, absent clients."""
    name, count = type(rule).__name__, len(update.weight)
    merged = compiled(rule, update)[0]
    order = np.random.default_rng(0).permutation(count)
    expected = rows(merged, order) if rule.personal else merged
    assert_same(compiled(rule, rows(update, order))[0], expected, f"{name} depends on the order of the clients.")
    for factor in (0.125, 1024.0):
        scaled = an_update_of(update.payload, update.weight * factor)
        assert_same(compiled(rule, scaled)[0], merged, f"{name} depends on the scale of the weights.")

    absent = np.isin(np.arange(count), [0, count // 2])
    weight = np.where(absent, 0, update.weight)
    without = _round(rule, rows(update, ~absent))[0]
    first = None
    for content in (0.0, 1e30, np.inf, np.nan):
        sentence = f"{name} lets through an absent client (weight 0) that holds {content}."
        merged = compiled(rule, with_content(update, content, absent, weight))[0]
        first = merged if first is None else first
        assert_same(merged, first, sentence, 0.0)
        assert_same(rows(merged, ~absent) if rule.personal else merged, without, sentence)
        if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(merged)):
            raise AssertionError(f"{sentence} Give that client zeros.")


def _check_consensus(rule: AggregationRule, update: Update, compiled: _Round, tolerance: float) -> None:
    """Equal payloads come back; zeros when nobody came."""
    name, count = type(rule).__name__, len(update.weight)
    nobody = with_content(update, np.nan, np.ones(count, bool), np.zeros(count))
    merged = compiled(rule, nobody)[0]
    assert_same(merged, jax.tree.map(np.zeros_like, merged), f"{name} does not give zeros when nobody came.", 0.0)
    payload = rows(update.payload, np.zeros(count, int))
    for weight in (np.ones(count), np.where(np.arange(count) % 3 == 1, 0, update.weight)):
        merged = compiled(rule, an_update_of(payload, weight))[0]
        came = np.flatnonzero(weight)
        kept, wanted = (rows(merged, came), rows(payload, came)) if rule.personal else (merged, rows(payload, 0))
        assert_same(kept, wanted, f"{name} changes payloads that are all equal.", tolerance)


def _check_transformed(rule: AggregationRule, updates: list[Update], compiled: _Round) -> None:
    """The same result in NumPy, in JAX, compiled, and for several seeds at once."""
    name = type(rule).__name__
    expected = [compiled(rule, update)[0] for update in updates]
    arrays = jax.tree.map(jnp.asarray, updates[0])
    assert_same(_round(rule, arrays)[0], expected[0], f"{name} differs when it is compiled.")
    assert_same(_round(rule, updates[0])[0], expected[0], f"{name} differs on NumPy arrays.")
    both = jax.tree.map(lambda *leaves: np.stack(leaves), *updates)
    vmapped = jax.jit(jax.vmap(_round, in_axes=(None, 0)))(rule, both)[0]
    for seed, one in enumerate(expected):
        assert_same(rows(vmapped, seed), one, f"{name} differs when it is vmapped over seeds.")


def check_rule(
    rule: AggregationRule,
    *,
    num_clients: int = 11,
    consensus_tolerance: float = 0.0,
    made_up: Callable[[int, int], Update] = made_up_update,
) -> None:
    """Holds a rule to the contract of `AggregationRule`.

    Order and scale of weights do not matter; an absent client, whatever it holds, is as if it had never been there;
    a consensus is kept; nobody gives zeros; leaves keep shape and type; and the rule is the same on NumPy arrays,
    compiled and vmapped over seeds.

    Args:
      rule: The rule, stateful or not, personal or not.
      num_clients: Size of the made-up rounds; up to a third of the clients are absent at times.
      consensus_tolerance: Error allowed where all payloads are equal, relative to the largest entry of a leaf; 0 asks
        for the same values.
      made_up: `(seed, num_clients) -> Update` in NumPy, for a rule that takes payloads of one kind only: see
        `made_up_networks`, `made_up_nested` and `made_up_predictions`. By default trees of arrays that are no network.

    Raises:
      AssertionError: Says in a sentence which part of the contract is broken.

    Example:
      >>> from polyfed.aggregation import WeightedMean
      >>> check_rule(WeightedMean())
    """
    rule.check()
    compiled = jax.jit(_round)
    updates = [made_up(seed, num_clients) for seed in range(2)]
    _check_form(rule, updates[0], compiled)
    _check_clients(rule, updates[0], compiled)
    _check_consensus(rule, updates[0], compiled, consensus_tolerance)
    _check_transformed(rule, updates, compiled)
