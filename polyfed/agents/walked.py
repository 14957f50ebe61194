"""Agents that tell each other what they would do where the server stands in a world of its own (DPA-FedRL).

References: jiang2025fedhpd.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.agents.agent import Agent
from polyfed.agents.distillation import Distillation, Distilled, DistilledState
from polyfed.environments import World
from polyfed.environments.state_checks import box_of
from polyfed.environments.walk import begin
from polyfed.environments.world import Params
from polyfed.types import Metrics, Payload, Prediction, Trajectory, Visit


class WalkedState(eqx.Module):
    """What changes while a learner learns, alone and from the others; see `Walked`."""

    distilled: DistilledState
    following: Float[Array, " D"]  # where the server stands now


class Walked(Agent):
    """A learner that shares its prediction where the server stands, and learns from the consensus on where it stood.

    At first the server stands where `walk.begin` says. `absorb` expects a `Visit`: the consensus on one state, from
    which a gradient step is taken at that very state, and the state to predict on next. All else is the learner's.

    >>> from polyfed.agents import REINFORCE
    >>> from polyfed.environments import CartPole
    >>> import jax
    >>> agent = Walked(REINFORCE(), Distillation("squared", refresh="event", chunks=1, repetitions=1))
    >>> agent.share(agent.init(jax.random.key(0), CartPole(), 1)).prediction.probabilities.shape
    (1, 2)
    """

    learner: Agent
    distillation: Distillation  # of one state: one chunk, once, a consensus per event

    @property
    def rollout_length(self) -> int:
        """The learner's."""
        return self.learner.rollout_length

    @property
    def episodic(self) -> bool:
        """The learner's."""
        return self.learner.episodic

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if learner, world and distillation do not fit together."""
        self._there(jnp.zeros(box_of(environment).size)).check(environment)

    def caution(self, params: Params) -> None:
        """The learner's."""
        self.learner.caution(params)

    def init(self, key: PRNGKeyArray, environment: Any, num_envs: int) -> WalkedState:
        """A fresh learner, and the first state of the walk."""
        first = begin(environment).observation
        return WalkedState(self._there(first).init(key, environment, num_envs), first)

    def settle(self, state: WalkedState, key: PRNGKeyArray) -> WalkedState:
        """The learner's."""
        return dataclasses.replace(state, distilled=self._there(state.following).settle(state.distilled, key))

    def act(self, state: WalkedState, observation: Float[Array, "E D"], key: PRNGKeyArray) -> Array:
        """The learner's."""
        return self.learner.act(state.distilled.learner, observation, key)

    def policy(self, state: WalkedState, observation: Float[Array, "N D"]) -> Array:
        """The learner's."""
        return self.learner.policy(state.distilled.learner, observation)

    def learn(self, state: WalkedState, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[WalkedState, Metrics]:
        """The learner's update; metrics as `Distilled` has them."""
        distilled, metrics = self._there(state.following).learn(state.distilled, trajectory, key)
        return dataclasses.replace(state, distilled=distilled), metrics

    def share(self, state: WalkedState) -> Payload:
        """A `Visit`: the prediction where the server stands."""
        prediction = self._there(state.following).share(state.distilled)
        return Visit(at=state.following, prediction=prediction, following=state.following)

    def absorb(self, state: WalkedState, broadcast: Visit) -> WalkedState:
        """Learn from the consensus where it was made, and remember where the server went."""
        distilled = self._there(broadcast.at).absorb(state.distilled, broadcast.prediction)
        return WalkedState(distilled, broadcast.following)

    def parameters(self, state: WalkedState) -> Payload:
        """The learner's."""
        return self.learner.parameters(state.distilled.learner)

    def plain(self) -> Agent:
        """The learner without distillation, and without its own federated parts."""
        return self.learner.plain()

    def alone(self) -> Agent:
        """The learner without distillation: there is nobody to learn from."""
        return self.learner.alone()

    def pooled(self, num_clients: int) -> Agent:
        """One learner without distillation: there is nobody to learn from."""
        return self.learner.pooled(num_clients)

    def whole(self) -> Walked:
        """The whole learner, on the same walk."""
        return dataclasses.replace(self, learner=self.learner.whole())

    def predict(self, state: WalkedState, observation: Float[Array, "M D"], params: Any = None) -> Prediction:
        """The learner's prediction, as it is shared."""
        return self._there(state.following).predict(state.distilled, observation, params)

    def _there(self, observation: Float[Array, " D"]) -> Distilled:
        """The learner as it distils on one state."""
        return Distilled(self.learner, self.distillation, observation[None])
