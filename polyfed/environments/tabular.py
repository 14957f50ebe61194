"""Finite Markov decision processes whose transitions are data: batches of them, and an environment that steps one.

Probabilities are float32 unless a generator is asked for float64 (inside `jax.enable_x64(True)`): values of a few
hundred are then right to 1e-4, far below the spread between instances, at twice the speed. The draws themselves are
float32 in both cases, so an instance is the same up to rounding. A fixed point to 1e-6 takes float64.
"""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.checks import in_range, whole_in_range
from polyfed.environments.environment import Environment, Step
from polyfed.environments.spaces import Box, Discrete


class TabularMDPs(eqx.Module):
    """Markov decision processes with `S` states and `A` actions; leading axes hold as many as there are.

    In a federation of `K` agents and `N` instances, `transitions` is `[N, K, S, A, S]` and rewards are common to the
    agents: `[N, 1, S, A]` or `[S, A]`; they broadcast against `transitions[..., 0]`.

    >>> mdp = TabularMDPs(transitions=jnp.ones((1, 2, 1)), rewards=jnp.ones((1, 2)), start=jnp.ones(1), discount=0.9)
    >>> mdp.check()
    >>> mdp.num_states, mdp.num_actions
    (1, 2)
    """

    transitions: Float[Array, "*batch S A S"]  # probability of the next state
    rewards: Float[Array, "*batch S A"]  # of an action in a state, whatever comes next
    start: Float[Array, " S"]  # probability of the first state
    discount: float  # 0 to below 1

    @property
    def num_states(self) -> int:
        """`S`."""
        return self.transitions.shape[-1]

    @property
    def num_actions(self) -> int:
        """`A`."""
        return self.transitions.shape[-2]

    @property
    def shift(self) -> float:
        """`0.5 / (1 - discount)`, the value of a reward of one half forever, which Jin et al. (2022) subtract."""
        return 0.5 / (1 - self.discount)

    def check(self) -> None:
        """Raise `ValueError` in one sentence if shapes disagree or rows are no distributions."""
        shape = jnp.shape(self.transitions)
        if len(shape) < 3 or shape[-1] != shape[-3]:
            raise ValueError(
                f"transitions has shape {shape}, but the next states must be the states: give [..., S, A, S]."
            )
        if shape[-3:-1] != jnp.shape(self.rewards)[-2:]:
            raise ValueError(
                f"rewards has shape {jnp.shape(self.rewards)}, but transitions has {shape[-3]} states and {shape[-2]} "
                "actions: give one reward for each of them, [..., S, A]."
            )
        if jnp.shape(self.start) != shape[-1:]:
            raise ValueError(
                f"start has shape {jnp.shape(self.start)}, but there are {shape[-1]} states: give one probability each."
            )
        in_range("discount", self.discount, 0.0, 1 - 1e-6)
        check_rows("transitions", self.transitions)
        check_rows("start", self.start)


def check_rows(name: str, rows: Float[Array, "*batch S"]) -> None:
    """Raise `ValueError` unless every row is a distribution, to 1e-5.

    >>> check_rows("transitions", jnp.array([[0.5, 0.4]]))
    Traceback (most recent call last):
    ValueError: transitions[0] sums to 0.9, but probabilities sum to one: divide the row by its sum.
    """
    given = np.asarray(rows, np.float64)
    at = lambda where: name + "".join(f"[{i}]" for i in np.argwhere(where)[0])  # noqa: E731
    if np.any(bad := ~(np.min(given, axis=-1) >= 0)):
        raise ValueError(f"{at(bad)} has an entry that is negative or no number: probabilities lie in 0 to 1.")
    if np.any(bad := ~(np.abs(given.sum(-1) - 1) <= 1e-5)):
        total = given.sum(-1)[tuple(np.argwhere(bad)[0])]
        raise ValueError(f"{at(bad)} sums to {total:.6g}, but probabilities sum to one: divide the row by its sum.")


class TabularParams(eqx.Module):
    """One finite world, or `[C]` of them stacked.

    >>> TabularParams(jnp.ones((1, 2, 1)), jnp.ones((1, 2)), jnp.ones(1)).transitions.shape
    (1, 2, 1)
    """

    transitions: Float[Array, "*C S A S"]
    rewards: Float[Array, "*C S A"]
    start: Float[Array, "*C S"]


class TabularState(eqx.Module):
    """The state, and the clock.

    >>> TabularState(jnp.int32(3), time=jnp.int32(0)).state
    Array(3, dtype=int32)
    """

    state: Int[Array, ""]
    time: Int[Array, ""]  # steps since the reset


