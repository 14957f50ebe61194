"""Probes: five tiny problems with known values, each of which only a learner with one more working part can solve."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.environment import Environment, Quantity, Step, quantity
from polyfed.environments.spaces import Box, Discrete


class ProbeParams(eqx.Module):
    """What may differ between clients: how much every reward is multiplied by.

    >>> ProbeParams(scale=2.0).scale
    2.0
    """

    scale: Quantity = quantity(1.0, "1", low=-100.0, high=100.0)


class ProbeState(eqx.Module):
    """In which situation the agent is, and the clock.

    >>> ProbeState(situation=jnp.int32(1), time=jnp.int32(0)).situation
    Array(1, dtype=int32)
    """

    situation: Int[Array, ""]
    time: Int[Array, ""]  # steps since the reset


class Probe(Environment[ProbeState]):
    """A handful of situations `k`, each seen as one number, with a reward for each action.

    The episode starts in one of the first `num_starts` situations with equal chance, goes on in `successors[k]`, and
    terminates where that is -1.

    >>> probe = DELAYED_REWARD
    >>> probe.action_values(discount=0.9)  # [K, n]: first situation, last situation
    array([[0.9],
           [1. ]], dtype=float32)
    """

    params_class: ClassVar[type] = ProbeParams

    name: str = eqx.field(default="constant_reward", static=True)
    seen: tuple[float, ...] = eqx.field(default=(0.0,), static=True)  # [K], the observation in each situation
    rewards: tuple[tuple[float, ...], ...] = eqx.field(default=((1.0,),), static=True)  # [K][n], of each action there
    successors: tuple[int, ...] = eqx.field(default=(-1,), static=True)  # [K], the next situation, further on, or -1
    num_starts: int = eqx.field(default=1, static=True)
    max_steps: int = eqx.field(default=10, static=True)  # steps until truncation; no episode lasts that long

    @property
    def observation_space(self) -> Box:
        """One number."""
        return Box(low=(-1.0,), high=(1.0,))

    @property
    def action_space(self) -> Discrete:
        """As many as there are rewards."""
        return Discrete(len(self.rewards[0]))

    @property
    def observations(self) -> Float[np.ndarray, "K 1"]:
        """Everything that can be seen, in the order of `action_values`."""
        return np.asarray(self.seen, np.float32)[:, None]

    def action_values(self, discount: float, scale: float = 1.0) -> Float[np.ndarray, "K n"]:
        """Optimal action values, by backward induction; a greedy agent takes their largest.

        Args:
          discount: `γ`.
          scale: That of the client's params.
        """
        values = scale * np.asarray(self.rewards, np.float32)
        for k in reversed(range(len(self.seen))):
            if self.successors[k] >= 0:
                values[k] += discount * values[self.successors[k]].max()
        return values

    def reset(self, key: PRNGKeyArray, params: ProbeParams) -> tuple[ProbeState, Array]:
        """One of the first situations, uniformly."""
        del params
        situation = jax.random.randint(key, (), 0, self.num_starts, jnp.int32)
        return ProbeState(situation, time=jnp.zeros((), jnp.int32)), jnp.asarray(self.observations)[situation]

    def step(self, key: PRNGKeyArray, state: ProbeState, action: Array, params: ProbeParams) -> tuple[ProbeState, Step]:
        """The reward of the action; the observation stays when the episode ends."""
        del key
        reward = params.scale * jnp.asarray(self.rewards, jnp.float32)[state.situation, action]
        successor = jnp.asarray(self.successors, jnp.int32)[state.situation]
        terminated = successor < 0
        state = ProbeState(jnp.where(terminated, state.situation, successor), time=state.time + 1)
        observation = jnp.asarray(self.observations)[state.situation]
        return state, Step(observation, reward, terminated, state.time >= self.max_steps)


class ContinuousProbe(Environment[ProbeState]):
    """One step, one situation `k` of several with equal chance; the reward of action `[a]` is `1 - (a - best[k])²`.

    >>> OBSERVED_TARGET.observations.tolist(), OBSERVED_TARGET.best
    ([[-1.0], [1.0]], (-0.5, 0.5))
    """

    params_class: ClassVar[type] = ProbeParams

    name: str = eqx.field(default="target", static=True)
    seen: tuple[float, ...] = eqx.field(default=(0.0,), static=True)  # [K], the observation in each situation
    best: tuple[float, ...] = eqx.field(default=(0.5,), static=True)  # [K], the best action there, of value `scale`
    max_steps: int = eqx.field(default=10, static=True)  # steps until truncation; no episode lasts that long

    @property
    def observation_space(self) -> Box:
        """One number."""
        return Box(low=(-1.0,), high=(1.0,))

    @property
    def action_space(self) -> Box:
        """One number."""
        return Box(low=(-1.0,), high=(1.0,))

    @property
    def observations(self) -> Float[np.ndarray, "K 1"]:
        """Everything that can be seen, in the order of `best`."""
        return np.asarray(self.seen, np.float32)[:, None]

    def reset(self, key: PRNGKeyArray, params: ProbeParams) -> tuple[ProbeState, Array]:
        """Any situation, uniformly."""
        del params
        situation = jax.random.randint(key, (), 0, len(self.seen), jnp.int32)
        return ProbeState(situation, time=jnp.zeros((), jnp.int32)), jnp.asarray(self.observations)[situation]

    def step(self, key: PRNGKeyArray, state: ProbeState, action: Array, params: ProbeParams) -> tuple[ProbeState, Step]:
        """The reward of the action; the episode ends."""
        del key
        best = jnp.asarray(self.best, jnp.float32)[state.situation]
        reward = params.scale * (1 - (action[0].astype(jnp.float32) - best) ** 2)
        observation = jnp.asarray(self.observations)[state.situation]
        state = ProbeState(state.situation, time=state.time + 1)
        return state, Step(observation, reward, jnp.ones((), bool), state.time >= self.max_steps)


CONSTANT_REWARD = Probe(name="constant_reward", seen=(0.0,), rewards=((1.0,),), successors=(-1,), num_starts=1)
"""One action, always 1: does the value head learn, does a terminated step not bootstrap?"""

OBSERVED_REWARD = Probe(
    name="observed_reward", seen=(-1.0, 1.0), rewards=((-1.0,), (1.0,)), successors=(-1, -1), num_starts=2
)
"""One action, the reward is the observation: does the observation reach the value head?"""

DELAYED_REWARD = Probe(
    name="delayed_reward", seen=(0.0, 1.0), rewards=((0.0,), (1.0,)), successors=(1, -1), num_starts=1
)
"""One action, two steps, 1 at the end: is the next value discounted once?"""

ACTION_REWARD = Probe(name="action_reward", seen=(0.0,), rewards=((-1.0, 1.0),), successors=(-1,), num_starts=1)
"""Two actions, -1 and 1: does the agent learn what to do?"""

OBSERVED_ACTION_REWARD = Probe(
    name="observed_action_reward",
    seen=(-1.0, 1.0),
    rewards=((1.0, -1.0), (-1.0, 1.0)),
    successors=(-1, -1),
    num_starts=2,
)
"""Two actions, 1 if the action is the sign of the observation, else -1: does what to do follow what is seen?"""

TARGET = ContinuousProbe(name="target", seen=(0.0,), best=(0.5,))
"""`ACTION_REWARD` for continuous actions."""

OBSERVED_TARGET = ContinuousProbe(name="observed_target", seen=(-1.0, 1.0), best=(-0.5, 0.5))
"""`OBSERVED_ACTION_REWARD` for continuous actions."""

PROBES: tuple[Probe, ...] = (
    CONSTANT_REWARD,
    OBSERVED_REWARD,
    DELAYED_REWARD,
    ACTION_REWARD,
    OBSERVED_ACTION_REWARD,
)
"""In the order of what they need: what fails first names the broken part."""

CONTINUOUS_PROBES: tuple[ContinuousProbe, ...] = (TARGET, OBSERVED_TARGET)
"""For learners whose action is a vector."""
