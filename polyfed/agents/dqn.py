"""Deep Q-learning (Mnih et al. 2015); if asked, double (van Hasselt 2016), dueling (Wang et al. 2016), n-step.

References: mnih2015dqn, vanhasselt2016double, wang2016dueling.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.agents.agent import Agent
from polyfed.agents.convolutional import check_channels, over_image
from polyfed.agents.embedding import Embedding, embedded
from polyfed.agents.exploration import Exploration, LinearDecay, epsilon_greedy
from polyfed.agents.local_terms import Proximal
from polyfed.agents.masking import Mask, allowed_by, mask_of, masked
from polyfed.agents.networks import ACTIVATIONS, MLP, DuelingMLP
from polyfed.agents.replay import Batch, Replay
from polyfed.agents.shared import check_shared
from polyfed.agents.survival import Survival
from polyfed.agents.target import HardUpdate, TargetUpdate
from polyfed.agents.worst_case import WorstCase
from polyfed.checks import in_range, one_of, whole_in_range
from polyfed.environments import Box, Discrete, Environment, World
from polyfed.types import ActionValues, Metrics, Nested, Payload, Trajectory

LOSSES = {"mse": lambda error: error**2, "huber": lambda error: optax.huber_loss(error)}
PARTS = ("online", "target", "worst_case")  # that may be shared


class DQNState(eqx.Module):
    """What changes while a DQN learns; see `DQN`."""

    online: Any
    target: Any
    optimizer: Any
    replay: Replay
    learn_steps: Int[Array, ""]  # gradient steps taken
    explore_steps: Int[Array, ""]  # local steps that the exploration schedule has seen
    anchor: Any  # the last broadcast, if a local term needs it
    worst_case: Any  # `WorstCaseState`, if there is a worst case
    embedding: Any  # `EmbeddingState`, if there is an embedding
    mask: Mask | None = eqx.field(default=None, static=True)  # which actions the world allows; none: all


class DQN(Agent):
    """Q-learning with a replay and a target network.

    Loss of a batch: mean of `(Q(s, a) - y)^2` (or Huber), `y = r + discount * (1 - terminated) * max_a' Q'(s', a')`;
    double: `a'` is the online network's choice. n-step: `r` sums n discounted rewards (Sutton and Barto 2018, eq. 7.1).
    A time limit bootstraps, termination does not. With a `worst_case` the target is that of FedRDQN (Hwang and Hong
    2025), with an `embedding` the network is that of PerDQNAvg (Jin et al. 2022). Where the world allows but some
    actions, the others are neither taken nor part of a maximum.

    `shared` names what goes on the wire: the online network alone, or a dictionary of several parts.

    >>> from polyfed.environments import CartPole
    >>> DQN(hidden=(32, 32)).check(CartPole())
    """

    hidden: tuple[int, ...] = eqx.field(default=(64, 64), static=True)  # units per hidden layer
    activation: str = eqx.field(default="relu", static=True)  # relu, tanh or elu
    dueling: bool = eqx.field(default=False, static=True)  # value and advantage heads
    double: bool = eqx.field(default=False, static=True)  # the online network chooses the next action
    n_step: int = eqx.field(default=1, static=True)  # steps per target
    loss: str = eqx.field(default="mse", static=True)  # mse or huber
    learning_rate: float = 1e-3  # Adam's step size
    discount: float = 0.99  # 0 to 1
    max_grad_norm: float | None = 10.0  # bound on the global norm of a gradient; none: unbounded
    batch_size: int = eqx.field(default=64, static=True)  # transitions per gradient step
    replay_capacity: int = eqx.field(default=10_000, static=True)  # transitions
    learning_starts: int = 500  # local steps before the first gradient step
    updates_per_step: int = eqx.field(default=1, static=True)  # gradient steps per local step
    target_update: TargetUpdate = HardUpdate()
    exploration: Exploration = LinearDecay()
    survival: Survival = Survival()
    shared: tuple[str, ...] = eqx.field(default=("online",), static=True)  # of online, target, worst_case
    local_terms: tuple[Proximal, ...] = ()
    worst_case: WorstCase | None = None  # plan against the worst successor; none: the sampled one alone
    embedding: Embedding | None = None  # numbers of the client's own before every observation
    width: int | tuple[int, ...] | None = None  # units held of each hidden layer, messages `Nested`; none: all
    channels: tuple[int, ...] = eqx.field(default=(), static=True)  # of stages that halve an image; none: read flat

    @property
    def heeds_masks(self) -> bool:
        """Acting, exploring, targets and predictions do."""
        return True

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        _check_spaces(environment)
        one_of("agent.activation", self.activation, ACTIVATIONS)
        one_of("agent.loss", self.loss, LOSSES)
        if not self.hidden:
            raise ValueError("agent.hidden = () leaves no hidden layer: give at least one width, e.g. (64, 64).")
        for units in self.hidden:
            whole_in_range("agent.hidden", units, 1, 2**20, "units")
        in_range("agent.learning_rate", self.learning_rate, 0.0, 10.0)
        in_range("agent.discount", self.discount, 0.0, 1.0)
        if self.max_grad_norm is not None:
            in_range("agent.max_grad_norm", self.max_grad_norm, 1e-12, float("inf"))
        whole_in_range("agent.n_step", self.n_step, 1, 1000, "steps")
        whole_in_range("agent.batch_size", self.batch_size, 1, 2**20, "transitions")
        whole_in_range("agent.updates_per_step", self.updates_per_step, 1, 10_000)
        whole_in_range("agent.replay_capacity", self.replay_capacity, self.n_step, 2**31 - 1, "transitions")
        in_range("agent.learning_starts", self.learning_starts, self.n_step, 2**31 - 1, "local steps")
        if self.width is not None:
            in_range("agent.width", self.width, 1, min(self.hidden), "units")
        self.target_update.check()
        self.exploration.check()
        for part in (*self.local_terms, self.worst_case, self.embedding):
            if part is not None:
                part.check()
        check_channels(self.channels, environment)
        self._check_parts()

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> DQNState:
        """Fresh networks, an empty replay; online and target start equal."""
        space, actions = environment.observation_space, environment.action_space
        assert isinstance(space, Box)
        assert isinstance(actions, Discrete)
        network = DuelingMLP if self.dueling else MLP
        form: Any = {"hidden": self.hidden, "activation": self.activation}
        extra = 0 if self.embedding is None else self.embedding.size
        online = over_image(
            lambda size, key: network(size + extra, actions.n, key=key, **form),
            space,
            channels=self.channels,
            activation=self.activation,
            key=key,
        )
        worst: Any = ()
        if self.worst_case is not None:  # a key of its own: the other networks start as they do without it
            k_worst = jax.random.fold_in(key, 1)
            worst = self.worst_case.init(k_worst, space.size, optimizer=self._optimizer(), **form)
        zero = jnp.zeros((), jnp.int32)
        return DQNState(
            online=online,
            target=online,
            optimizer=self._optimizer().init(online),
            replay=Replay.empty(self.replay_capacity, num_envs, space.size, action_size=1),
            learn_steps=zero,
            explore_steps=zero,
            anchor=online if self.local_terms else (),
            worst_case=worst,
            embedding=() if self.embedding is None else self.embedding.init(),
            mask=mask_of(environment),
        )

    def settle(self, state: DQNState, key: PRNGKeyArray) -> DQNState:
        """An embedding of the client's own."""
        if self.embedding is None:
            return state
        return dataclasses.replace(state, embedding=self.embedding.drawn(key))

    def act(self, state: DQNState, observation: Float[Array, "E D"], key: PRNGKeyArray) -> Int[Array, " E"]:
        """Epsilon-greedy actions."""
        one = lambda x: self._values(state.online, x, self._vector(state))  # noqa: E731  a matrix times a vector needs no transposed weights
        values = jax.vmap(one)(observation)
        allowed = allowed_by(state.mask, observation)
        return epsilon_greedy(values, self.exploration(state.explore_steps), key, allowed)

    def policy(self, state: DQNState, observation: Float[Array, "N D"]) -> Int[Array, " N"]:
        """The action of highest value."""
        return jnp.argmax(self._allowed_values(state, state.online, observation), axis=-1).astype(jnp.int32)

    def predict(self, state: DQNState, observation: Float[Array, "M D"], params: Any = None) -> ActionValues:
        """The online network's action values, seen through the embedding; `FORBIDDEN` where they are not allowed."""
        online = state.online if params is None else params
        return ActionValues(self._allowed_values(state, online, observation))

    def student(self, state: DQNState) -> tuple[Any, Any]:
        """The online network and its optimizer; target, worst case and embedding imitate nobody."""
        return state.online, state.optimizer

    def taught(self, state: DQNState, params: Any, moments: Any) -> DQNState:
        """The learner with another online network."""
        return dataclasses.replace(state, online=params, optimizer=moments)

    def student_optimizer(self, state: DQNState) -> optax.GradientTransformation:
        """Adam, behind the clipping of gradients if there is one."""
        del state
        return self._optimizer()

    def learn(self, state: DQNState, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[DQNState, Metrics]:
        """Store the trajectory, then take `updates_per_step` gradient steps."""
        state = dataclasses.replace(
            state,
            replay=state.replay.add(trajectory),
            explore_steps=state.explore_steps + trajectory.reward.shape[0],
        )
        if self.updates_per_step == 1:
            return self._gradient_step(state, key)
        keys = jax.random.split(key, self.updates_per_step)
        state, metrics = jax.lax.scan(lambda s, k: self._gradient_step(s, k), state, keys)
        return state, jax.tree.map(jnp.mean, metrics)

    def share(self, state: DQNState) -> Payload:
        """The online network, with its width where clients differ in that, or the parts that `shared` names."""
        if self.width is not None:
            return Nested(state.online, jnp.asarray(self.width, jnp.int32))
        if self.shared == ("online",):
            return state.online
        worst = () if self.worst_case is None else state.worst_case.network
        parts = {"online": state.online, "target": state.target, "worst_case": worst}
        return {name: parts[name] for name in self.shared}

    def absorb(self, state: DQNState, broadcast: Payload) -> DQNState:
        """Take the broadcast as the shared parts; `survival` says what else stays. An embedding's vector does."""
        keep = self.survival
        parts = broadcast if self.shared != ("online",) else {"online": _network(broadcast)}
        online = parts["online"]
        return dataclasses.replace(
            state,
            online=online,
            target=parts.get("target", state.target if keep.target else online),
            optimizer=state.optimizer if keep.optimizer else self._optimizer().init(online),
            replay=state.replay
            if keep.replay
            else eqx.tree_at(lambda r: r.count, state.replay, replace_fn=jnp.zeros_like),
            explore_steps=state.explore_steps if keep.exploration else jnp.zeros_like(state.explore_steps),
            anchor=online if self.local_terms else (),
            worst_case=()
            if self.worst_case is None
            else self.worst_case.absorb(
                state.worst_case,
                parts.get("worst_case"),
                keep_optimizer=keep.optimizer,
                optimizer=self._optimizer(),
            ),
            embedding=state.embedding
            if self.embedding is None or keep.optimizer
            else self.embedding.at(state.embedding.vector),
        )

    def plain(self) -> DQN:
        """Without local terms, worst case and embedding."""
        shared = tuple(name for name in self.shared if name != "worst_case")
        return dataclasses.replace(self, local_terms=(), worst_case=None, embedding=None, shared=shared)

    def alone(self) -> DQN:
        """Target, moments, replay and exploration survive."""
        return dataclasses.replace(self, survival=Survival.everything())

    def newcomer(self) -> DQN:
        """Targets are made anew from what was sent."""
        return dataclasses.replace(self, survival=Survival.nothing())

    def pooled(self, num_clients: int) -> DQN:
        """Updates and replay of the whole fleet."""
        return dataclasses.replace(
            self,
            updates_per_step=self.updates_per_step * num_clients,
            replay_capacity=self.replay_capacity * num_clients,
        )

    def whole(self) -> DQN:
        """Every unit of the hidden layers."""
        return self if self.width is None else dataclasses.replace(self, width=jnp.int32(max(self.hidden)))

    def _vector(self, state: DQNState) -> Any:
        return () if self.embedding is None else state.embedding.vector

    def _values(self, network: Any, observation: Float[Array, "... D"], vector: Any) -> Float[Array, "... A"]:
        if self.embedding is not None:
            observation = embedded(vector, observation)
        return network(observation) if self.width is None else network(observation, self.width)

    def _allowed_values(self, state: DQNState, network: Any, observation: Float[Array, "N D"]) -> Float[Array, "N A"]:
        values = self._values(network, observation, self._vector(state))
        return masked(values, allowed_by(state.mask, observation))

    def _optimizer(self) -> optax.GradientTransformation:
        adam = optax.adam(self.learning_rate)
        return adam if self.max_grad_norm is None else optax.chain(optax.clip_by_global_norm(self.max_grad_norm), adam)

    def _gradient_step(self, state: DQNState, key: PRNGKeyArray) -> tuple[DQNState, Metrics]:
        """One gradient step, or none before `learning_starts`: a branch, so that weights are updated in place."""

        def learn() -> tuple[dict[str, Any], Metrics]:
            batch = state.replay.sample(key, self.batch_size, jnp.asarray(self.discount, jnp.float32), self.n_step)
            worst, future, said = self._future(state, batch)
            trained = (state.online, self._vector(state))
            gradient, metrics = jax.grad(self._loss, has_aux=True)(trained, state.anchor, batch, future)
            updates, optimizer = self._optimizer().update(gradient[0], state.optimizer, state.online)
            online, step = optax.apply_updates(state.online, updates), state.learn_steps + 1
            new = {
                "online": online,
                "target": self.target_update(online, state.target, step),
                "optimizer": optimizer,
                "learn_steps": step,
                "worst_case": worst,
                "embedding": () if self.embedding is None else self.embedding.step(state.embedding, gradient[1]),
            }
            return new, metrics | said

        def wait() -> tuple[dict[str, Any], Metrics]:
            names = ("loss", "value") if self.worst_case is None else ("loss", "value", "worst_case", "worst_case_loss")
            learned = ("online", "target", "optimizer", "learn_steps", "worst_case", "embedding")
            return {n: getattr(state, n) for n in learned}, {n: jnp.zeros((), jnp.float32) for n in names}

        new, metrics = jax.lax.cond(state.replay.count >= self.learning_starts, learn, wait)
        return dataclasses.replace(state, **new), metrics

    def _future(self, state: DQNState, batch: Batch) -> tuple[Any, Float[Array, " B"], Metrics]:
        """The worst case after its own step, what targets add to rewards, and what the worst case says of itself."""
        value = self._next_value(state, batch.next_observation)
        if self.worst_case is None:
            return (), batch.bootstrap * value, {}
        discount = jnp.asarray(self.discount, jnp.float32)
        new, worst, loss = self.worst_case.learn(
            state.worst_case, batch.observation, value, batch.bootstrap > 0, self._optimizer()
        )
        future = self.worst_case.future(value, worst, batch.bootstrap, discount)
        return new, future, {"worst_case": jnp.mean(worst), "worst_case_loss": loss}

    def _loss(self, trained: Any, anchor: Any, batch: Batch, future: Float[Array, " B"]) -> tuple[Array, Metrics]:
        online, vector = trained
        values = self._values(online, batch.observation, vector)
        action = batch.action[:, 0].astype(jnp.int32)
        chosen = jnp.sum(values * jax.nn.one_hot(action, values.shape[-1], dtype=values.dtype), axis=-1)
        loss = jnp.mean(LOSSES[self.loss](chosen - (batch.reward + future)))
        terms = sum((term(online, anchor) for term in self.local_terms), start=jnp.zeros((), loss.dtype))
        return loss + terms, {"loss": loss, "value": jnp.mean(chosen)}

    def _next_value(self, state: DQNState, observation: Float[Array, "B D"]) -> Float[Array, " B"]:
        values = self._allowed_values(state, state.target, observation)
        if not self.double:
            return jnp.max(values, axis=-1)
        best = jnp.argmax(self._allowed_values(state, state.online, observation), axis=-1)
        return jnp.take_along_axis(values, best[:, None], axis=-1)[:, 0]

    def _check_parts(self) -> None:
        """What is shared exists, and what a worst case needs holds."""
        check_shared(self.shared, PARTS, worst_case=self.worst_case, example=("online", "target"))
        if self.worst_case is not None and self.n_step != 1:
            raise ValueError(
                f"agent.n_step = {self.n_step} looks past the next state, but agent.worst_case is about the worst next "
                "state: use n_step = 1, or no worst_case."
            )
        vectors = {"width": self.width, "embedding": self.embedding, "worst_case": self.worst_case}
        for name, part in vectors.items():
            if self.channels and part is not None:
                raise ValueError(
                    f"agent.{name} is of networks that read vectors, but agent.channels = {self.channels} reads "
                    f"images: leave one of them out."
                )
        if self.width is not None and (self.shared != ("online",) or self.embedding is not None):
            raise ValueError(
                "agent.width shares nested online networks, but agent.shared or agent.embedding asks for more than "
                "that: leave width out, or them."
            )


def _network(broadcast: Payload) -> Any:
    return broadcast.network if isinstance(broadcast, Nested) else broadcast


def _check_spaces(environment: World) -> None:
    name = type(environment).__name__
    if not isinstance(environment, Environment):
        raise ValueError(
            f"DQN learns by acting, but {name} shows right answers and takes no actions: use a Classifier."
        )
    if not isinstance(environment.action_space, Discrete):
        raise ValueError(
            f"DQN chooses among a finite set of actions, but {name} takes continuous ones: "
            "use DDPG, or an environment with discrete actions, such as CartPole, Acrobot or MountainCar."
        )
    if not isinstance(environment.observation_space, Box):
        raise ValueError(f"DQN reads vectors, but {name} shows {environment.observation_space}: use a Box observation.")
