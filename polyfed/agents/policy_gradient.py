"""What learners of a stochastic policy have in common: they act by drawing from it, and share it by the names of parts.

References: williams1992reinforce, sutton2018rl.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from polyfed.agents.action_distributions import SCALES, Categorical, Head, head_of
from polyfed.agents.adam import adam
from polyfed.agents.agent import Agent
from polyfed.agents.convolutional import check_channels, over_image
from polyfed.agents.masking import Mask, allowed_by, kept_within, mask_of, masked
from polyfed.agents.networks import ACTIVATIONS
from polyfed.agents.observation_statistics import Moments, ObservationStatistics
from polyfed.agents.policy_networks import policy_network
from polyfed.agents.recurrent import remembering
from polyfed.agents.shared import check_shared
from polyfed.checks import in_range, one_of, whole_in_range
from polyfed.environments import Box, Environment, World
from polyfed.environments.remembered import Noted, Remembered, without_memory
from polyfed.types import Payload, Prediction

Penalty = Callable[[Callable[[Array], Prediction]], Float[Array, ""]]
"""Of a policy, as a function of what it predicts; see `PolicyGradient.penalised`."""


class PolicyState(eqx.Module):
    """What changes while a policy learns; see `PolicyGradient`."""

    policy: Any  # observation -> what `head` understands
    optimizer: Any
    value: Any  # `V`, an `MLP`; `()` if the learner has none
    value_optimizer: Any
    statistics: Any  # `Moments` of observations, if there are statistics
    updates: Int[Array, ""]  # how often it has learned
    head: Head = eqx.field(static=True)
    mask: Mask | None = eqx.field(default=None, static=True)  # which actions the world allows; none: all


class PolicyGradient(Agent):
    """A learner of a stochastic policy: categorical for choices, normal for vectors.

    While it learns it draws from the policy; a normal draw is not clipped, an environment clips what lies beyond its
    bounds. It is judged by the likeliest action. `shared` names what goes on the wire: the policy alone, or a
    dictionary of several parts. A merge replaces those and keeps the rest; `keep_optimizer` says whether Adam's moments
    go on. Where the world allows but some of the choices, the others have probability 0.

    >>> PolicyGradient.parts
    ('policy', 'value', 'statistics')
    """

    parts: ClassVar[tuple[str, ...]] = ("policy", "value", "statistics")  # that may be shared
    stretched: ClassVar[bool] = True  # outputs count half the range of bounded actions, see `Gaussian`
    last: ClassVar[float] = 0.01  # factor on the initial weights of the policy's last layer

    hidden: eqx.AbstractVar[tuple[int, ...]]
    activation: eqx.AbstractVar[str | tuple[str, ...]]
    scale: eqx.AbstractVar[str]
    discount: eqx.AbstractVar[float]
    shared: eqx.AbstractVar[tuple[str, ...]]
    keep_optimizer: eqx.AbstractVar[bool]
    statistics: eqx.AbstractVar[ObservationStatistics | None]
    channels: eqx.AbstractVar[tuple[int, ...]]
    memory: eqx.AbstractVar[int]

    @property
    def heeds_masks(self) -> bool:
        """Acting, likelihoods, entropies and predictions do."""
        return True

    def view(self, world: World) -> World:
        """With room for a memory of each network, if they have one."""
        if not self.memory or isinstance(world, Remembered):
            return world
        assert isinstance(world, Environment)
        return Remembered(world, self.memory * self._num_memories)

    @abc.abstractmethod
    def value_optimizer(self) -> optax.GradientTransformation:
        """What moves the value network, if there is one."""

    def check_policy(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a common field is out of range or the environment does not fit."""
        _check_spaces(type(self).__name__, environment)
        given = (self.activation,) if isinstance(self.activation, str) else self.activation
        for name in given:
            one_of("agent.activation", name, ACTIVATIONS)
        one_of("agent.scale", self.scale, SCALES)
        if not self.hidden:
            raise ValueError("agent.hidden = () leaves no hidden layer: give at least one width, e.g. (64, 64).")
        for units in self.hidden:
            whole_in_range("agent.hidden", units, 1, 2**20, "units")
        if not isinstance(self.activation, str) and len(self.activation) != len(self.hidden):
            raise ValueError(
                f"agent.activation names {len(self.activation)} activations for {len(self.hidden)} hidden layers: give "
                "one for each, or one name for all."
            )
        check_channels(self.channels, environment)
        whole_in_range("agent.memory", self.memory, 0, 2**16, "units")
        for name, part in {"channels": self.channels, "statistics": self.statistics}.items():
            if self.memory and part:
                raise ValueError(
                    f"agent.memory = {self.memory} reads observations as they come, but agent.{name} changes them "
                    "before: leave one of them out."
                )
        in_range("agent.discount", self.discount, 0.0, 1.0)
        check_shared(self.shared, self.parts, worst_case=None, example=("policy",))
        if self.statistics is not None:
            self.statistics.check()
        elif "statistics" in self.shared:
            raise ValueError(
                "agent.shared names statistics, but agent.statistics is none, so there is nothing to send: give "
                "ObservationStatistics(), or leave it out of agent.shared."
            )

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> PolicyState:
        """Fresh networks."""
        del num_envs
        space = without_memory(environment).observation_space
        assert isinstance(space, Box)
        head = head_of(environment.action_space, self.scale, stretched=self.stretched)
        k_policy, k_value = jax.random.split(key)
        form: Any = {"hidden": self.hidden, "activation": self.activation}
        of_policy = lambda size, key: policy_network(size, head, key=key, last=self.last, **form)  # noqa: E731
        of_value = lambda size, key: policy_network(size, Categorical(1), key=key, **form)  # noqa: E731
        policy = self._reader(of_policy, space, 0, k_policy)
        value: Any = self._reader(of_value, space, self.memory, k_value) if "value" in self.parts else ()
        state = PolicyState(
            policy=policy,
            optimizer=(),
            value=value,
            value_optimizer=self.value_optimizer().init(value),
            statistics=() if self.statistics is None else Moments.none(space.size),
            updates=jnp.zeros((), jnp.int32),
            head=head,
            mask=mask_of(self.view(environment)),
        )
        return dataclasses.replace(state, optimizer=self.student_optimizer(state).init(policy))

    def act(self, state: PolicyState, observation: Float[Array, "E D"], key: PRNGKeyArray) -> Any:
        """Actions drawn from the policy, `Noted` if it has a memory."""
        one = lambda x: state.policy(self.seen(state, x))  # noqa: E731  a matrix times a vector needs no transposed weights
        allowed = allowed_by(state.mask, observation)
        outputs = masked(jax.vmap(one)(observation), allowed)
        drawn = state.head.sample(outputs, key)
        if allowed is not None:
            drawn = kept_within(drawn, allowed, state.head.mode(outputs))
        return self._noted(drawn, observation, (state.policy, state.value))

    def policy(self, state: PolicyState, observation: Float[Array, "N D"]) -> Any:
        """The likeliest actions, inside the bounds, `Noted` if there is a memory."""
        outputs = state.policy(self.seen(state, observation))
        likeliest = state.head.mode(masked(outputs, allowed_by(state.mask, observation)))
        return self._noted(likeliest, observation, (state.policy,))

    def share(self, state: PolicyState) -> Payload:
        """The policy, or a dictionary of the parts that `shared` names."""
        if self.shared == ("policy",):
            return state.policy
        return {name: getattr(state, name) for name in self.shared}

    def absorb(self, state: PolicyState, broadcast: Payload) -> PolicyState:
        """Take the broadcast as the shared parts; `keep_optimizer` says whether moments go on or start anew."""
        parts = {"policy": broadcast} if self.shared == ("policy",) else broadcast
        state = dataclasses.replace(state, **parts)
        if self.keep_optimizer:
            return state
        return dataclasses.replace(
            state,
            optimizer=self.student_optimizer(state).init(state.policy),
            value_optimizer=self.value_optimizer().init(state.value),
        )

    def alone(self) -> Agent:
        """Nothing is ever reset."""
        return dataclasses.replace(self, keep_optimizer=True)

    def predict(self, state: PolicyState, observation: Float[Array, "M D"], params: Any = None) -> Prediction:
        """Probabilities, or normal distributions in the units of the action."""
        network = state.policy if params is None else params
        outputs = network(self.seen(state, observation))
        return state.head.prediction(masked(outputs, allowed_by(state.mask, observation)))

    def student(self, state: PolicyState) -> tuple[Any, Any]:
        """The policy and its optimizer's state."""
        return state.policy, state.optimizer

    def taught(self, state: PolicyState, params: Any, moments: Any) -> PolicyState:
        """Another policy, another state of its optimizer."""
        return dataclasses.replace(state, policy=params, optimizer=moments)

    def seen(self, state: PolicyState, observation: Float[Array, "*batch D"]) -> Float[Array, "*batch D"]:
        """Observations as the networks read them."""
        return observation if self.statistics is None else self.statistics(state.statistics, observation)

    def outputs(self, network: Any, seen: Float[Array, "*batch D"], over: Bool[Array, "T E"] | None) -> Array:
        """What a network gives; with a memory that of sequences `[T, E]`, see `Recurrent.unrolled`."""
        return network.unrolled(seen, over) if self.memory else network(seen)

    def _reader(self, made: Callable[[int, PRNGKeyArray], Any], space: Box, before: int, key: PRNGKeyArray) -> Any:
        """A network that reads observations, with a memory or stages before it if there are any."""
        if self.memory:
            return remembering(made, (space.size, self.memory, before), key)
        return over_image(made, space, channels=self.channels, activation=self.activation, key=key)

    def _noted(self, action: Array, observation: Float[Array, "N D"], networks: tuple[Any, ...]) -> Any:
        """With what these networks remember, if there is a memory; who does not learn needs none of the values."""
        if not self.memory:
            return action
        notes = [network.remember(observation) for network in networks[: self._num_memories]]
        notes += [jnp.zeros_like(notes[0])] * (self._num_memories - len(notes))
        return Noted(action, jnp.concatenate(notes, axis=-1))

    @property
    def _num_memories(self) -> int:
        return 2 if "value" in self.parts else 1

    def penalised(self, state: PolicyState, policy: Any, penalty: Penalty | None) -> Float[Array, ""]:
        """`penalty` of what `policy` predicts, 0 without one: what is added to the policy's loss."""
        if penalty is None:
            return jnp.zeros((), jnp.float32)
        return penalty(lambda observation: self.predict(state, observation, policy))


def clipped_adam(
    learning_rate: Float[Array, ""] | float, max_grad_norm: Float[Array, ""] | float | None
) -> optax.GradientTransformation:
    """Adam, after a bound on the global norm of the gradient if one is given.

    >>> clipped_adam(0.1, None).init(jnp.ones(2)).mean
    Array([0., 0.], dtype=float32)
    """
    optimizer = adam(learning_rate)
    return optimizer if max_grad_norm is None else optax.chain(optax.clip_by_global_norm(max_grad_norm), optimizer)


def _check_spaces(learner: str, environment: World) -> None:
    name = type(environment).__name__
    if not isinstance(environment, Environment):
        raise ValueError(
            f"{learner} learns by acting, but {name} shows right answers and takes no actions: use a Classifier."
        )
    if not isinstance(environment.observation_space, Box):
        raise ValueError(
            f"{learner} reads vectors, but {name} shows {environment.observation_space}: use a Box observation."
        )
