"""A deterministic actor with one critic or two: what they compute, and the losses of DDPG and TD3.

Actions lie in [-1, 1] here; `action_bounds` stretches them to those of an environment.

References: lillicrap2016ddpg, fujimoto2018td3.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from polyfed.agents.embedding import EmbeddingState, embedded
from polyfed.agents.networks import MLP

Critic = tuple[MLP, ...]  # observation and action -> value; one, or TD3's two
Views = tuple[Float[Array, "*batch DA"], Float[Array, "*batch DC"]]  # an observation as actor and critics read it


class Embeddings(eqx.Module):
    """A client's vectors before what its actor and what its critics read; see `Embedding`."""

    actor: EmbeddingState
    critic: EmbeddingState


class Learner(eqx.Module):
    """What gradient steps change."""

    actor: MLP  # observation -> action before the squashing
    critic: Critic
    actor_target: MLP
    critic_target: Critic
    worst_case: Any  # `WorstCaseState`, if there is a worst case
    actor_optimizer: Any
    critic_optimizer: Any
    embedding: Any  # `Embeddings`, if there is an embedding
    steps: Int[Array, ""]  # gradient steps of the critic


def views(embedding: Any, observation: Float[Array, "*batch D"]) -> Views:
    """An observation as the actor and as the critics read it: behind their embeddings, if there are any.

    >>> views((), jnp.ones(3))[0].shape
    (3,)
    """
    if not isinstance(embedding, Embeddings):
        return observation, observation
    return embedded(embedding.actor.vector, observation), embedded(embedding.critic.vector, observation)


def squashed(actor: MLP, observation: Float[Array, "*batch D"]) -> Float[Array, "*batch A"]:
    """The actor's action, `tanh` of its network, in [-1, 1].

    >>> import jax
    >>> actor = MLP(3, 1, hidden=(8,), activation="relu", key=jax.random.key(0))
    >>> squashed(actor, jnp.ones((5, 3))).shape
    (5, 1)
    """
    return jnp.tanh(actor(observation))


def critic_values(
    critic: Critic, observation: Float[Array, "B D"], action: Float[Array, "B A"]
) -> list[Float[Array, " B"]]:
    """`Q(s, a)` of every critic; the action stands beside the observation.

    >>> import jax
    >>> critic = (MLP(3, 1, hidden=(8,), activation="relu", key=jax.random.key(0)),)
    >>> [values.shape for values in critic_values(critic, jnp.ones((5, 2)), jnp.ones((5, 1)))]
    [(5,)]
    """
    both = jnp.concatenate([observation, action], axis=-1)
    return [network(both)[:, 0] for network in critic]


def future_value(actor: MLP, critic: Critic, seen: Views, noise: Float[Array, "B A"] | None) -> Float[Array, " B"]:
    """`min_i Q_i(s, clip(pi(s) + noise))`, with the target networks (Fujimoto et al. 2018, eq. 10 and 14).

    >>> import jax
    >>> actor = MLP(2, 1, hidden=(8,), activation="relu", key=jax.random.key(0))
    >>> critic = (MLP(3, 1, hidden=(8,), activation="relu", key=jax.random.key(1)),)
    >>> future_value(actor, critic, views((), jnp.ones((5, 2))), noise=None).shape
    (5,)
    """
    action = squashed(actor, seen[0])
    if noise is not None:
        action = jnp.clip(action + noise, -1.0, 1.0)
    first, *others = critic_values(critic, seen[1], action)
    for other in others:
        first = jnp.minimum(first, other)
    return first


def critic_loss(
    critic: Critic, observation: Float[Array, "B D"], action: Float[Array, "B A"], target: Float[Array, " B"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean of `(Q(s, a) - y)^2`, summed over the critics, and the first one's mean value.

    >>> import jax
    >>> critic = (MLP(3, 1, hidden=(8,), activation="relu", key=jax.random.key(0)),) * 2
    >>> values = critic_values(critic, jnp.ones((5, 2)), jnp.ones((5, 1)))
    >>> float(critic_loss(critic, jnp.ones((5, 2)), jnp.ones((5, 1)), values[0])[0])
    0.0
    """
    values = critic_values(critic, observation, action)
    total = jnp.zeros((), jnp.float32)
    for value in values:
        total = total + jnp.mean((value - target) ** 2)
    return total, jnp.mean(values[0])


def actor_loss(actor: MLP, critic: Critic, seen: Views) -> Float[Array, ""]:
    """Minus the mean of `Q_1(s, pi(s))` (Lillicrap et al. 2016, eq. 6; of twins the first, Fujimoto et al. 2018).

    >>> import jax
    >>> actor = MLP(2, 1, hidden=(8,), activation="relu", key=jax.random.key(0))
    >>> critic = (MLP(3, 1, hidden=(8,), activation="relu", key=jax.random.key(1)),)
    >>> actor_loss(actor, critic, views((), jnp.ones((5, 2)))).shape
    ()
    """
    return -jnp.mean(critic_values(critic[:1], seen[1], squashed(actor, seen[0]))[0])
