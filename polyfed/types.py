"""The nouns that move along the line: transitions, trajectories, updates."""

from __future__ import annotations

from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int

Payload = Any
"""A pytree of arrays that a client shares: parameters, or predictions on public states."""

Metrics = dict[str, Array]
"""Named scalars; the engine stacks them `[rounds, seeds, clients]`."""


class Trajectory(eqx.Module):
    """What a client lived through in `T` steps of its `E` environments; every field starts `[T, E]`.

    `next_observation` is the observation that the action led to, before any reset. `terminated` is the end of the
    MDP and stops bootstrapping; `truncated` is the clock's and does not.
    """

    observation: Float[Array, "T E ..."]
    action: Array
    reward: Float[Array, "T E"]
    next_observation: Float[Array, "T E ..."]
    terminated: Bool[Array, "T E"]
    truncated: Bool[Array, "T E"]


class Update(eqx.Module):
    """The messages of all clients in one round.

    `payload` leaves are `[C, ...]`; `weight` is `[C]`, a client's share, 0 = absent. An absent client's payload may
    hold anything, NaN included, and no rule may let it through.
    """

    payload: Payload
    weight: Float[Array, " C"]


class Nested(eqx.Module):
    """A message whose sender holds the first `width` units of every hidden layer (Diao et al. 2021, sec. 3.1).

    `network` has the arrays of the full shape; beyond the width they hold what the sender received.

    >>> import jax
    >>> from polyfed.agents.networks import MLP
    >>> mlp = MLP(4, 2, hidden=(8,), activation="relu", key=jax.random.key(0))
    >>> message = Nested(network=mlp, width=jax.numpy.int32(6))
    >>> message.network(jax.numpy.ones(4), message.width).shape
    (2,)
    """

    network: Any
    width: Int[Array, "*clients"]


class Probabilities(eqx.Module):
    """What an agent would do: the probability of every action in every one of `M` states; rows sum to 1.

    >>> import jax.numpy as jnp
    >>> Probabilities(jnp.array([[0.25, 0.75]])).probabilities.shape
    (1, 2)
    """

    probabilities: Float[Array, "... M A"]


class Logits(eqx.Module):
    """What an agent would do: log-probabilities of the actions in `M` states, up to a number per state.

    >>> import jax.numpy as jnp
    >>> Logits(jnp.array([[0.0, 1.0]])).logits.shape
    (1, 2)
    """

    logits: Float[Array, "... M A"]


class Gaussians(eqx.Module):
    """What an agent would do: a normal distribution of every entry of an action, in `M` states.

    >>> import jax.numpy as jnp
    >>> Gaussians(mean=jnp.zeros((3, 1)), scale=jnp.ones((3, 1))).scale.shape
    (3, 1)
    """

    mean: Float[Array, "... M size"]
    scale: Float[Array, "... M size"]  # standard deviation, above 0


class ActionValues(eqx.Module):
    """What an agent expects: the value of every action in every one of `M` states.

    >>> import jax.numpy as jnp
    >>> ActionValues(jnp.array([[1.0, 2.0]])).values.shape
    (1, 2)
    """

    values: Float[Array, "... M A"]


Prediction = Probabilities | Logits | Gaussians | ActionValues
"""What an agent would do, or expects, on states that everybody knows: a message that shows nothing of its make."""


class Visit(eqx.Module):
    """Predictions on one state, and where to predict next: what goes up and down while the server walks on its own.

    >>> import jax.numpy as jnp
    >>> here, there = jnp.zeros(4), jnp.ones(4)
    >>> Visit(at=here, prediction=Probabilities(jnp.array([[0.25, 0.75]])), following=there).following.shape
    (4,)
    """

    at: Float[Array, "... D"]  # the state that is predicted on
    prediction: Prediction  # leaves [..., 1, A] or [..., 1, size]
    following: Float[Array, "... D"]  # the state to predict on next; of a client, which does not know it: `at`
