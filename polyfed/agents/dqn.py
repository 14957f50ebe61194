"""Deep Q-learning (Mnih et al. 2015); if asked, double (van Hasselt 2016), dueling (Wang et al. 2016), n-step."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.agents.agent import Agent
from polyfed.agents.exploration import Exploration, LinearDecay, epsilon_greedy
from polyfed.agents.local_terms import Proximal
from polyfed.agents.networks import ACTIVATIONS, MLP, DuelingMLP
from polyfed.agents.replay import Batch, Replay
from polyfed.agents.survival import Survival
from polyfed.agents.target import HardUpdate, TargetUpdate
from polyfed.checks import in_range, one_of, whole_in_range
from polyfed.environments import Box, Discrete, Environment, World
from polyfed.types import Metrics, Nested, Payload, Trajectory

LOSSES = {"mse": lambda error: error**2, "huber": lambda error: optax.huber_loss(error)}


class DQNState(eqx.Module):
    """What changes while a DQN learns; see `DQN`."""

    online: Any
    target: Any
    optimizer: Any
    replay: Replay
    learn_steps: Int[Array, ""]  # gradient steps taken
    explore_steps: Int[Array, ""]  # local steps that the exploration schedule has seen
    anchor: Any  # the last broadcast, if a local term needs it


class DQN(Agent):
    """Q-learning with a replay and a target network.

    Loss of a batch: mean of `(Q(s, a) - y)^2` (or Huber), `y = r + discount * (1 - terminated) * max_a' Q'(s', a')`;
    double: `a'` is the online network's choice. n-step: `r` sums n discounted rewards (Sutton and Barto 2018, eq. 7.1).
    A time limit bootstraps, termination does not.

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
    local_terms: tuple[Proximal, ...] = ()
    width: int | tuple[int, ...] | None = None  # units held of each hidden layer, messages `Nested`; none: all

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
        for term in self.local_terms:
            term.check()

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> DQNState:
        """Fresh networks, an empty replay; online and target start equal."""
        space, actions = environment.observation_space, environment.action_space
        assert isinstance(space, Box)
        assert isinstance(actions, Discrete)
        network = DuelingMLP if self.dueling else MLP
        online = network(space.size, actions.n, hidden=self.hidden, activation=self.activation, key=key)
        zero = jnp.zeros((), jnp.int32)
        return DQNState(
            online=online,
            target=online,
            optimizer=self._optimizer().init(online),
            replay=Replay.empty(self.replay_capacity, num_envs, space.size, action_size=1),
            learn_steps=zero,
            explore_steps=zero,
            anchor=online if self.local_terms else (),
        )

    def act(self, state: DQNState, observation: Float[Array, "E D"], key: PRNGKeyArray) -> Int[Array, " E"]:
        """Epsilon-greedy actions."""
        one = lambda x: self._values(state.online, x)  # noqa: E731  a matrix times a vector needs no transposed weights
        values = jax.vmap(one)(observation)
        return epsilon_greedy(values, self.exploration(state.explore_steps), key)

    def policy(self, state: DQNState, observation: Float[Array, "N D"]) -> Int[Array, " N"]:
        """The action of highest value."""
        return jnp.argmax(self._values(state.online, observation), axis=-1).astype(jnp.int32)

    def learn(self, state: DQNState, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[DQNState, Metrics]:
        """Store the trajectory, then take `updates_per_step` gradient steps."""
        state = DQNState(
            online=state.online,
            target=state.target,
            optimizer=state.optimizer,
            replay=state.replay.add(trajectory),
            learn_steps=state.learn_steps,
            explore_steps=state.explore_steps + trajectory.reward.shape[0],
            anchor=state.anchor,
        )
        if self.updates_per_step == 1:
            return self._gradient_step(state, key)
        keys = jax.random.split(key, self.updates_per_step)
        state, metrics = jax.lax.scan(lambda s, k: self._gradient_step(s, k), state, keys)
        return state, jax.tree.map(jnp.mean, metrics)

    def share(self, state: DQNState) -> Payload:
        """The online network, with its width where clients differ in that."""
        return state.online if self.width is None else Nested(state.online, jnp.asarray(self.width, jnp.int32))

    def absorb(self, state: DQNState, broadcast: Payload) -> DQNState:
        """Take the broadcast as the online network; `survival` says what else stays."""
        keep = self.survival
        broadcast = broadcast if self.width is None else broadcast.network
        return DQNState(
            online=broadcast,
            target=state.target if keep.target else broadcast,
            optimizer=state.optimizer if keep.optimizer else self._optimizer().init(broadcast),
            replay=state.replay
            if keep.replay
            else eqx.tree_at(lambda r: r.count, state.replay, replace_fn=jnp.zeros_like),
            learn_steps=state.learn_steps,
            explore_steps=state.explore_steps if keep.exploration else jnp.zeros_like(state.explore_steps),
            anchor=broadcast if self.local_terms else (),
        )

    def alone(self) -> DQN:
        """Target, moments, replay and exploration survive."""
        return dataclasses.replace(self, survival=Survival.everything())

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

    def _values(self, network: Any, observation: Float[Array, "... D"]) -> Float[Array, "... A"]:
        return network(observation) if self.width is None else network(observation, self.width)

    def _optimizer(self) -> optax.GradientTransformation:
        adam = optax.adam(self.learning_rate)
        return adam if self.max_grad_norm is None else optax.chain(optax.clip_by_global_norm(self.max_grad_norm), adam)

    def _gradient_step(self, state: DQNState, key: PRNGKeyArray) -> tuple[DQNState, Metrics]:
        """One gradient step, or none before `learning_starts`: a branch, so that weights are updated in place."""

        def learn() -> tuple[Any, Metrics]:
            batch = state.replay.sample(key, self.batch_size, jnp.asarray(self.discount, jnp.float32), self.n_step)
            (_, metrics), gradient = jax.value_and_grad(self._loss, has_aux=True)(state.online, state, batch)
            updates, optimizer = self._optimizer().update(gradient, state.optimizer, state.online)
            online, step = optax.apply_updates(state.online, updates), state.learn_steps + 1
            return (online, self.target_update(online, state.target, step), optimizer, step), metrics

        def wait() -> tuple[Any, Metrics]:
            zero = jnp.zeros((), jnp.float32)
            return (state.online, state.target, state.optimizer, state.learn_steps), {"loss": zero, "value": zero}

        ready = state.replay.count >= self.learning_starts
        (online, target, optimizer, step), metrics = jax.lax.cond(ready, learn, wait)
        return DQNState(online, target, optimizer, state.replay, step, state.explore_steps, state.anchor), metrics

    def _loss(self, online: Any, state: DQNState, batch: Batch) -> tuple[Float[Array, ""], Metrics]:
        values = self._values(online, batch.observation)
        action = batch.action[:, 0].astype(jnp.int32)
        chosen = jnp.sum(values * jax.nn.one_hot(action, values.shape[-1], dtype=values.dtype), axis=-1)
        target = batch.reward + batch.bootstrap * self._next_value(online, state.target, batch.next_observation)
        loss = jnp.mean(LOSSES[self.loss](chosen - jax.lax.stop_gradient(target)))
        terms = sum((term(online, state.anchor) for term in self.local_terms), start=jnp.zeros((), loss.dtype))
        return loss + terms, {"loss": loss, "value": jnp.mean(chosen)}

    def _next_value(self, online: Any, target: Any, observation: Float[Array, "B D"]) -> Float[Array, " B"]:
        values = self._values(target, observation)
        if not self.double:
            return jnp.max(values, axis=-1)
        best = jnp.argmax(self._values(online, observation), axis=-1)
        return jnp.take_along_axis(values, best[:, None], axis=-1)[:, 0]


def _check_spaces(environment: World) -> None:
    name = type(environment).__name__
    if not isinstance(environment, Environment):
        raise ValueError(
            f"DQN learns by acting, but {name} shows right answers and takes no actions: use a Classifier."
        )
    if not isinstance(environment.action_space, Discrete):
        raise ValueError(
            f"DQN chooses among a finite set of actions, but {name} takes continuous ones: "
            "use an environment with discrete actions, such as CartPole, Acrobot or MountainCar."
        )
    if not isinstance(environment.observation_space, Box):
        raise ValueError(f"DQN reads vectors, but {name} shows {environment.observation_space}: use a Box observation.")
