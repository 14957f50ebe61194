"""Tabular Q-learning from experience (Watkins 1989), and FedRQ's worst neighbour (Hwang and Hong 2025).

References: watkins1989learning, jin2022qavg, hwang2025fedrq.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from polyfed.agents.agent import Agent
from polyfed.agents.exploration import Exploration, LinearDecay, epsilon_greedy
from polyfed.agents.step_sizes import Constant, RobbinsMonro
from polyfed.agents.survival import Survival
from polyfed.checks import in_range
from polyfed.environments import Box, Discrete, Environment, World
from polyfed.environments.neighbours import check_neighbours, warn_small_omega
from polyfed.environments.planning import neighbour_sets
from polyfed.environments.world import Params
from polyfed.types import Metrics, Payload, Trajectory

Sets = tuple[tuple[int, ...], ...]


def known_neighbours(transitions: Float[Array, "K S A S"]) -> Sets:
    """The states that each state can lead to, whoever acts and however: the union of all agents' supports.

    >>> known_neighbours(jnp.array([[[[1.0, 0.0]], [[1.0, 0.0]]], [[[0.5, 0.5]], [[1.0, 0.0]]]]))
    ((0, 1), (0,))
    """
    return tuple(tuple(int(x) for x in np.flatnonzero(row)) for row in np.asarray(neighbour_sets(transitions)))


class Moment(eqx.Module):
    """One transition, states and action as numbers.

    >>> Moment(jnp.int32(0), jnp.int32(1), jnp.float32(0.5), jnp.int32(3), jnp.bool_(False)).action
    Array(1, dtype=int32)
    """

    state: Int[Array, ""]
    action: Int[Array, ""]
    reward: Float[Array, ""]
    successor: Int[Array, ""]
    terminated: Bool[Array, ""]


def robust_q_step(
    q: Float[Array, "S A"], neighbours: Bool[Array, "S S_and_end"], moment: Moment, rate: Any, settings: tuple[Any, Any]
) -> tuple[Float[Array, "S A"], Float[Array, ""]]:
    """FedRQ's local step (Hwang and Hong 2025), `V = max_a Q`, 0 at an end of the episode:

    `Q(s, a) <- (1 - alpha) Q(s, a) + alpha [r + discount ((1 - omega) V(s') + omega min_{x in N_s} V(x))]`.

    Args:
      q: The table.
      neighbours: `N_s` of every state; the last column says whether an episode can end from there, of value 0.
      moment: `(s, a, r, s')`.
      rate: `alpha`.
      settings: `(discount, omega)`.

    Returns:
      `(table, target - Q(s, a))`.

    >>> moment = Moment(jnp.int32(0), jnp.int32(0), jnp.float32(1), jnp.int32(1), jnp.bool_(False))
    >>> q, error = robust_q_step(jnp.array([[0.0], [2.0]]), jnp.ones((2, 3), bool), moment, 0.5, (0.5, 0.0))
    >>> q[:, 0].tolist(), float(error)
    ([1.0, 2.0], 2.0)
    """
    discount, omega = settings
    values = jnp.max(q, axis=1)
    following = jnp.where(moment.terminated, 0.0, values[moment.successor])
    ahead = jnp.append(values, jnp.zeros((), values.dtype))
    worst = jnp.min(jnp.where(neighbours[moment.state], ahead, jnp.inf))
    target = moment.reward + discount * ((1 - omega) * following + omega * worst)
    old = q[moment.state, moment.action]
    return q.at[moment.state, moment.action].set((1 - rate) * old + rate * target), target - old


class QLearningState(eqx.Module):
    """What changes while a table is learned; see `QLearning`."""

    q: Float[Array, "S A"]
    visits: Int[Array, "S A"]  # updates of each entry
    neighbours: Bool[Array, "S S_and_end"]  # successors known of each state; last: an end of the episode
    explore_steps: Int[Array, ""]  # local steps that the exploration schedule has seen


class QLearning(Agent):
    """A table of values, learned step by step; shared and averaged it is QAvg, and with `omega > 0` FedRQ.

    See `robust_q_step`. Neighbour sets are known (`neighbours`, from `known_neighbours`), or learned: the successors
    that this client has seen from a state, whatever it did, so that after the first visit `N_s = {s'}`. What is shared
    is the table alone. The learned sets stay at the client, for they tell where it has been; a union over clients would
    come nearer to the assumption of equal sets, and is not sent.

    The step size runs by the visits of each entry (ours; the papers write `alpha_t`). Behaviour is uniform unless
    `exploration` says otherwise. Of `survival`, `optimizer` stands for the visits, `replay` for the learned sets and
    `exploration` for the schedule; there is no target.

    >>> from polyfed.environments import TabularMDP
    >>> QLearning(omega=0.2).check(TabularMDP(num_states=5, num_actions=5))
    """

    omega: float = 0.0  # share of the worst neighbour, 0 to 1; should exceed how far the transitions differ
    discount: float = 0.9  # 0 to 1
    step_size: Constant | RobbinsMonro = RobbinsMonro(scale=20.0, offset=100.0)
    exploration: Exploration = LinearDecay(start=1.0, end=1.0, steps=1)  # uniform
    neighbours: Sets | None = eqx.field(default=None, static=True)  # successors of each state; none: learned
    initial: float = 1e-3  # entries begin uniform from 0 to this
    survival: Survival = Survival.everything()

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        num_states, _ = _sizes(environment)
        in_range("agent.omega", self.omega, 0.0, 1.0)
        in_range("agent.discount", self.discount, 0.0, 1.0)
        in_range("agent.initial", self.initial, 0.0, 1e6)
        self.step_size.check()
        self.exploration.check()
        if self.neighbours is None:
            return
        if len(self.neighbours) != num_states:
            raise ValueError(
                f"agent.neighbours has {len(self.neighbours)} sets, but {type(environment).__name__} has {num_states} "
                "states: give one set for each, or none to learn them."
            )
        for state, known in enumerate(self.neighbours):
            for x in known:
                if not 0 <= x < num_states:
                    raise ValueError(
                        f"agent.neighbours says that state {state} leads to state {x}, but states are numbered 0 to "
                        f"{num_states - 1}: leave it out."
                    )
        check_neighbours(self._known(num_states)[:, :-1], np.ones(num_states))

    def caution(self, params: Params) -> None:
        """Warn where the covering set of a robust learner is smaller than the measured heterogeneity of the fleet."""
        least = float(np.min(self.omega))
        if least > 0 and hasattr(params, "transitions"):
            warn_small_omega(least, params.transitions)

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> QLearningState:
        """A table of small random numbers."""
        del num_envs
        num_states, num_actions = _sizes(environment)
        spread = jnp.asarray(self.initial, jnp.float32)
        return QLearningState(
            q=spread * jax.random.uniform(key, (num_states, num_actions), jnp.float32),
            visits=jnp.zeros((num_states, num_actions), jnp.int32),
            neighbours=jnp.asarray(self._known(num_states)),
            explore_steps=jnp.zeros((), jnp.int32),
        )

    def act(self, state: QLearningState, observation: Float[Array, "E S"], key: PRNGKeyArray) -> Int[Array, " E"]:
        """Epsilon-greedy actions; uniform where epsilon is 1."""
        return epsilon_greedy(state.q[_place(observation)], self.exploration(state.explore_steps), key)

    def policy(self, state: QLearningState, observation: Float[Array, "N S"]) -> Int[Array, " N"]:
        """The action of highest value."""
        return jnp.argmax(state.q, axis=-1).astype(jnp.int32)[_place(observation)]

    def learn(self, state: QLearningState, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[QLearningState, Metrics]:
        """One step of the table per transition, in their order."""
        del key
        moments = Moment(
            state=_place(trajectory.observation),
            action=trajectory.action.astype(jnp.int32),
            reward=trajectory.reward,
            successor=_place(trajectory.next_observation),
            terminated=trajectory.terminated,
        )
        flat = jax.tree.map(lambda x: x.reshape(-1), moments)
        after, errors = jax.lax.scan(lambda s, moment: self._take_in(s, moment), state, flat)
        after = eqx.tree_at(lambda s: s.explore_steps, after, after.explore_steps + trajectory.reward.shape[0])
        return after, {"error": jnp.mean(jnp.abs(errors)), "value": jnp.mean(jnp.max(after.q, axis=1))}

    def share(self, state: QLearningState) -> Payload:
        """The table, nothing else."""
        return state.q

    def absorb(self, state: QLearningState, broadcast: Payload) -> QLearningState:
        """Take the broadcast as the table; `survival` says what else stays."""
        keep, zeros = self.survival, jnp.zeros_like
        known = jnp.asarray(self._known(len(broadcast)))
        return QLearningState(
            q=broadcast,
            visits=state.visits if keep.optimizer else zeros(state.visits),
            neighbours=state.neighbours if keep.replay else known,
            explore_steps=state.explore_steps if keep.exploration else zeros(state.explore_steps),
        )

    def alone(self) -> QLearning:
        """Everything survives."""
        return dataclasses.replace(self, survival=Survival.everything())

    def _known(self, num_states: int) -> np.ndarray:
        """What is known before anything was lived, bool `[S, S + 1]`."""
        known = np.zeros((num_states, num_states + 1), bool)
        for state, successors in enumerate(self.neighbours or ()):
            known[state, list(successors)] = True
        return known

    def _take_in(self, state: QLearningState, moment: Moment) -> tuple[QLearningState, Array]:
        """Learn the sets, then the table."""
        seen = jnp.where(moment.terminated, state.q.shape[0], moment.successor)
        neighbours = state.neighbours.at[moment.state, seen].set(True)
        rate = self.step_size.rate((), state.visits[moment.state, moment.action])
        q, error = robust_q_step(state.q, neighbours, moment, rate, (self.discount, self.omega))
        visits = state.visits.at[moment.state, moment.action].add(1)
        return QLearningState(q, visits, neighbours, state.explore_steps), error


def _place(observation: Float[Array, "*N S"]) -> Int[Array, "*N"]:
    """Where the one is."""
    return jnp.argmax(observation, axis=-1).astype(jnp.int32)


def _sizes(environment: World) -> tuple[int, int]:
    """States and actions; raises `ValueError` where there is no table of them."""
    name = type(environment).__name__
    if not isinstance(environment, Environment):
        raise ValueError(
            f"QLearning learns by acting, but {name} shows right answers and takes no actions: use a Classifier."
        )
    seen, taken = environment.observation_space, environment.action_space
    if not isinstance(taken, Discrete):
        raise ValueError(
            f"QLearning keeps one entry per action, but {name} takes continuous ones: use an environment with discrete "
            "actions, such as TabularMDP or WindyCliff."
        )
    if not isinstance(seen, Box) or set(seen.low) != {0.0} or set(seen.high) != {1.0}:
        raise ValueError(
            f"QLearning keeps one row per state and needs to see a one at its place, but {name} shows other numbers: "
            "live in a TabularMDP or WindyCliff, or use DQN."
        )
    return seen.size, taken.n
