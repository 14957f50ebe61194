"""How far predictions are from each other: Kullback-Leibler divergences, squared differences.

References: kullback1951information, hinton2015distilling, jiang2025fedhpd.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from polyfed.checks import one_of
from polyfed.types import ActionValues, Gaussians, Logits, Prediction, Probabilities

DIRECTIONS = ("forward", "reverse", "squared")
KINDS = ("own", "probabilities", "logits")
FLOOR = 1e-30  # probabilities below have the logarithm of this one, and no gradient

Number = Float[Array, ""] | float


def log_probabilities(prediction: Probabilities | Logits, temperature: Number = 1.0) -> Float[Array, "... M A"]:
    """`log softmax(x / T)`, `x` logits or the logarithms of probabilities, which so sum to 1 again.

    Args:
      prediction: Of a policy with a finite set of actions.
      temperature: `T > 0`; large ones bring all actions near to each other.

    >>> even = log_probabilities(Probabilities(jnp.array([[0.2, 0.8]])), temperature=1e6)
    >>> jnp.exp(even).round(3).tolist()
    [[0.5, 0.5]]
    """
    logits = (
        prediction.logits if isinstance(prediction, Logits) else jnp.log(jnp.maximum(prediction.probabilities, FLOOR))
    )
    return jax.nn.log_softmax(logits / temperature)


def as_kind(prediction: Prediction, kind: str, boltzmann: Number = 1.0) -> Prediction:
    """A prediction as all agents of a fleet can give it, differentiable.

    Values of actions become the probabilities of a Boltzmann policy, `softmax(q / boltzmann)`: so learners of values
    and of policies meet.

    Args:
      prediction: Of an agent.
      kind: `"own"` (as it is), `"probabilities"`, or `"logits"`: the logarithms of the probabilities.
      boltzmann: Temperature of the policy of an agent that predicts values, in units of value.

    Returns:
      A prediction of that kind.

    Raises:
      ValueError: Normal distributions have no probability for each of a finite set of actions.

    >>> as_kind(ActionValues(jnp.array([[1.0, 1.0]])), "probabilities").probabilities.tolist()
    [[0.5, 0.5]]
    """
    one_of("payload", kind, KINDS)
    if kind == "own":
        return prediction
    if isinstance(prediction, Gaussians):
        raise ValueError(
            f"Normal distributions have no {kind} of a finite set of actions, so they meet nobody as {kind}: "
            'use payload = "own".'
        )
    if kind == "probabilities" and isinstance(prediction, Probabilities):
        return prediction
    if isinstance(prediction, ActionValues):
        prediction = Logits(prediction.values / boltzmann)
    logs = log_probabilities(prediction)
    return Probabilities(jnp.exp(logs)) if kind == "probabilities" else Logits(logs)


def categorical_kl(first: Float[Array, "... M A"], second: Float[Array, "... M A"]) -> Float[Array, "... M"]:
    """`sum_a p(a) (log p(a) - log q(a)) - p(a) + q(a)` for logarithms of probabilities, `p` the first.

    The last two terms add up to 0. They make every summand, and its gradient, 0 where both agree, not only their sum.

    >>> p, q = jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([0.25, 0.75]))
    >>> round(float(categorical_kl(p, q)), 4)
    0.1438
    """
    return jnp.sum(jnp.exp(first) * (first - second) - jnp.exp(first) + jnp.exp(second), axis=-1)


def gaussian_kl(first: Gaussians, second: Gaussians) -> Float[Array, "... M size"]:
    """`log(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2` for every entry of an action.

    >>> wide = Gaussians(mean=jnp.zeros((1, 1)), scale=2 * jnp.ones((1, 1)))
    >>> narrow = Gaussians(mean=jnp.zeros((1, 1)), scale=jnp.ones((1, 1)))
    >>> [round(float(gaussian_kl(*pair)[0, 0]), 4) for pair in ((narrow, wide), (wide, narrow))]
    [0.3181, 0.8069]
    """
    ratio = first.scale / second.scale
    apart = (first.mean - second.mean) / second.scale
    return 0.5 * (ratio**2 + apart**2 - 1.0) - jnp.log(ratio)


def divergence(
    target: Prediction, prediction: Prediction, direction: str = "forward", temperature: Number = 1.0
) -> Float[Array, ""]:
    """How far a prediction is from its target, mean over states; 0 where they agree.

    - "forward": `KL(target, prediction)`; of normal distributions its mean over entries, of values of actions
      `(target - prediction)^2`, mean over actions.
    - "reverse": `KL(prediction, target)`; of normal distributions its mean over entries; not for values.
    - "squared": `sum_a (p_target - p)^2`; of values as "forward"; not for normal distributions.

    The released code of FedHPD (Jiang et al. 2025) minimises the forward one for probabilities and, without saying so,
    the reverse one for normal distributions; DPA-FedRL the squared one. A `temperature` softens both sides and
    multiplies by its square, so that gradients keep their size (Hinton et al. 2015, sec. 2).

    Args:
      target: Leaves `[M, ...]`.
      prediction: Of the same kind and shape.
      direction: Of `DIRECTIONS`.
      temperature: Of probabilities and logits alone; see `check_divergence`.

    >>> one, other = (Probabilities(jnp.array([p])) for p in ([0.5, 0.5], [0.25, 0.75]))
    >>> [round(float(divergence(one, other, direction)), 4) for direction in DIRECTIONS]
    [0.1438, 0.1308, 0.125]
    """
    one_of("direction", direction, DIRECTIONS)
    if type(target) is not type(prediction):
        raise ValueError(
            f"A target of {type(target).__name__} has no divergence from {type(prediction).__name__}: let all agents "
            'share one kind, e.g. payload = "probabilities".'
        )
    if isinstance(prediction, ActionValues):
        assert isinstance(target, ActionValues)
        return jnp.mean((target.values - prediction.values) ** 2)
    if isinstance(prediction, Gaussians):
        pair = (target, prediction) if direction == "forward" else (prediction, target)
        return jnp.mean(gaussian_kl(*pair))
    assert isinstance(target, Probabilities | Logits)
    wanted, given = log_probabilities(target, temperature), log_probabilities(prediction, temperature)
    if direction == "squared":
        each = jnp.sum((jnp.exp(wanted) - jnp.exp(given)) ** 2, axis=-1)
    else:
        each = categorical_kl(wanted, given) if direction == "forward" else categorical_kl(given, wanted)
    return temperature**2 * jnp.mean(each)


def check_divergence(prediction: Prediction, direction: str, temperature: Any) -> None:
    """Raise `ValueError` in one sentence where a divergence is not defined for a kind of prediction.

    >>> check_divergence(ActionValues(jnp.zeros((1, 2))), "reverse", 1.0)
    Traceback (most recent call last):
    ValueError: Values of actions are compared by their squared difference, which has no reverse: use direction = ...
    """
    if isinstance(prediction, Gaussians) and direction == "squared":
        raise ValueError(
            "Normal distributions have no probability for each action whose difference could be squared: "
            'use direction = "forward" or "reverse".'
        )
    if isinstance(prediction, ActionValues) and direction == "reverse":
        raise ValueError(
            "Values of actions are compared by their squared difference, which has no reverse: "
            'use direction = "forward".'
        )
    if isinstance(prediction, Gaussians | ActionValues) and np.any(np.asarray(temperature) != 1.0):
        what = "Values of actions" if isinstance(prediction, ActionValues) else "Normal distributions"
        raise ValueError(
            f"{what} are not softened by distillation.temperature = {temperature}, which is for probabilities and "
            "logits: leave it at 1."
        )
