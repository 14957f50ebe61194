"""Ways to adapt a trained network to a world that nobody trained in (Jin et al. 2022, section on personalisation).

References: jin2022qavg.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polyfed.simulation.engine import Federation
from polyfed.simulation.simulate import Simulation


@dataclasses.dataclass(frozen=True)
class Arm:
    """What of a newcomer is trained, and where its vector begins."""

    name: str
    embedding: bool  # its vector is trained
    network: bool  # the network is trained
    mean: bool = True  # the vector begins at the mean of the trained ones; else uniform in (-1, 1)


PERSONAL = (
    Arm("Exp-1", embedding=True, network=False),
    Arm("Exp-2", embedding=True, network=True),
    Arm("Ctr-1", embedding=False, network=True),
    Arm("Ctr-2", embedding=False, network=False),
    Arm("Exp-1, random", embedding=True, network=False, mean=False),
    Arm("Exp-2, random", embedding=True, network=True, mean=False),
)
PLAIN = (Arm("Ctr-3", embedding=False, network=True),)


def arms(personal: bool) -> tuple[Arm, ...]:
    """Those of PerDQNAvg, or the control of DQNAvg.

    >>> [arm.name for arm in arms(False)]
    ['Ctr-3']
    """
    return PERSONAL if personal else PLAIN


def begin(simulation: Simulation, network: Any, vectors: Any, ways: tuple[Arm, ...]) -> Federation:
    """Newcomers in unseen worlds with a trained network, before their first step.

    Args:
      simulation: Of `LocalOnly`, with a client for every way in every world, worlds fastest.
      network: The merged one, leaves `[S, ...]`.
      vectors: The embeddings of those who trained, `[S, C, K]`, or () without.
      ways: Where vectors begin; a random one is what `DQN.settle` has drawn.

    Returns:
      The federation; online and target network are the trained one, moments are at zero, replays empty.
    """
    federation = simulation.unpadded(simulation.init())
    num = simulation.experiment.num_clients
    each = lambda x: jnp.repeat(jnp.asarray(x), num, axis=0)  # noqa: E731  [S, ...] -> [S C, ...]
    sent = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x)[:, None], num, axis=1), network)
    parts = lambda f: (f.clients.agent.online, f.clients.agent.target, f.server.broadcast)  # noqa: E731
    federation = eqx.tree_at(parts, federation, (jax.tree.map(each, network), jax.tree.map(each, network), sent))
    if isinstance(vectors, tuple):
        return simulation.place(federation)
    drawn = federation.clients.agent.embedding.vector
    takes_mean = jnp.tile(jnp.repeat(jnp.asarray([way.mean for way in ways]), num // len(ways)), len(vectors))
    mean = each(jnp.mean(jnp.asarray(vectors), axis=1))
    vector = jnp.where(takes_mean[:, None], mean, drawn)
    return simulation.place(eqx.tree_at(lambda f: f.clients.agent.embedding.vector, federation, vector))


@functools.partial(jax.jit, static_argnames=("num_episodes", "personal"))
def policy_returns(
    parts: tuple[Any, Any], policy: tuple[Any, Any], judged: tuple[Any, Any], *, num_episodes: int, personal: bool
) -> Float[Array, " W"]:
    """Mean return of a policy in each of `W` worlds, with the vector that belongs to the world.

    Args:
      parts: `(environment, DQN)`.
      policy: `(online network, vectors [W, K] or ())`; network leaves `[W, ...]` if `personal`.
      judged: `(params [W], key)`; episodes start alike in all worlds.
      num_episodes: Per world.
      personal: Every world has a network of its own.
    """
    (environment, agent), (network, vectors), (params, key) = parts, policy, judged
    blank = agent.init(key, environment, 1)

    def one(network: Any, vector: Any, world: Any) -> Array:
        embedding = () if agent.embedding is None else dataclasses.replace(blank.embedding, vector=vector)
        state = dataclasses.replace(blank, online=network, embedding=embedding)
        worlds = jax.tree.map(lambda x: x[None], world)
        return environment.evaluate(lambda seen: agent.policy(state, seen), worlds, key, num_episodes)[0]

    return jax.vmap(one, in_axes=(0 if personal else None, 0, 0))(network, vectors, params)
