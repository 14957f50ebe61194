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

from polyfed.agents import Survival
from polyfed.simulation.engine import Federation
from polyfed.simulation.simulate import Simulation
from polyfed.studies.embedded_learners import EmbeddedLearner, stepless


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
    """Those with an embedding, or the control without.

    >>> [arm.name for arm in arms(False)]
    ['Ctr-3']
    """
    return PERSONAL if personal else PLAIN


def begin(
    simulation: Simulation, learner: EmbeddedLearner, trained: tuple[Any, Any], ways: tuple[Arm, ...]
) -> Federation:
    """Newcomers in unseen worlds with trained networks, before their first step.

    Args:
      simulation: Of `LocalOnly`, with a client for every way in every world, worlds fastest.
      learner: What they are.
      trained: The merged networks, leaves `[S, ...]`, and the vectors of those who trained, `[S, C, K]`, or () without.
      ways: Where vectors begin; a random one is what the agent's `settle` has drawn.

    Returns:
      The federation; networks and their targets are the trained ones, moments are at zero, replays empty.
    """
    (networks, vectors), federation = trained, simulation.unpadded(simulation.init())
    num = simulation.experiment.num_clients
    each = lambda x: jnp.repeat(jnp.asarray(x), num, axis=0)  # noqa: E731  [S, ...] -> [S C, ...]
    sent = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x)[:, None], num, axis=1), networks)
    keep = Survival(optimizer=True, replay=True, target=False, exploration=True)  # targets are those of the networks
    agent = dataclasses.replace(stepless(learner, simulation.experiment.agent), survival=keep)
    newcomers = jax.vmap(agent.absorb)(federation.clients[0].agent, jax.tree.map(each, networks))
    if agent.embedding is not None:
        takes_mean = jnp.tile(jnp.repeat(jnp.asarray([w.mean for w in ways]), num // len(ways)), len(simulation.seeds))
        place = lambda drawn, own: jnp.where(takes_mean[:, None], each(jnp.mean(jnp.asarray(own), axis=1)), drawn)  # noqa: E731
        begun = jax.tree.map(place, learner.vectors(newcomers), vectors)
        newcomers = eqx.tree_at(learner.vectors, newcomers, begun)
    parts = lambda f: (f.clients[0].agent, f.server.broadcast)  # noqa: E731
    apart = jax.tree.map(jnp.copy, (newcomers, sent))  # a network and its target are not one buffer
    return simulation.place(eqx.tree_at(parts, federation, apart))


@functools.partial(jax.jit, static_argnames=("num_episodes", "personal"))
def policy_returns(
    parts: tuple[Any, Any, Any], policy: tuple[Any, Any], judged: tuple[Any, Any], *, num_episodes: int, personal: bool
) -> Float[Array, " W"]:
    """Mean return of a policy in each of `W` worlds, with the vector that belongs to the world.

    Args:
      parts: `(environment, learner, agent)`.
      policy: `(networks as the agent shares them, vectors [W, K] or ())`; network leaves `[W, ...]` if `personal`.
      judged: `(params [W], key)`; episodes start alike in all worlds.
      num_episodes: Per world.
      personal: Every world has networks of its own.
    """
    (environment, learner, agent), (networks, vectors), (params, key) = parts, policy, judged
    blank = agent.init(key, environment, 1)

    def one(network: Any, vector: Any, world: Any) -> Array:
        own = blank if agent.embedding is None else eqx.tree_at(learner.vectors, blank, vector)
        state = agent.absorb(own, network)
        worlds = jax.tree.map(lambda x: x[None], world)
        return environment.evaluate(lambda seen: agent.policy(state, seen), worlds, key, num_episodes)[0]

    return jax.vmap(one, in_axes=(0 if personal else None, 0, 0))(networks, vectors, params)
