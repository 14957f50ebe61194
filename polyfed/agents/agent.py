"""The interface of a local learner: what learns at a client, and what of it is shared."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from polyfed.environments import World
from polyfed.environments.world import Params
from polyfed.types import Metrics, Payload, Prediction, Trajectory


class Agent(eqx.Module):
    """A local learner, as a value: its fields are its hyper-parameters, its methods are pure.

    A plain field is a leaf and may differ per client (a tuple of `num_clients` numbers) or be swept without compiling
    again; a static field fixes a shape or a branch. What changes while learning lives in the state that `init` makes.

    A learner that may share what it would do rather than its parameters also has `predict`, `student`, `taught` and
    `student_optimizer`: all that distillation needs to know of it.
    """

    @property
    def rollout_length(self) -> int:
        """`T` of the trajectories that `learn` takes: 1 for DQN, a whole rollout for actor-critics."""
        return 1

    @property
    def episodic(self) -> bool:
        """Whether a local step is a whole episode, and `learn` takes whole episodes; see `World.play`."""
        return False

    @property
    def heeds_masks(self) -> bool:
        """Whether it asks `World.allowed` before it acts or counts on an action; who does not cannot live by masks."""
        return False

    def view(self, world: World) -> World:
        """The world as it lives in it: itself, unless it carries a memory from step to step, see `Remembered`."""
        return world

    @abc.abstractmethod
    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a hyper-parameter is out of range or the environment does not fit."""

    def caution(self, params: Params) -> None:
        """Warn of what the learner cannot do justice to in the worlds of a fleet, leaves `[C, ...]`."""
        del params

    @abc.abstractmethod
    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> Any:
        """A learner that has not learned yet.

        Args:
          key: PRNG key of the initial parameters.
          environment: Gives the shapes of observations and actions.
          num_envs: `E`, environments that the client steps side by side.
        """

    @abc.abstractmethod
    def act(self, state: Any, observation: Float[Array, "E ..."], key: PRNGKeyArray) -> Array:
        """Actions `[E]` or `[E, size]` while learning, exploration included."""

    @abc.abstractmethod
    def learn(self, state: Any, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[Any, Metrics]:
        """Take in a trajectory `[T, E, ...]` and improve: `(state, metrics)`, metrics being named scalars."""

    @abc.abstractmethod
    def share(self, state: Any) -> Payload:
        """What leaves the client: a pytree of arrays."""

    @abc.abstractmethod
    def absorb(self, state: Any, broadcast: Payload) -> Any:
        """Take in what the server sent; a declared policy says what of the local state survives.

        Args:
          state: The client's.
          broadcast: Same structure as `share` gives. It is read-only.
        """

    def parameters(self, state: Any) -> Payload:
        """What a run keeps of a client in the end: what it shares, or would share if it shared parameters."""
        return self.share(state)

    def settle(self, state: Any, key: PRNGKeyArray) -> Any:
        """A fresh learner as a client begins with it: what is never common to clients is drawn from its own key."""
        del key
        return state

    def plain(self) -> Agent:
        """The learner without the parts that make a federated method of it: the one that baselines have."""
        return self

    def alone(self) -> Agent:
        """The learner as it learns without a federation: nothing of it is ever reset."""
        return self

    def newcomer(self) -> Agent:
        """The learner as it takes in its first broadcast late: of what it began with nothing survives."""
        return self

    def pooled(self, num_clients: int) -> Agent:
        """One learner that takes the updates, and has the memory, of `num_clients`."""
        del num_clients
        return self

    def whole(self) -> Agent:
        """The learner of the global model, where clients may hold parts of it."""
        return self

    @abc.abstractmethod
    def policy(self, state: Any, observation: Float[Array, "N ..."]) -> Array:
        """Greedy actions `[N]` or `[N, size]`, without exploration."""

    def predict(self, state: Any, observation: Float[Array, "M ..."], params: Any = None) -> Prediction:
        """What it would do in `M` states, a function of the parameters that imitation changes.

        Args:
          state: The learner's.
          observation: States.
          params: Used in place of the state's own; from `student`.
        """
        del state, observation, params
        raise ValueError(f"{type(self).__name__} makes no predictions: share its parameters, or give another learner.")

    def student(self, state: Any) -> tuple[Any, Any]:
        """What imitation changes: `(parameters of the policy, state of their optimizer)`."""
        del state
        raise ValueError(f"{type(self).__name__} imitates nobody: share its parameters, or give another learner.")

    def taught(self, state: Any, params: Any, moments: Any) -> Any:
        """The learner with other parameters of the policy, and another state of their optimizer."""
        del state, params, moments
        raise ValueError(f"{type(self).__name__} imitates nobody: share its parameters, or give another learner.")

    def student_optimizer(self, state: Any) -> optax.GradientTransformation:
        """What moves the policy's parameters when it learns by itself, at the step size of now."""
        del state
        raise ValueError(f"{type(self).__name__} imitates nobody: share its parameters, or give another learner.")
