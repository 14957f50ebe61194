"""Deep deterministic policy gradients (Lillicrap et al. 2016); if asked, with what makes it TD3 (Fujimoto et al. 2018).

References: lillicrap2016ddpg, fujimoto2018td3, jin2022qavg, hwang2025fedrq.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.agents.action_bounds import check_bounds, scaled, unscaled
from polyfed.agents.actor_critic import (
    Critic,
    Embeddings,
    Learner,
    actor_loss,
    critic_loss,
    future_value,
    squashed,
    views,
)
from polyfed.agents.adam import adam
from polyfed.agents.agent import Agent
from polyfed.agents.embedding import Embedding
from polyfed.agents.local_terms import Proximal
from polyfed.agents.networks import ACTIVATIONS, MLP
from polyfed.agents.noise import GaussianNoise, Noise, TargetSmoothing
from polyfed.agents.replay import Batch, Replay
from polyfed.agents.shared import check_shared
from polyfed.agents.survival import Survival
from polyfed.agents.target import SoftUpdate, TargetUpdate
from polyfed.agents.worst_case import WorstCase
from polyfed.checks import in_range, one_of, whole_in_range
from polyfed.environments import Box, World
from polyfed.types import Metrics, Payload, Trajectory

PARTS = ("actor", "critic", "actor_target", "critic_target", "worst_case")


class DDPGState(eqx.Module):
    """What changes while a DDPG learns; see `DDPG`."""

    learner: Learner
    replay: Replay
    explore_steps: Int[Array, ""]  # local steps that exploration has seen
    noise: Any  # of the exploration, [E, A], if it remembers
    anchor: dict[str, Any]  # the last broadcast of actor and critic, if a local term needs it
    actions: Box = eqx.field(static=True)


class DDPG(Agent):
    """A deterministic actor `pi`, a critic `Q`, slowly following targets of both, and a replay.

    Critic: mean of `(Q(s, a) - y)^2`, `y = r + discount * (1 - terminated) * Q'(s', pi'(s'))`; actor: minus the mean of
    `Q(s, pi(s))`, after the critic's step (Lillicrap et al. 2016, algorithm 1). A time limit bootstraps, termination
    does not. Actions are `tanh`, stretched to the bounds of the environment; critics read them in [-1, 1], beside the
    observation. Actions are uniform until `learning_starts`.

    TD3 (Fujimoto et al. 2018, algorithm 1) is `DDPG.td3()`: `twin` takes the smaller of two critics' values in `y`,
    `policy_delay` moves actor and targets at every second step, `smoothing` adds noise to `pi'(s')`.

    With a `worst_case` the target is that of FedRDDPG (Hwang and Hong 2025), with an `embedding` actor and critics have
    those of PerDDPGAvg (Jin et al. 2022), each its own. What `shared` names is averaged; any other
    part stays at its client, and a target that stays is kept, or made anew from its network, as `survival.target` says.

    >>> from polyfed.environments import Pendulum
    >>> DDPG(hidden=(32, 32)).check(Pendulum())
    """

    hidden: tuple[int, ...] = eqx.field(default=(64, 64), static=True)  # units per hidden layer of every network
    activation: str = eqx.field(default="relu", static=True)  # relu, tanh or elu
    actor_learning_rate: float = 1e-3  # Adam's step size
    critic_learning_rate: float = 1e-3  # Adam's step size, of a worst case too
    discount: float = 0.99  # 0 to 1
    batch_size: int = eqx.field(default=64, static=True)  # transitions per gradient step
    replay_capacity: int = eqx.field(default=10_000, static=True)  # transitions
    learning_starts: int = 500  # local steps before the first gradient step; actions are uniform until then
    updates_per_step: int = eqx.field(default=1, static=True)  # gradient steps per local step
    target_update: TargetUpdate = SoftUpdate()
    noise: Noise = GaussianNoise()
    twin: bool = eqx.field(default=False, static=True)  # two critics, the smaller value counts
    policy_delay: int = eqx.field(default=1, static=True)  # critic steps per step of actor and targets
    smoothing: TargetSmoothing | None = None  # noise on the target action; none: as it is
    survival: Survival = Survival()
    shared: tuple[str, ...] = eqx.field(default=("actor", "critic"), static=True)  # of `PARTS`
    local_terms: tuple[Proximal, ...] = ()
    worst_case: WorstCase | None = None  # plan against the worst successor; none: the sampled one alone
    embedding: Embedding | None = None  # a client's own numbers, before what its actor and what its critics read

    @staticmethod
    def td3() -> DDPG:
        """Twin delayed DDPG (Fujimoto et al. 2018): twin critics, delay 2, smoothing of the target action.

        >>> DDPG.td3().policy_delay
        2
        """
        return DDPG(twin=True, policy_delay=2, smoothing=TargetSmoothing())

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        check_bounds("DDPG", environment)
        one_of("agent.activation", self.activation, ACTIVATIONS)
        if not self.hidden:
            raise ValueError("agent.hidden = () leaves no hidden layer: give at least one width, e.g. (64, 64).")
        for units in self.hidden:
            whole_in_range("agent.hidden", units, 1, 2**20, "units")
        in_range("agent.actor_learning_rate", self.actor_learning_rate, 0.0, 10.0)
        in_range("agent.critic_learning_rate", self.critic_learning_rate, 0.0, 10.0)
        in_range("agent.discount", self.discount, 0.0, 1.0)
        whole_in_range("agent.batch_size", self.batch_size, 1, 2**20, "transitions")
        whole_in_range("agent.replay_capacity", self.replay_capacity, 1, 2**31 - 1, "transitions")
        in_range("agent.learning_starts", self.learning_starts, 1, 2**31 - 1, "local steps")
        whole_in_range("agent.updates_per_step", self.updates_per_step, 1, 10_000)
        whole_in_range("agent.policy_delay", self.policy_delay, 1, 10_000, "critic steps")
        parts = (self.target_update, self.noise, self.smoothing, *self.local_terms, self.worst_case, self.embedding)
        for part in (part for part in parts if part is not None):
            part.check()
        check_shared(self.shared, PARTS, worst_case=self.worst_case, example=("actor", "critic"))

    def init(self, key: PRNGKeyArray, environment: World, num_envs: int) -> DDPGState:
        """Fresh networks, an empty replay; targets start equal to their networks."""
        seen, actions = environment.observation_space, environment.action_space
        assert isinstance(seen, Box)
        assert isinstance(actions, Box)
        form: Any = {"hidden": self.hidden, "activation": self.activation}
        size = seen.size + (0 if self.embedding is None else self.embedding.size)
        k_actor, k_critic = jax.random.split(key)
        actor = MLP(size, actions.size, key=k_actor, **form)
        keys = jax.random.split(k_critic, 2 if self.twin else 1)
        critic = tuple(MLP(size + actions.size, 1, key=k, **form) for k in keys)
        worst: Any = ()
        if self.worst_case is not None:  # a key of its own: the other networks start as they do without it
            worst = self.worst_case.init(
                jax.random.fold_in(key, 1), seen.size, optimizer=adam(self.critic_learning_rate), **form
            )
        zero = jnp.zeros((), jnp.int32)
        moments = adam(self.actor_learning_rate).init(actor), adam(self.critic_learning_rate).init(critic)
        begun: Any = () if self.embedding is None else Embeddings(self.embedding.init(), self.embedding.init())
        learner = Learner(actor, critic, actor, critic, worst, *moments, begun, zero)
        return DDPGState(
            learner=learner,
            replay=Replay.empty(self.replay_capacity, num_envs, seen.size, actions.size),
            explore_steps=zero,
            noise=self.noise.start((num_envs, actions.size), jax.random.fold_in(key, 2)),
            anchor=self._anchor(learner),
            actions=actions,
        )

    def settle(self, state: DDPGState, key: PRNGKeyArray) -> DDPGState:
        """Embeddings of the client's own."""
        if self.embedding is None:
            return state
        own = Embeddings(*(self.embedding.drawn(k) for k in jax.random.split(key)))
        return dataclasses.replace(state, learner=dataclasses.replace(state.learner, embedding=own))

    def act(self, state: DDPGState, observation: Float[Array, "E D"], key: PRNGKeyArray) -> Float[Array, "E A"]:
        """The policy's action with noise, clipped to the bounds; uniform actions at first."""
        k_uniform, k_noise = jax.random.split(key)
        one = lambda x: self._action(state.learner, x)  # noqa: E731  a matrix times a vector needs no transposed weights
        chosen = jax.vmap(one)(observation)
        noisy = jnp.clip(chosen + self.noise(state.noise, chosen.shape, k_noise), -1.0, 1.0)
        uniform = jax.random.uniform(k_uniform, chosen.shape, jnp.float32, -1.0, 1.0)
        return scaled(jnp.where(state.explore_steps < self.learning_starts, uniform, noisy), state.actions)

    def policy(self, state: DDPGState, observation: Float[Array, "N D"]) -> Float[Array, "N A"]:
        """The actor's action."""
        return scaled(self._action(state.learner, observation), state.actions)

    def learn(self, state: DDPGState, trajectory: Trajectory, key: PRNGKeyArray) -> tuple[DDPGState, Metrics]:
        """Store the trajectory, then take `updates_per_step` gradient steps."""
        ended = trajectory.terminated[-1] | trajectory.truncated[-1]
        state = dataclasses.replace(
            state,
            replay=state.replay.add(trajectory),
            explore_steps=state.explore_steps + trajectory.reward.shape[0],
            noise=self.noise.step(state.noise, ended, jax.random.fold_in(key, 1)),
        )
        if self.updates_per_step == 1:
            learner, metrics = self._gradient_step(state.learner, state, key)
        else:
            keys = jax.random.split(key, self.updates_per_step)
            step = lambda learner, k: self._gradient_step(learner, state, k)  # noqa: E731
            learner, metrics = jax.lax.scan(step, state.learner, keys)
            metrics = jax.tree.map(jnp.mean, metrics)
        return dataclasses.replace(state, learner=learner), metrics

    def share(self, state: DDPGState) -> Payload:
        """A dictionary of the parts that `shared` names."""
        learner = state.learner
        worst = () if self.worst_case is None else learner.worst_case.network
        return {name: worst if name == "worst_case" else getattr(learner, name) for name in self.shared}

    def absorb(self, state: DDPGState, broadcast: Payload) -> DDPGState:
        """Take the broadcast as the shared parts; `survival` says what else stays. An embedding's vector does."""
        keep, old = self.survival, state.learner
        actor, critic = broadcast["actor"], broadcast.get("critic", old.critic)
        rates = self.actor_learning_rate, self.critic_learning_rate
        fresh = [adam(rate).init(network) for rate, network in zip(rates, (actor, critic), strict=True)]
        worst = old.worst_case
        if self.worst_case is not None:
            given = broadcast.get("worst_case")
            worst = self.worst_case.absorb(worst, given, keep_optimizer=keep.optimizer, optimizer=adam(rates[1]))
        learner = dataclasses.replace(
            old,
            actor=actor,
            critic=critic,
            actor_target=broadcast.get("actor_target", old.actor_target if keep.target else actor),
            critic_target=broadcast.get("critic_target", old.critic_target if keep.target else critic),
            worst_case=worst,
            actor_optimizer=old.actor_optimizer if keep.optimizer else fresh[0],
            critic_optimizer=old.critic_optimizer if keep.optimizer else fresh[1],
            embedding=old.embedding if keep.optimizer or self.embedding is None else _restarted(self.embedding, old),
        )
        zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)  # noqa: E731
        empty = eqx.tree_at(lambda r: r.count, state.replay, replace_fn=jnp.zeros_like)
        return dataclasses.replace(
            state,
            learner=learner,
            replay=state.replay if keep.replay else empty,
            explore_steps=state.explore_steps if keep.exploration else zeros(state.explore_steps),
            noise=state.noise if keep.exploration else zeros(state.noise),
            anchor=self._anchor(learner),
        )

    def plain(self) -> DDPG:
        """Without local terms, worst case and embedding."""
        shared = tuple(name for name in self.shared if name != "worst_case")
        return dataclasses.replace(self, local_terms=(), worst_case=None, embedding=None, shared=shared)

    def alone(self) -> DDPG:
        """Targets, moments, replay and exploration survive."""
        return dataclasses.replace(self, survival=Survival.everything())

    def newcomer(self) -> DDPG:
        """Targets are made anew from what was sent."""
        return dataclasses.replace(self, survival=Survival.nothing())

    def pooled(self, num_clients: int) -> DDPG:
        """Updates and replay of the whole fleet."""
        return dataclasses.replace(
            self,
            updates_per_step=self.updates_per_step * num_clients,
            replay_capacity=self.replay_capacity * num_clients,
        )

    def _anchor(self, learner: Learner) -> dict[str, Any]:
        names = [name for name in ("actor", "critic") if name in self.shared and self.local_terms]
        return {name: getattr(learner, name) for name in names}

    def _terms(self, name: str, network: Any, state: DDPGState) -> Array:
        terms = self.local_terms if name in state.anchor else ()
        return sum((term(network, state.anchor[name]) for term in terms), start=jnp.zeros((), jnp.float32))

    def _gradient_step(self, learner: Learner, state: DDPGState, key: PRNGKeyArray) -> tuple[Learner, Metrics]:
        """One gradient step, or none before `learning_starts`: a branch, so that weights are updated in place."""

        def learn() -> tuple[Learner, Metrics]:
            batch = state.replay.sample(key, self.batch_size, jnp.asarray(self.discount, jnp.float32), 1)
            batch = dataclasses.replace(batch, action=unscaled(batch.action, state.actions))
            worst, future, said = self._future(learner, batch, jax.random.fold_in(key, 2))
            new, metrics = self._critic_step(learner, state, batch, batch.reward + future)
            new = dataclasses.replace(new, worst_case=worst, steps=learner.steps + 1)
            move = lambda: self._actor_step(new, state, batch)  # noqa: E731
            if self.policy_delay > 1:
                return jax.lax.cond(new.steps % self.policy_delay == 0, move, lambda: new), metrics | said
            return move(), metrics | said

        def wait() -> tuple[Learner, Metrics]:
            names = ("loss", "value") if self.worst_case is None else ("loss", "value", "worst_case", "worst_case_loss")
            return learner, {name: jnp.zeros((), jnp.float32) for name in names}

        return jax.lax.cond(state.replay.count >= self.learning_starts, learn, wait)

    def _future(self, learner: Learner, batch: Batch, key: PRNGKeyArray) -> tuple[Any, Float[Array, " B"], Metrics]:
        """The worst case after its own step, what targets add to rewards, and what the worst case says of itself."""
        noise = None if self.smoothing is None else self.smoothing(batch.action.shape, key)
        seen = views(learner.embedding, batch.next_observation)
        value = future_value(learner.actor_target, learner.critic_target, seen, noise)
        if self.worst_case is None:
            return (), batch.bootstrap * value, {}
        worst_state, worst, loss = self.worst_case.learn(
            learner.worst_case, batch.observation, value, batch.bootstrap > 0, adam(self.critic_learning_rate)
        )
        discount = jnp.asarray(self.discount, jnp.float32)
        future = self.worst_case.future(value, worst, batch.bootstrap, discount)
        return worst_state, future, {"worst_case": jnp.mean(worst), "worst_case_loss": loss}

    def _critic_step(
        self, learner: Learner, state: DDPGState, batch: Batch, target: Float[Array, " B"]
    ) -> tuple[Learner, Metrics]:
        """The critic's step towards `target`; the loss is summed over twins."""

        def loss(critic: Critic, embedding: Any) -> tuple[Float[Array, ""], Metrics]:
            seen = views(embedding, batch.observation)[1]
            error, value = critic_loss(critic, seen, batch.action, target)
            return error + self._terms("critic", critic, state), {"loss": error, "value": value}

        differentiate = jax.grad(loss, argnums=(0, 1), has_aux=True, allow_int=True)
        (gradient, of_embedding), metrics = differentiate(learner.critic, learner.embedding)
        updates, moments = adam(self.critic_learning_rate).update(gradient, learner.critic_optimizer)
        critic = optax.apply_updates(learner.critic, updates)
        embedding = self._embedding_step(learner.embedding, "critic", of_embedding)
        return dataclasses.replace(learner, critic=critic, critic_optimizer=moments, embedding=embedding), metrics

    def _actor_step(self, learner: Learner, state: DDPGState, batch: Batch) -> Learner:
        """The actor's step up the first critic, then both targets'."""

        def loss(actor: MLP, embedding: Any) -> Float[Array, ""]:
            seen = views(embedding, batch.observation)
            return actor_loss(actor, learner.critic, seen) + self._terms("actor", actor, state)

        differentiate = jax.grad(loss, argnums=(0, 1), allow_int=True)
        gradient, of_embedding = differentiate(learner.actor, learner.embedding)
        updates, moments = adam(self.actor_learning_rate).update(gradient, learner.actor_optimizer)
        actor = optax.apply_updates(learner.actor, updates)
        follow = lambda network, target: self.target_update(network, target, learner.steps)  # noqa: E731
        return dataclasses.replace(
            learner,
            actor=actor,
            actor_optimizer=moments,
            actor_target=follow(actor, learner.actor_target),
            critic_target=follow(learner.critic, learner.critic_target),
            embedding=self._embedding_step(learner.embedding, "actor", of_embedding),
        )

    def _embedding_step(self, old: Any, name: str, gradient: Any) -> Any:
        """The embeddings after a step of the actor's or the critic's own."""
        if self.embedding is None:
            return ()
        new = self.embedding.step(getattr(old, name), getattr(gradient, name).vector)
        return dataclasses.replace(old, **{name: new})

    def _action(self, learner: Learner, observation: Float[Array, "*batch D"]) -> Float[Array, "*batch A"]:
        return squashed(learner.actor, views(learner.embedding, observation)[0])


def _restarted(embedding: Embedding, learner: Learner) -> Embeddings:
    """The same vectors with moments at zero."""
    own = learner.embedding
    return Embeddings(embedding.at(own.actor.vector), embedding.at(own.critic.vector))