def draw_index(key: PRNGKeyArray, probabilities: Float[Array, " S"]) -> Int[Array, ""]:
    """An index with these probabilities; one of probability 0 is never drawn.

    >>> int(draw_index(jax.random.key(0), jnp.array([0.0, 1.0, 0.0])))
    1
    """
    edges = jnp.cumsum(probabilities)
    uniform = jax.random.uniform(key, (), edges.dtype) * edges[-1]
    below = jnp.sum(edges <= uniform, dtype=jnp.int32)
    last = jnp.max(jnp.where(probabilities > 0, jnp.arange(len(probabilities), dtype=jnp.int32), 0))
    return jnp.minimum(below, last)


class TabularMDP(Environment[TabularState]):
    """A finite world that is lived in step by step; which one, its `params` say: transitions, rewards, first states.

    The state is seen as a vector with a one at its place, so that a table and a network can both learn from it. No
    state ends the episode, only the clock does. Worlds come from `RandomMDPs` or `WindyCliffs`, in place of a variation
    of physical quantities.

    >>> from polyfed.environments import RandomMDPs
    >>> world = TabularMDP(num_states=5, num_actions=5)
    >>> params = RandomMDPs(seed=1).params(world, num_clients=3)
    >>> state, observation = world.reset(jax.random.key(0), jax.tree.map(lambda x: x[0], params))
    >>> observation.shape, params.transitions.shape
    ((5,), (3, 5, 5, 5))
    """

    params_class: ClassVar[type] = TabularParams

    num_states: int = eqx.field(default=5, static=True)
    num_actions: int = eqx.field(default=5, static=True)
    max_steps: int = eqx.field(default=100, static=True)  # steps until truncation

    @property
    def observation_space(self) -> Box:
        """A one at the place of the state."""
        return Box(low=(0.0,) * self.num_states, high=(1.0,) * self.num_states)

    @property
    def action_space(self) -> Discrete:
        """`A` choices."""
        return Discrete(self.num_actions)

    def nominal(self) -> TabularParams:
        """Every action leads anywhere with equal chance, and gives nothing."""
        shape = (self.num_states, self.num_actions)
        even = 1 / self.num_states
        return TabularParams(
            transitions=jnp.full((*shape, self.num_states), even, jnp.float32),
            rewards=jnp.zeros(shape, jnp.float32),
            start=jnp.full(self.num_states, even, jnp.float32),
        )

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a size is out of range."""
        whole_in_range("environment.num_states", self.num_states, 1, 10**4, "states")
        whole_in_range("environment.num_actions", self.num_actions, 1, 10**4, "actions")
        whole_in_range("environment.max_steps", self.max_steps, 1, 10**9, "steps")

    def reset(self, key: PRNGKeyArray, params: TabularParams) -> tuple[TabularState, Array]:
        """A state drawn from `start`."""
        state = draw_index(key, params.start)
        return TabularState(state, time=jnp.zeros((), jnp.int32)), self._seen(state)

    def step(
        self, key: PRNGKeyArray, state: TabularState, action: Array, params: TabularParams
    ) -> tuple[TabularState, Step]:
        """The reward of the state and action; the next state is drawn."""
        reward = params.rewards[state.state, action]
        after = TabularState(draw_index(key, params.transitions[state.state, action]), time=state.time + 1)
        over = after.time >= self.max_steps
        return after, Step(self._seen(after.state), reward, jnp.zeros((), bool), over)

    def _seen(self, state: Int[Array, ""]) -> Float[Array, " S"]:
        return jax.nn.one_hot(state, self.num_states, dtype=jnp.float32)


def stacked_params(mdps: TabularMDPs, num_clients: int) -> TabularParams:
    """The worlds of `num_clients` clients from MDPs `[C, ...]`, float32 leaves `[C, ...]`.

    >>> mdp = TabularMDPs(jnp.ones((2, 1, 2, 1)), jnp.ones((1, 2)), jnp.ones(1), 0.9)
    >>> stacked_params(mdp, num_clients=2).rewards.shape
    (2, 1, 2)
    """
    every: Any = lambda x, shape: jnp.broadcast_to(jnp.asarray(x, jnp.float32), (num_clients, *shape))  # noqa: E731
    states, actions = mdps.num_states, mdps.num_actions
    return TabularParams(
        transitions=every(mdps.transitions, (states, actions, states)),
        rewards=every(mdps.rewards, (states, actions)),
        start=every(mdps.start, (states,)),
    )
