"""Which predictions are let in: what a client sends, or an agent made elsewhere answers, has to be a prediction.

Probabilities may miss the simplex by `TOLERANCE`, an entry below 0 or a row's sum beside 1, since compression on the
way rounds them.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from polyfed.aggregation.nonfinite import check_weights
from polyfed.checks import as_numbers
from polyfed.types import Gaussians, Prediction, Probabilities, Update

OnInvalid = Literal["raise", "drop"]

PREDICTIONS: tuple[type, ...] = get_args(Prediction)

TOLERANCE = 1e-3  # of a probability


def valid(payload: Prediction) -> Bool[Array, " C"]:
    """Which clients sent numbers that are a prediction.

    All numbers are finite; probabilities are at least `-TOLERANCE` and each row sums to 1 up to `TOLERANCE`; scales are
    above 0.

    Args:
      payload: Leaves `[C, ...]`, the last axis over actions.

    Returns:
      `[C]`. That of an absent client says nothing.

    Example:
      >>> valid(Probabilities(jnp.array([[[0.5, 0.5]], [[0.5, 0.6]], [[2.0, -1.0]], [[jnp.nan, 1.0]]]))).tolist()
      [True, False, False, False]
    """

    def everywhere(good: Array) -> Array:
        return jnp.all(good, axis=tuple(range(1, good.ndim)))

    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(payload)]
    fine = [everywhere(jnp.isfinite(leaf)) for leaf in leaves]
    if isinstance(payload, Probabilities):
        rows = leaves[0].astype(jnp.result_type(leaves[0], jnp.float32))
        fine += [everywhere(rows >= -TOLERANCE), everywhere(jnp.abs(jnp.sum(rows, axis=-1) - 1) <= TOLERANCE)]
    if isinstance(payload, Gaussians):
        fine.append(everywhere(jnp.asarray(payload.scale) > 0))
    return jnp.all(jnp.stack(fine), axis=0)


def admitted(update: Update, on_invalid: OnInvalid = "raise") -> tuple[Array, Array, Array]:
    """The weights with which clients are heard, how many are refused, and how many are left.

    Args:
      update: A prediction with leaves `[C, ...]`, and weights `[C]`.
      on_invalid: "drop": a client that came with what is no prediction is absent, weight 0. "raise": a `ValueError`
        names it; in a program that is being compiled nothing can be raised, weights stay as they are, and the caller
        looks at the numbers.

    Returns:
      `([C], scalar, scalar)`.

    Raises:
      ValueError: See `on_invalid`; or "drop" left nobody of those who came; or a weight is negative.

    Example:
      >>> payload = Probabilities(jnp.array([[[0.5, 0.5]], [[0.5, 0.6]], [[jnp.nan, 0.0]]]))
      >>> weight, refused, heard = admitted(Update(payload=payload, weight=jnp.array([1.0, 2.0, 0.0])), "drop")
      >>> weight.tolist(), int(refused), int(heard)
      ([1.0, 0.0, 0.0], 1, 1)
    """
    check_weights(update.weight)
    weight = jnp.asarray(update.weight)
    good = valid(update.payload)
    refused, heard = (weight > 0) & ~good, (weight > 0) & good
    if not isinstance(refused, jax.core.Tracer) and refused.any() and (on_invalid == "raise" or not heard.any()):
        clients = ", ".join(str(k) for k in np.flatnonzero(refused))
        remedy = "repair" if on_invalid == "drop" else 'leave such clients out with on_invalid="drop", or repair'
        raise ValueError(
            f"What client {clients} (counted from 0) sent is no prediction ({_wanted(update.payload)}), so it cannot "
            f"be merged: {remedy} what it sends."
        )
    if on_invalid == "drop":
        weight = jnp.where(refused, 0, weight)
    return weight, jnp.sum(refused).astype(jnp.result_type(float)), jnp.sum(heard).astype(jnp.result_type(float))


def _wanted(prediction: Any) -> str:
    """What its numbers have to be, in words."""
    if isinstance(prediction, Probabilities):
        return "finite numbers from 0 that sum to 1 in every state"
    return "finite numbers, scales above 0" if isinstance(prediction, Gaussians) else "finite numbers"


def check_prediction(prediction: Any, num_states: int, num_actions: int) -> None:
    """Raise `ValueError` unless an agent's answer is a prediction for so many states; for agents made elsewhere.

    Args:
      prediction: What the agent gave when asked about `num_states` observations.
      num_states: `M`, observations.
      num_actions: `A`, actions, or the entries of an action for `Gaussians`.

    Example:
      >>> check_prediction(Probabilities(jnp.array([[0.25, 0.75]])), 1, 2)
      >>> check_prediction(Probabilities(jnp.array([0.25, 0.75])), 1, 2)
      Traceback (most recent call last):
      ValueError: Probabilities.probabilities is of shape [2], but 1 states with 2 entries each need one row per \
state: give an array of shape [1, 2].
    """
    name = type(prediction).__name__
    if not isinstance(prediction, PREDICTIONS):
        known = " or ".join(kind.__name__ for kind in PREDICTIONS)
        raise ValueError(f"A {name} does not say what an agent would do: wrap the numbers in {known}.")
    for field, given in vars(prediction).items():
        _check_numbers(f"{name}.{field}", given, (num_states, num_actions))
    if isinstance(prediction, Probabilities):
        rows = as_numbers(prediction.probabilities)
        off = np.abs(rows.sum(axis=1) - 1) > TOLERANCE
        off |= np.any(rows < -TOLERANCE, axis=1)
        if off.any():
            state = int(np.flatnonzero(off)[0])
            raise ValueError(
                f"The probabilities of state {state} (counted from 0) sum to {rows[state].sum():g} and the smallest is "
                f"{rows[state].min():g}, so they are no distribution: give numbers from 0 that sum to 1, or wrap them "
                "in Logits if that is what they are."
            )
    if isinstance(prediction, Gaussians) and (scale := as_numbers(prediction.scale)).min() <= 0:
        raise ValueError(
            f"A scale of {scale.min():g} is no standard deviation: give numbers above 0, not variances' logarithms."
        )


def _check_numbers(name: str, given: Any, shape: tuple[int, int]) -> None:
    """Raise `ValueError` unless these are finite numbers of exactly that shape."""
    try:
        numbers = as_numbers(given)
    except (TypeError, ValueError):
        raise ValueError(f"{name} holds no numbers: give an array of shape {list(shape)}.") from None
    if numbers.shape != shape:
        raise ValueError(
            f"{name} is of shape {list(numbers.shape)}, but {shape[0]} states with {shape[1]} entries each need one "
            f"row per state: give an array of shape {list(shape)}."
        )
    if not np.isfinite(numbers).all():
        state = int(np.argwhere(~np.isfinite(numbers))[0][0])
        raise ValueError(
            f"{name} of state {state} (counted from 0) is not finite, so nobody can learn from it: lower the agent's "
            "learning rate, or leave the agent out."
        )
