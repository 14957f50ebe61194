"""Public states as published: what an agent that takes part in no federation meets while it gets better (FedHPD).

References: jiang2025fedhpd.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from polyfed.agents.reinforce import REINFORCE
from polyfed.agents.rollout import local_update
from polyfed.checks import one_of, whole_in_range
from polyfed.environments import Box, Environment, World
from polyfed.environments.state_checks import box_of
from polyfed.environments.state_clusters import clustered


class VirtualAgentStates(eqx.Module):
    """States from rollouts of a virtual agent, as many from every cluster (Jiang et al. 2025, released code).

    A REINFORCE agent learns in the nominal world. After `first`, `first + every`, ..., `last` episodes its policy plays
    `rollouts` episodes, the same starts each time. All states met are standardised, projected on `components`
    principal components and cut into `clusters` by k-means; of every cluster the same number is drawn, see `clustered`.
    The defaults are those of CartPole. Nobody's experience is used but the virtual agent's own.

    >>> from polyfed.environments import CartPole
    >>> VirtualAgentStates().check(CartPole())
    """

    num: int = eqx.field(default=5000, static=True)  # states
    clusters: int = eqx.field(default=5, static=True)  # of k-means
    components: int = eqx.field(default=2, static=True)  # principal components, at most entries of an observation
    hidden: tuple[int, ...] = eqx.field(default=(128,), static=True)  # units per hidden layer of the virtual agent
    activation: str = eqx.field(default="relu", static=True)  # relu, tanh or elu
    learning_rate: float = eqx.field(default=1e-3, static=True)  # Adam's step size
    first: int = eqx.field(default=1000, static=True)  # episodes before the first policy that is kept
    last: int = eqx.field(default=2000, static=True)  # episodes before the last one
    every: int = eqx.field(default=100, static=True)  # episodes between two of them
    rollouts: int = eqx.field(default=10, static=True)  # episodes that each plays
    acting: str = eqx.field(default="greedy", static=True)  # in them: greedy, or sampled as while it learns
    seed: int = eqx.field(default=0, static=True)  # of everything

    @property
    def describe(self) -> str:
        """One line."""
        return (
            f"{self.num} states of a virtual agent after {self.first} to {self.last} episodes, from {self.clusters} "
            f"clusters (seed {self.seed})"
        )

    @property
    def num_policies(self) -> int:
        """How many policies of the virtual agent are kept."""
        return (self.last - self.first) // self.every + 1

    def agent(self, environment: World) -> REINFORCE:
        """The virtual agent: of FedHPD, for choices or for vectors."""
        kind = REINFORCE.continuous() if isinstance(environment.action_space, Box) else REINFORCE()
        own: Any = {"hidden": self.hidden, "activation": self.activation, "learning_rate": self.learning_rate}
        return dataclasses.replace(kind, **own)

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        size = box_of(environment).size
        one_of("public_states.acting", self.acting, ("greedy", "sampled"))
        whole_in_range("public_states.num", self.num, 1, 10**7, "states")
        whole_in_range("public_states.seed", self.seed, 0, 2**32 - 1)
        whole_in_range("public_states.clusters", self.clusters, 1, self.num)
        whole_in_range("public_states.components", self.components, 1, size)
        whole_in_range("public_states.every", self.every, 1, 10**6, "episodes")
        whole_in_range("public_states.first", self.first, 1, 10**6, "episodes")
        whole_in_range("public_states.last", self.last, self.first, 10**6, "episodes")
        whole_in_range("public_states.rollouts", self.rollouts, 1, 10**4, "episodes")
        if self.first % self.every or self.last % self.every:
            raise ValueError(
                f"Policies of a virtual agent are kept every {self.every} episodes, which does not meet first = "
                f"{self.first} and last = {self.last}: make both multiples of every."
            )
        self.agent(environment).check(environment)

    def states(self, environment: Environment) -> np.ndarray:
        """Float32 `[num, D]`, in random order; trains the virtual agent, which takes from seconds to minutes.

        Raises:
          ValueError: Fewer than `num` states were met.
        """
        agent, key = self.agent(environment), jax.random.key(self.seed)
        episodes = (self.first, self.last, self.every, self.rollouts)
        seen, steps = _met(agent, environment, key, episodes, self.acting)
        lived = np.arange(seen.shape[1])[None, :, None] < np.asarray(steps)[:, None]
        met = np.asarray(seen, np.float32)[lived]
        if len(met) < self.num:
            raise ValueError(
                f"The virtual agent met {len(met)} states, from which {self.num} cannot be drawn: ask for fewer, or "
                "for more rollouts."
            )
        return clustered(met, self.num, clusters=self.clusters, components=self.components, seed=self.seed)

    def fingerprint(self) -> str:
        """Empty: it reads no file."""
        return ""


@eqx.filter_jit
def _met(
    agent: REINFORCE, environment: Environment, key: PRNGKeyArray, episodes: tuple[int, ...], acting: str
) -> tuple[Array, Int[Array, "K R"]]:
    """Learn, and play with what was learned: `(observations [K, T, R, D], steps [K, R])` of `K` policies."""
    first, last, every, rollouts = episodes
    k_agent, k_learn, k_play = jax.random.split(key, 3)
    worlds = [
        jax.tree.map(lambda x, num=num: jnp.broadcast_to(x, (num, *x.shape)), environment.nominal())
        for num in (1, rollouts)
    ]

    def learn(state: Any, key: PRNGKeyArray) -> tuple[Any, Any]:
        client = state, (), worlds[0]
        state = local_update(environment, agent, client, key, num_steps=every)[0]
        return state, state

    def play(state: Any) -> tuple[Array, Array]:
        greedy = lambda seen, _: agent.policy(state, seen)  # noqa: E731
        sampled = lambda seen, key: agent.act(state, seen, key)  # noqa: E731
        act = greedy if acting == "greedy" else sampled
        trajectory, _, steps = environment.play(act, worlds[1], k_play)
        return trajectory.observation, steps

    keys = jax.random.split(k_learn, last // every)
    begun = agent.init(k_agent, environment, 1)
    _, states = jax.lax.scan(learn, begun, keys)
    return jax.lax.map(play, jax.tree.map(lambda x: x[first // every - 1 :], states))
