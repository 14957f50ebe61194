"""Distillation: agents that share what they would do on public states, and learn from what all would do (FedHPD).

A learner is wrapped: its own updates stay as they are, and what it shares and absorbs are predictions. So learners of
different make (network, algorithm, hyper-parameters) form one federation, and no parameter leaves a client.

References: jiang2025fedhpd, hinton2015distilling.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from polyfed.agents.adam import adam
from polyfed.agents.agent import Agent
from polyfed.agents.divergence import DIRECTIONS, KINDS, as_kind, check_divergence, divergence
from polyfed.checks import in_range, one_of, whole_in_range
from polyfed.environments import World
from polyfed.environments.state_checks import check_states
from polyfed.environments.world import Params
from polyfed.types import Metrics, Payload, Prediction, Trajectory


class Distillation(eqx.Module):
    """How an agent moves towards the consensus of all: `strength * divergence(consensus, own prediction)`.

    As released (Jiang et al. 2025, FedHPD), an event goes `repetitions` times over the public states, cut into
    `chunks`. For every chunk the agents predict, their predictions are averaged, and each takes a gradient step with
    the optimizer of its own learning: `chunks * repetitions` exchanges per event (`refresh="chunk"`). The poster has
    one exchange per event, whose consensus serves for all steps (`refresh="event"`), and a joint loss: with
    `form="joint"` no steps are taken, and the divergence is part of the loss of every local update of the policy.

    With Adam, a constant `strength` hardly changes how long such a step is, only its share in the moments. The moments
    of the learner's own optimizer, as released, carry its last policy gradients into the steps: an agent moves on along
    them even where all agree. A separate optimizer knows nothing of them.

    >>> Distillation().exchanges, Distillation(refresh="event").exchanges
    (10, 1)
    """

    direction: str = eqx.field(default="forward", static=True)  # forward, reverse or squared; see `divergence`
    payload: str = eqx.field(default="own", static=True)  # what is shared: own, probabilities or logits
    form: str = eqx.field(default="steps", static=True)  # steps of its own, or a term of the joint loss
    refresh: str = eqx.field(default="chunk", static=True)  # a consensus for every chunk, or for a whole event
    chunks: int = eqx.field(default=2, static=True)  # parts into which the public states are cut, in their order
    repetitions: int = eqx.field(default=5, static=True)  # times that an event goes over the public states
    steps_per_chunk: int = eqx.field(default=1, static=True)  # gradient steps on a chunk before the next
    optimizer: str = eqx.field(default="own", static=True)  # own: the learner's, with its moments; separate: an Adam
    strength: float = 1.0  # lambda, factor of the divergence, >= 0
    temperature: float = 1.0  # of both sides, above 0; for probabilities and logits
    boltzmann: float = 1.0  # temperature, in units of value, at which values of actions become a policy
    learning_rate: float = 1e-3  # Adam's step size, where it is separate

    @property
    def exchanges(self) -> int:
        """How often predictions go up, and a consensus comes down, in one event."""
        return self.chunks * self.repetitions if self.refresh == "chunk" else 1

    @property
    def in_parts(self) -> bool:
        """Whether a consensus is on one part of the public states, and the next one on another."""
        return self.refresh == "chunk" and self.chunks > 1

    def check(self) -> None:
        """Raise `ValueError` in one sentence if a field is out of range, or two contradict each other."""
        one_of("distillation.direction", self.direction, DIRECTIONS)
        one_of("distillation.payload", self.payload, KINDS)
        one_of("distillation.form", self.form, ("steps", "joint"))
        one_of("distillation.refresh", self.refresh, ("chunk", "event"))
        one_of("distillation.optimizer", self.optimizer, ("own", "separate"))
        whole_in_range("distillation.chunks", self.chunks, 1, 10**6)
        whole_in_range("distillation.repetitions", self.repetitions, 1, 10**6)
        whole_in_range("distillation.steps_per_chunk", self.steps_per_chunk, 1, 10**6, "gradient steps")
        in_range("distillation.strength", self.strength, 0.0, 1e9)
        in_range("distillation.temperature", self.temperature, 1e-3, 1e6)
        in_range("distillation.boltzmann", self.boltzmann, 1e-6, 1e9)
        in_range("distillation.learning_rate", self.learning_rate, 0.0, 10.0)
        if self.form == "joint" and self.refresh == "chunk":
            raise ValueError(
                'distillation.form = "joint" needs a consensus on all public states at once, but refresh = "chunk" '
                'brings that of one part after another: use refresh = "event".'
            )
        if self.form == "joint" and self.optimizer == "separate":
            raise ValueError(
                'distillation.form = "joint" takes no steps of its own, so a separate optimizer would do nothing: '
                'use optimizer = "own", or form = "steps".'
            )

    def check_chunks(self, num_states: int) -> None:
        """Raise `ValueError` unless so many public states can be cut into chunks.

        >>> Distillation(chunks=3).check_chunks(10)
        Traceback (most recent call last):
        ValueError: 10 public states cannot be cut into distillation.chunks = 3 equal parts: change one of the two.
        """
        if num_states % self.chunks:
            raise ValueError(
                f"{num_states} public states cannot be cut into distillation.chunks = {self.chunks} equal parts: "
                "change one of the two."
            )

    def loss(self, target: Prediction, prediction: Prediction) -> Float[Array, ""]:
        """The divergence of a prediction from the consensus, without `strength`."""
        return divergence(target, prediction, self.direction, self.temperature)


class DistilledState(eqx.Module):
    """What changes while a learner learns, alone and from the others; see `Distilled`."""

    learner: Any
    turn: Int[Array, ""]  # chunks done; says which one is next
    apart: Float[Array, ""]  # divergence from the consensus that came last, before it was learned from
    moments: Any  # of a separate optimizer
    consensus: Any  # the last that came, where the loss is joint
    came: Bool[Array, ""]  # whether there was one


class Distilled(Agent):
    """A learner that shares predictions on public states, and learns from their consensus besides its own experience.

    `share` gives what it would do on the next chunk of the public states, or on all of them; `absorb` expects the
    consensus on the same states and takes the gradient steps that `distillation` asks for. All else is the learner's.
    Its metrics have one more, `divergence`: how far it was from the consensus that came last, 0 before one came.

    >>> Distilled.__name__
    'Distilled'
    """

    learner: Agent
    distillation: Distillation
    public: Float[Array, "M D"]  # states that everybody knows

    @property
    def rollout_length(self) -> int:
        """The learner's."""
        return self.learner.rollout_length

    @property
    def episodic(self) -> bool:
        """The learner's."""
        return self.learner.episodic

    @property
    def exchanges(self) -> int:
        """How often predictions go up, and a consensus comes down, in one event of distillation."""
        return self.distillation.exchanges

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if learner, public states and distillation do not fit together."""
        self.learner.check(environment)
        if self.learner.view(environment) is not environment:
            raise ValueError(
                "Predictions say what is done in a public state, but what an agent with a memory does depends on what "
                "came before: share Parameters, or set agent.memory = 0."
            )
        self.distillation.check()
        check_states(jnp.shape(self.public), environment)
        self.distillation.check_chunks(self.public.shape[0])
        first = jax.tree.map(lambda x: x[0] if _per_client(x) else x, self, is_leaf=_per_client)

        def predict(key: PRNGKeyArray) -> Prediction:
            state = first.learner.init(key, environment, 1)
            first.learner.student_optimizer(state).init(first.learner.student(state)[0])
            return first._prediction(state, self.public)

        prediction = jax.eval_shape(predict, jax.random.key(0))
        check_divergence(prediction, self.distillation.direction, self.distillation.temperature)
        if self.distillation.form == "joint" and "penalty" not in inspect.signature(self.learner.learn).parameters:
            raise ValueError(
                f'distillation.form = "joint" adds to the loss of a policy, but {type(self.learner).__name__} learns '
                'values: use form = "steps".'
            )

    def caution(self, params: Params) -> None:
        """The learner's."""
        self.learner.caution(params)

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> DistilledState:
        """A fresh learner to which no consensus has come."""
        learner = self.learner.init(key, environment, num_envs)
        separate, joint = self.distillation.optimizer == "separate", self.distillation.form == "joint"
        return DistilledState(
            learner=learner,
            turn=jnp.zeros((), jnp.int32),
            apart=jnp.zeros((), jnp.float32),
            moments=adam(self.distillation.learning_rate).init(self.learner.student(learner)[0]) if separate else (),
            consensus=self._prediction(learner, self.public) if joint else (),
            came=jnp.zeros((), bool),
        )

    def settle(self, state: DistilledState, key: PRNGKeyArray) -> DistilledState:
        """The learner's."""
        return dataclasses.replace(state, learner=self.learner.settle(state.learner, key))

    def act(self, state: DistilledState, observation: Float[Array, "E D"], key: PRNGKeyArray) -> Array:
        """The learner's."""
        return self.learner.act(state.learner, observation, key)

    def policy(self, state: DistilledState, observation: Float[Array, "N D"]) -> Array:
        """The learner's."""
        return self.learner.policy(state.learner, observation)

    def learn(self, state: DistilledState, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[DistilledState, Metrics]:
        """The learner's update; where the loss is joint, with the divergence from the last consensus in it."""
        learn: Any = self.learner.learn
        if self.distillation.form == "joint":
            learner, metrics = learn(state.learner, trajectory, key, penalty=self._penalty(state))
        else:
            learner, metrics = learn(state.learner, trajectory, key)
        return dataclasses.replace(state, learner=learner), {**metrics, "divergence": state.apart}

    def share(self, state: DistilledState) -> Payload:
        """Predictions: on the chunk whose turn it is `[M / chunks, ...]`, or on all public states `[M, ...]`."""
        states = self.public if self.distillation.refresh == "event" else self._chunk(self.public, state.turn)
        return self._prediction(state.learner, states)

    def absorb(self, state: DistilledState, broadcast: Payload) -> DistilledState:
        """Learn from the consensus on the states of the last `share`; with a joint loss, remember it."""
        given = self.distillation
        if given.form == "joint":
            apart = given.loss(broadcast, self._prediction(state.learner, self.public))
            return dataclasses.replace(state, consensus=broadcast, apart=apart, came=jnp.ones((), bool))
        if given.refresh == "chunk":
            state, losses = self._steps(state, self._chunk(self.public, state.turn), broadcast)
            return dataclasses.replace(state, turn=(state.turn + 1) % given.chunks, apart=losses[0])

        def step(state: DistilledState, turn: Int[Array, ""]) -> tuple[DistilledState, Float[Array, " steps"]]:
            return self._steps(state, *(self._chunk(tree, turn) for tree in (self.public, broadcast)))

        state, losses = jax.lax.scan(step, state, jnp.arange(given.chunks * given.repetitions, dtype=jnp.int32))
        return dataclasses.replace(state, apart=jnp.mean(losses[: given.chunks, 0]))

    def parameters(self, state: DistilledState) -> Payload:
        """The learner's."""
        return self.learner.parameters(state.learner)

    def plain(self) -> Agent:
        """The learner without distillation, and without its own federated parts."""
        return self.learner.plain()

    def alone(self) -> Agent:
        """The learner without distillation: there is nobody to learn from."""
        return self.learner.alone()

    def pooled(self, num_clients: int) -> Agent:
        """One learner without distillation: there is nobody to learn from."""
        return self.learner.pooled(num_clients)

    def whole(self) -> Distilled:
        """The whole learner, distilled."""
        return dataclasses.replace(self, learner=self.learner.whole())

    def predict(self, state: DistilledState, observation: Float[Array, "M D"], params: Any = None) -> Prediction:
        """The learner's prediction, as it is shared."""
        return self._prediction(state.learner, observation, params)

    def _prediction(self, learner: Any, states: Float[Array, "M D"], params: Any = None) -> Prediction:
        given = self.distillation
        return as_kind(self.learner.predict(learner, states, params), given.payload, given.boltzmann)

    def _chunk(self, tree: Any, turn: Int[Array, ""]) -> Any:
        """Chunk number `turn % chunks` of leaves `[M, ...]`."""
        chunks = self.distillation.chunks
        return jax.tree.map(lambda x: x.reshape(chunks, -1, *x.shape[1:])[turn % chunks], tree)

    def _penalty(self, state: DistilledState) -> Callable[[Callable[[Array], Prediction]], Float[Array, ""]]:
        """`strength * divergence` from the last consensus for a policy, nothing before one came."""
        given = self.distillation
        strength = jnp.where(state.came, given.strength, 0.0)

        def penalty(predict: Callable[[Array], Prediction]) -> Float[Array, ""]:
            own = as_kind(predict(self.public), given.payload, given.boltzmann)
            return strength * given.loss(state.consensus, own)

        return penalty

    def _steps(
        self, state: DistilledState, states: Float[Array, "m D"], target: Prediction
    ) -> tuple[DistilledState, Float[Array, " steps"]]:
        """`steps_per_chunk` gradient steps, and the divergence before each."""
        if self.distillation.steps_per_chunk == 1:
            state, loss = self._step(state, states, target)
            return state, loss[None]
        step = lambda state, _: self._step(state, states, target)  # noqa: E731
        return jax.lax.scan(step, state, None, length=self.distillation.steps_per_chunk)

    def _step(
        self, state: DistilledState, states: Float[Array, "m D"], target: Prediction
    ) -> tuple[DistilledState, Float[Array, ""]]:
        given, learner = self.distillation, self.learner
        params, moments = learner.student(state.learner)

        def loss(params: Any) -> tuple[Float[Array, ""], Float[Array, ""]]:
            apart = given.loss(target, self._prediction(state.learner, states, params))
            return given.strength * apart, apart

        gradient, apart = jax.grad(loss, has_aux=True)(params)
        if given.optimizer == "separate":
            updates, own = adam(given.learning_rate).update(gradient, state.moments, params)
            taught = learner.taught(state.learner, optax.apply_updates(params, updates), moments)
            return dataclasses.replace(state, learner=taught, moments=own), apart
        updates, moments = learner.student_optimizer(state.learner).update(gradient, moments, params)
        taught = learner.taught(state.learner, optax.apply_updates(params, updates), moments)
        return dataclasses.replace(state, learner=taught), apart


def _per_client(leaf: Any) -> bool:
    """Whether a leaf is still a tuple of numbers, one per client."""
    return isinstance(leaf, tuple) and bool(leaf) and all(isinstance(x, int | float) for x in leaf)
