"""A learner around another: all is the other's, but for what it sends and takes in."""

from __future__ import annotations

from typing import Any

from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.agents.agent import Agent
from polyfed.environments import World
from polyfed.types import Metrics, Payload, Prediction, Trajectory


class Wrapped(Agent):
    """The interface of a learner whose `share` and `absorb` are its own, and which else does what its learner does.

    >>> Wrapped.__abstractmethods__ == {"share", "absorb"}
    True
    """

    learner: Agent

    @property
    def rollout_length(self) -> int:
        """The learner's."""
        return self.learner.rollout_length

    @property
    def episodic(self) -> bool:
        """The learner's."""
        return self.learner.episodic

    def view(self, world: World) -> World:
        """The learner's."""
        return self.learner.view(world)

    def check(self, environment: World) -> None:
        """Raise `ValueError` if the learner does."""
        self.learner.check(environment)

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> Any:
        """The learner's."""
        return self.learner.init(key, environment, num_envs)

    def settle(self, state: Any, key: PRNGKeyArray) -> Any:
        """The learner's."""
        return self.learner.settle(state, key)

    def act(self, state: Any, observation: Float[Array, "E ..."], key: PRNGKeyArray) -> Array:
        """The learner's."""
        return self.learner.act(state, observation, key)

    def learn(self, state: Any, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[Any, Metrics]:
        """The learner's."""
        return self.learner.learn(state, trajectory, key)

    def policy(self, state: Any, observation: Float[Array, "N ..."]) -> Array:
        """The learner's."""
        return self.learner.policy(state, observation)

    def predict(self, state: Any, observation: Float[Array, "M ..."], params: Any = None) -> Prediction:
        """The learner's."""
        return self.learner.predict(state, observation, params)

    def parameters(self, state: Any) -> Payload:
        """What the learner would share."""
        return self.learner.share(state)
