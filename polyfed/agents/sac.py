"""Soft actor-critic with twin critics; its temperature is learned, or fixed (Haarnoja et al. 2018, arXiv 1812.05905).

References: haarnoja2018sac.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.agents.action_bounds import check_bounds, scaled, unscaled
from polyfed.agents.actor_critic import Critic, critic_loss
from polyfed.agents.adam import adam
from polyfed.agents.agent import Agent
from polyfed.agents.local_terms import Proximal
from polyfed.agents.networks import ACTIVATIONS, MLP
from polyfed.agents.replay import Batch, Replay
from polyfed.agents.shared import check_shared
from polyfed.agents.soft_actor_critic import SoftLearner, gaussians, soft_value, squashed_sample, temperature_loss
from polyfed.agents.survival import Survival
from polyfed.agents.target import SoftUpdate, TargetUpdate
from polyfed.checks import in_range, one_of, whole_in_range
from polyfed.environments import Box, World
from polyfed.types import Gaussians, Metrics, Payload, Trajectory

PARTS = ("actor", "critic", "critic_target", "temperature")


class SACState(eqx.Module):
    """What changes while a SAC learns; see `SAC`."""

    learner: SoftLearner
    replay: Replay
    explore_steps: Int[Array, ""]  # local steps that exploration has seen
    anchor: dict[str, Any]  # the last broadcast of actor and critic, if a local term needs it
    actions: Box = eqx.field(static=True)


class SAC(Agent):
    """A stochastic actor `pi`, two critics `Q_i` with slowly following targets, and a replay.

    Critics: mean of `(Q_i(s, a) - y)^2`, `y = r + discount * (1 - terminated) * (min_i Q'_i(s', a') - t log pi(a'|s'))`
    with `a'` drawn from the policy and `t` the temperature (eq. 3 and 5 of arXiv 1812.05905); actor: mean of
    `t log pi(a|s) - min_i Q_i(s, a)` (eq. 9); temperature: mean of `-t (log pi(a|s) + target_entropy)` (eq. 18), which
    begins at 1. There is no network of state values. A time limit bootstraps, termination does not.

    An action is a normal draw, squashed by `tanh` and stretched to the bounds of the environment; entropies are of the
    action in [-1, 1]. Actions are uniform until `learning_starts`. The greedy action is that of the mean.

    What `shared` names is averaged, of a temperature the logarithm; any other part stays at its client, and targets
    that stay are kept, or made anew from the critics, as `survival.target` says.

    >>> from polyfed.environments import Pendulum
    >>> SAC(hidden=(32, 32)).check(Pendulum())
    """

    hidden: tuple[int, ...] = eqx.field(default=(64, 64), static=True)  # units per hidden layer of every network
    activation: str = eqx.field(default="relu", static=True)  # relu, tanh or elu
    actor_learning_rate: float = 1e-3  # Adam's step size
    critic_learning_rate: float = 1e-3  # Adam's step size
    temperature_learning_rate: float = 1e-3  # Adam's step size, of the logarithm
    temperature: float | None = None  # reward per nat of entropy; none: learned
    target_entropy: float | None = None  # nats, of a learned temperature; none: minus the number of an action's entries
    discount: float = 0.99  # 0 to 1
    batch_size: int = eqx.field(default=64, static=True)  # transitions per gradient step
    replay_capacity: int = eqx.field(default=10_000, static=True)  # transitions
    learning_starts: int = 500  # local steps before the first gradient step; actions are uniform until then
    updates_per_step: int = eqx.field(default=1, static=True)  # gradient steps per local step
    target_update: TargetUpdate = SoftUpdate()
    survival: Survival = Survival()
    shared: tuple[str, ...] = eqx.field(default=("actor", "critic"), static=True)  # of `PARTS`
    local_terms: tuple[Proximal, ...] = ()

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        check_bounds("SAC", environment)
        one_of("agent.activation", self.activation, ACTIVATIONS)
        if not self.hidden:
            raise ValueError("agent.hidden = () leaves no hidden layer: give at least one width, e.g. (64, 64).")
        for units in self.hidden:
            whole_in_range("agent.hidden", units, 1, 2**20, "units")
        for name in ("actor", "critic", "temperature"):
            in_range(f"agent.{name}_learning_rate", getattr(self, f"{name}_learning_rate"), 0.0, 10.0)
        in_range("agent.discount", self.discount, 0.0, 1.0)
        whole_in_range("agent.batch_size", self.batch_size, 1, 2**20, "transitions")
        whole_in_range("agent.replay_capacity", self.replay_capacity, 1, 2**31 - 1, "transitions")
        in_range("agent.learning_starts", self.learning_starts, 1, 2**31 - 1, "local steps")
        whole_in_range("agent.updates_per_step", self.updates_per_step, 1, 10_000)
        for part in (self.target_update, *self.local_terms):
            part.check()
        check_shared(self.shared, PARTS, worst_case=None, example=("actor", "critic"))
        assert isinstance(environment.action_space, Box)
        self._check_temperature(environment.action_space.size)

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> SACState:
        """Fresh networks, an empty replay; targets start equal to their networks."""
        seen, actions = environment.observation_space, environment.action_space
        assert isinstance(seen, Box)
        assert isinstance(actions, Box)
        form: Any = {"hidden": self.hidden, "activation": self.activation}
        k_actor, k_critic = jax.random.split(key)
        actor = MLP(seen.size, 2 * actions.size, key=k_actor, **form)
        critic = tuple(MLP(seen.size + actions.size, 1, key=k, **form) for k in jax.random.split(k_critic))
        log_temperature: Any = jnp.zeros(()) if self.temperature is None else ()
        moments, zero = self._moments(actor, critic, log_temperature), jnp.zeros((), jnp.int32)
        learner = SoftLearner(actor, critic, critic, log_temperature, *moments, zero)
        return SACState(
            learner=learner,
            replay=Replay.empty(self.replay_capacity, num_envs, seen.size, actions.size),
            explore_steps=zero,
            anchor=self._anchor(learner),
            actions=actions,
        )

    def act(self, state: SACState, observation: Float[Array, "E D"], key: PRNGKeyArray) -> Float[Array, "E A"]:
        """A draw from the policy; uniform actions at first."""
        k_uniform, k_noise = jax.random.split(key)
        one = lambda x: gaussians(state.learner.actor, x)  # noqa: E731  a matrix times a vector needs no transposed weights
        policy = jax.vmap(one)(observation)
        drawn, _ = squashed_sample(policy, jax.random.normal(k_noise, policy.mean.shape, jnp.float32))
        uniform = jax.random.uniform(k_uniform, drawn.shape, jnp.float32, -1.0, 1.0)
        return scaled(jnp.where(state.explore_steps < self.learning_starts, uniform, drawn), state.actions)

    def policy(self, state: SACState, observation: Float[Array, "N D"]) -> Float[Array, "N A"]:
        """The action of the mean, `tanh(mean)`, stretched to the bounds."""
        return scaled(jnp.tanh(gaussians(state.learner.actor, observation).mean), state.actions)

    def predict(self, state: SACState, observation: Float[Array, "M D"], params: Any = None) -> Gaussians:
        """The normal distributions of actions before their squashing and stretching: `a = scaled(tanh(u))`.

        Divergences between two such policies are those of their normal distributions: both are squashed alike.
        """
        return gaussians(state.learner.actor if params is None else params, observation)

    def student(self, state: SACState) -> tuple[Any, Any]:
        """The actor and its Adam; critics and temperature imitate nobody."""
        return state.learner.actor, state.learner.actor_optimizer

    def taught(self, state: SACState, params: Any, moments: Any) -> SACState:
        """The learner with another actor."""
        learner = dataclasses.replace(state.learner, actor=params, actor_optimizer=moments)
        return dataclasses.replace(state, learner=learner)

    def student_optimizer(self, state: SACState) -> optax.GradientTransformation:
        """The actor's Adam."""
        del state
        return adam(self.actor_learning_rate)

    def learn(self, state: SACState, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[SACState, Metrics]:
        """Store the trajectory, then take `updates_per_step` gradient steps."""
        explored = state.explore_steps + trajectory.reward.shape[0]
        state = dataclasses.replace(state, replay=state.replay.add(trajectory), explore_steps=explored)
        if self.updates_per_step == 1:
            learner, metrics = self._gradient_step(state.learner, state, key)
        else:
            keys = jax.random.split(key, self.updates_per_step)
            step = lambda learner, k: self._gradient_step(learner, state, k)  # noqa: E731
            learner, metrics = jax.lax.scan(step, state.learner, keys)
            metrics = jax.tree.map(jnp.mean, metrics)
        return dataclasses.replace(state, learner=learner), metrics

    def share(self, state: SACState) -> Payload:
        """A dictionary of the parts that `shared` names; `temperature` is its logarithm."""
        return {n: getattr(state.learner, "log_temperature" if n == "temperature" else n) for n in self.shared}

    def absorb(self, state: SACState, broadcast: Payload) -> SACState:
        """Take the broadcast as the shared parts; `survival` says what else stays. A temperature of its own does."""
        keep, old = self.survival, state.learner
        actor, critic = broadcast["actor"], broadcast.get("critic", old.critic)
        log_temperature = broadcast.get("temperature", old.log_temperature)
        kept = old.actor_optimizer, old.critic_optimizer, old.temperature_optimizer
        moments = kept if keep.optimizer else self._moments(actor, critic, log_temperature)
        target = broadcast.get("critic_target", old.critic_target if keep.target else critic)
        learner = SoftLearner(actor, critic, target, log_temperature, *moments, old.steps)
        empty = eqx.tree_at(lambda r: r.count, state.replay, replace_fn=jnp.zeros_like)
        return dataclasses.replace(
            state,
            learner=learner,
            replay=state.replay if keep.replay else empty,
            explore_steps=state.explore_steps if keep.exploration else jnp.zeros_like(state.explore_steps),
            anchor=self._anchor(learner),
        )

    def plain(self) -> SAC:
        """Without local terms."""
        return dataclasses.replace(self, local_terms=())

    def alone(self) -> SAC:
        """Targets, moments, replay and exploration survive."""
        return dataclasses.replace(self, survival=Survival.everything())

    def newcomer(self) -> SAC:
        """Targets are made anew from what was sent."""
        return dataclasses.replace(self, survival=Survival.nothing())

    def pooled(self, num_clients: int) -> SAC:
        """Updates and replay of the whole fleet."""
        updates, capacity = self.updates_per_step * num_clients, self.replay_capacity * num_clients
        return dataclasses.replace(self, updates_per_step=updates, replay_capacity=capacity)

    def _check_temperature(self, action_size: int) -> None:
        """A fixed temperature has no target and is not sent; no policy has more entropy than the uniform one."""
        if self.target_entropy is not None:
            in_range("agent.target_entropy", self.target_entropy, -1e6, action_size * math.log(2), "nats")
        if self.temperature is None:
            return
        in_range("agent.temperature", self.temperature, 0.0, 1e6)
        if self.target_entropy is not None:
            raise ValueError(
                f"agent.target_entropy = {self.target_entropy} is what a learned temperature aims at, but "
                f"agent.temperature = {self.temperature} is fixed: leave one of them out."
            )
        if "temperature" in self.shared:
            raise ValueError(
                f"agent.shared names temperature, but agent.temperature = {self.temperature} is fixed, so there is "
                "nothing to send: leave it out of agent.shared, or leave agent.temperature out and it is learned."
            )

    def _moments(self, actor: MLP, critic: Critic, log_temperature: Any) -> tuple[Any, Any, Any]:
        """Adam's, at zero, of actor, critics and temperature."""
        of_temperature = () if self.temperature is not None else adam(0.0).init(log_temperature)
        return adam(0.0).init(actor), adam(0.0).init(critic), of_temperature

    def _anchor(self, learner: SoftLearner) -> dict[str, Any]:
        names = [name for name in ("actor", "critic") if name in self.shared and self.local_terms]
        return {name: getattr(learner, name) for name in names}

    def _terms(self, name: str, network: Any, state: SACState) -> Array:
        terms = self.local_terms if name in state.anchor else ()
        return sum((term(network, state.anchor[name]) for term in terms), start=jnp.zeros((), jnp.float32))

    def _temperature(self, learner: SoftLearner) -> Float[Array, ""]:
        return (
            jnp.exp(learner.log_temperature) if self.temperature is None else jnp.asarray(self.temperature, jnp.float32)
        )

    def _gradient_step(self, learner: SoftLearner, state: SACState, key: PRNGKeyArray) -> tuple[SoftLearner, Metrics]:
        """One gradient step, or none before `learning_starts`: a branch, so that weights are updated in place."""

        def learn() -> tuple[SoftLearner, Metrics]:
            k_batch, k_next, k_now = jax.random.split(key, 3)
            batch = state.replay.sample(k_batch, self.batch_size, jnp.asarray(self.discount, jnp.float32), 1)
            batch = dataclasses.replace(batch, action=unscaled(batch.action, state.actions))
            noise = [jax.random.normal(k, batch.action.shape, jnp.float32) for k in (k_next, k_now)]
            new, metrics = self._critic_step(learner, state, batch, noise[0])
            new, entropy = self._actor_step(new, state, batch, noise[1])
            said = {"entropy": entropy, "temperature": self._temperature(learner)}
            new = self._temperature_step(new, entropy, batch.action.shape[1])
            target = self.target_update(new.critic, new.critic_target, learner.steps + 1)
            return dataclasses.replace(new, critic_target=target, steps=learner.steps + 1), metrics | said

        def wait() -> tuple[SoftLearner, Metrics]:
            return learner, {n: jnp.zeros((), jnp.float32) for n in ("loss", "value", "entropy", "temperature")}

        return jax.lax.cond(state.replay.count >= self.learning_starts, learn, wait)

    def _critic_step(
        self, learner: SoftLearner, state: SACState, batch: Batch, noise: Float[Array, "B A"]
    ) -> tuple[SoftLearner, Metrics]:
        """The critics' step towards their common target; the loss is summed over both."""
        warmth = self._temperature(learner)
        future, _ = soft_value(learner.actor, learner.critic_target, batch.next_observation, noise, warmth)
        target = batch.reward + batch.bootstrap * future

        def loss(critic: Critic) -> tuple[Float[Array, ""], Metrics]:
            error, value = critic_loss(critic, batch.observation, batch.action, target)
            return error + self._terms("critic", critic, state), {"loss": error, "value": value}

        gradient, metrics = jax.grad(loss, has_aux=True)(learner.critic)
        updates, moments = adam(self.critic_learning_rate).update(gradient, learner.critic_optimizer)
        critic = optax.apply_updates(learner.critic, updates)
        return dataclasses.replace(learner, critic=critic, critic_optimizer=moments), metrics

    def _actor_step(
        self, learner: SoftLearner, state: SACState, batch: Batch, noise: Float[Array, "B A"]
    ) -> tuple[SoftLearner, Float[Array, ""]]:
        """The actor's step up the soft value, and the entropy that it had before."""
        warmth = self._temperature(learner)

        def loss(actor: MLP) -> tuple[Float[Array, ""], Float[Array, ""]]:
            value, log_prob = soft_value(actor, learner.critic, batch.observation, noise, warmth)
            return -jnp.mean(value) + self._terms("actor", actor, state), -jnp.mean(log_prob)

        gradient, entropy = jax.grad(loss, has_aux=True)(learner.actor)
        updates, moments = adam(self.actor_learning_rate).update(gradient, learner.actor_optimizer)
        actor = optax.apply_updates(learner.actor, updates)
        return dataclasses.replace(learner, actor=actor, actor_optimizer=moments), entropy

    def _temperature_step(self, learner: SoftLearner, entropy: Float[Array, ""], action_size: int) -> SoftLearner:
        """The temperature's step towards the target entropy, unless it is fixed."""
        if self.temperature is not None:
            return learner
        wanted = -float(action_size) if self.target_entropy is None else self.target_entropy
        gradient = jax.grad(temperature_loss)(learner.log_temperature, entropy, wanted)
        update, moments = adam(self.temperature_learning_rate).update(gradient, learner.temperature_optimizer)
        log_temperature = learner.log_temperature + update
        return dataclasses.replace(learner, log_temperature=log_temperature, temperature_optimizer=moments)
