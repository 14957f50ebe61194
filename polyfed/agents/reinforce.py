"""REINFORCE (Williams 1992) with one update per whole episode, as the agents of FedHPD learn (Jiang et al. 2025).

References: williams1992reinforce, jiang2025fedhpd, loshchilov2019adamw.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.agents.adam import adam
from polyfed.agents.masking import allowed_by, masked
from polyfed.agents.observation_statistics import ObservationStatistics, with_more
from polyfed.agents.policy_gradient import Penalty, PolicyGradient, PolicyState
from polyfed.agents.returns import lived, returns_to_go, standardised
from polyfed.checks import in_range
from polyfed.environments import World
from polyfed.environments.remembered import taken
from polyfed.types import Metrics, Trajectory

CHUNK = 64  # steps whose gradient is taken at once


class REINFORCE(PolicyGradient):
    """Monte-Carlo policy gradient, one step of Adam per episode.

    Loss: `-sum_t log pi(a_t|s_t) G_t`, a sum and no mean over the steps, with `G_t = sum_{j >= t} discount^(j-t) r_j`,
    standardised over the episode if `normalize`; an episode of one step then teaches nothing. Of a vector of actions
    `log pi` is the mean over its entries, as released. Step size: `learning_rate decay^(updates // decay_every)`. The
    clock's end counts like the MDP's: there is no value to stand for the rest. Of several environments, the loss is
    the mean over their episodes.

    The defaults are those of FedHPD for choices; for vectors see `REINFORCE.continuous()`.

    >>> from polyfed.environments import CartPole
    >>> REINFORCE(hidden=(8, 8, 8)).check(CartPole())
    """

    parts: ClassVar[tuple[str, ...]] = ("policy", "statistics")
    stretched: ClassVar[bool] = False
    last: ClassVar[float] = 1.0

    hidden: tuple[int, ...] = eqx.field(default=(128,), static=True)  # units per hidden layer
    activation: str | tuple[str, ...] = eqx.field(default="relu", static=True)  # of all hidden layers, or of each
    scale: str = eqx.field(default="network", static=True)  # of normal policies: a head of the network, or a parameter
    learning_rate: float = 1e-3  # Adam's step size at the start
    decay: float = 0.95  # factor on the step size every `decay_every` updates, 1: none
    decay_every: int = 100  # updates
    weight_decay: float | None = None  # share of the weights that a step of size 1 takes away (AdamW); none: Adam
    discount: float = 0.99  # 0 to 1
    normalize: bool = eqx.field(default=True, static=True)  # standardise the returns of an episode
    keep_optimizer: bool = eqx.field(default=True, static=True)  # Adam's moments survive a merge
    shared: tuple[str, ...] = eqx.field(default=("policy",), static=True)  # of policy, statistics
    statistics: ObservationStatistics | None = None  # standardise observations; none: as they come
    channels: tuple[int, ...] = eqx.field(default=(), static=True)  # of stages that halve an image; none: read flat
    memory: int = eqx.field(default=0, static=True)  # units of a GRU before the hidden layers, of each network; 0: none

    @staticmethod
    def continuous() -> REINFORCE:
        """FedHPD's for vectors of actions: AdamW, returns as they are, and no schedule (Jiang et al. 2025).

        >>> REINFORCE.continuous().normalize
        False
        """
        return REINFORCE(
            hidden=(64, 64), activation="tanh", learning_rate=8e-5, decay=1.0, weight_decay=0.01, normalize=False
        )

    @property
    def episodic(self) -> bool:
        """A local step is a whole episode."""
        return True

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        self.check_policy(environment)
        in_range("agent.learning_rate", self.learning_rate, 0.0, 10.0)
        in_range("agent.decay", self.decay, 0.0, 1.0)
        in_range("agent.decay_every", self.decay_every, 1, 2**31 - 1, "updates")
        if self.weight_decay is not None:
            in_range("agent.weight_decay", self.weight_decay, 0.0, 1.0)

    def learn(
        self, state: PolicyState, trajectory: Trajectory, key: PRNGKeyArray, *, penalty: Penalty | None = None
    ) -> tuple[PolicyState, Metrics]:
        """One gradient step on one episode of each environment; `penalty` is added to the loss."""
        del key
        trajectory = taken(trajectory)
        valid = lived(trajectory.terminated | trajectory.truncated)
        gain = returns_to_go(trajectory.reward, self.discount)
        if self.normalize:
            gain = standardised(gain, valid, axis=0)
        gradient, metrics = self._gradient(state, trajectory, jnp.where(valid, gain, 0.0), valid, penalty)
        updates, optimizer = self.student_optimizer(state).update(gradient, state.optimizer, state.policy)
        statistics = state.statistics
        if self.statistics is not None:
            statistics = with_more(statistics, trajectory.observation, valid)
        new = dataclasses.replace(
            state,
            policy=optax.apply_updates(state.policy, updates),
            optimizer=optimizer,
            statistics=statistics,
            updates=state.updates + 1,
        )
        return new, metrics

    def pooled(self, num_clients: int) -> REINFORCE:
        """As many updates as one client takes, each on the mean over the episodes of all worlds."""
        del num_clients
        return self

    def student_optimizer(self, state: PolicyState) -> optax.GradientTransformation:
        """Adam, or AdamW, at the step size of now."""
        rate = self.learning_rate * jnp.asarray(self.decay, jnp.float32) ** (state.updates // self.decay_every)
        if self.weight_decay is None:
            return adam(rate)
        return optax.chain(adam(rate), optax.add_decayed_weights(-rate * self.weight_decay))

    def value_optimizer(self) -> optax.GradientTransformation:
        """There is no value network to move."""
        return optax.identity()

    def _gradient(
        self,
        state: PolicyState,
        trajectory: Trajectory,
        gain: Float[Array, "T E"],
        valid: Bool[Array, "T E"],
        penalty: Penalty | None,
    ) -> tuple[Any, Metrics]:
        """Of the loss, chunk after chunk, as far as the longest episode goes and no further."""
        length, num_envs = gain.shape
        size = min(CHUNK, length)
        rows = trajectory.observation, trajectory.action, gain / num_envs, valid
        num_chunks = -(-jnp.max(jnp.sum(valid, axis=0, dtype=jnp.int32)) // size)

        def chunk(carry: tuple[Any, ...]) -> tuple[Any, ...]:
            index, gradient, metrics = carry
            begin = jnp.minimum(index * size, length - size)  # the last one may overlap the one before
            once = begin + jnp.arange(size) >= index * size
            seen, action, weight, counts = (jax.lax.dynamic_slice_in_dim(x, begin, size) for x in rows)
            given = (
                self.seen(state, seen),
                allowed_by(state.mask, seen),
                action,
                jnp.where(once[:, None], weight, 0.0),
                once[:, None] & counts,
            )
            more, said = jax.grad(self._loss, has_aux=True)(state.policy, state, *given)
            add = lambda one, other: jax.tree.map(jnp.add, one, other)  # noqa: E731
            return index + 1, add(gradient, more), add(metrics, said)

        begun = jax.tree.map(jnp.zeros_like, state.policy)
        if penalty is not None:
            begun = jax.grad(lambda policy: self.penalised(state, policy, penalty))(state.policy)
        nothing = {"loss": jnp.zeros((), jnp.float32), "entropy": jnp.zeros((), jnp.float32)}
        carry = (jnp.zeros((), jnp.int32), begun, nothing)
        _, gradient, metrics = jax.lax.while_loop(lambda carry: carry[0] < num_chunks, chunk, carry)
        return gradient, {**metrics, "entropy": metrics["entropy"] / jnp.sum(valid, dtype=jnp.float32)}

    def _loss(
        self,
        policy: Any,
        state: PolicyState,
        seen: Float[Array, "K E D"],
        allowed: Bool[Array, "K E A"] | None,
        action: Array,
        weight: Float[Array, "K E"],
        valid: Bool[Array, "K E"],
    ) -> tuple[Float[Array, ""], Metrics]:
        """`-sum log pi(a|s) G` of a chunk, and the sum of entropies."""
        outputs = masked(self.outputs(policy, seen, None), allowed)
        loss = -jnp.sum(weight * state.head.log_prob(outputs, action)) / state.head.num_entries
        entropy = jnp.sum(jnp.where(valid, state.head.entropy(outputs), 0.0))
        return loss, {"loss": loss, "entropy": entropy}
