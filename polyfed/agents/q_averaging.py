"""QAvg (Jin et al. 2022) and FedRQ (Hwang and Hong 2025) with known transitions: tables that are averaged.

Run by `polyfed.agents.federated_planning.plan`. Arrays have instances last: `[S, A, K, N]`.

References: jin2022qavg, hwang2025fedrq.
"""

from __future__ import annotations

from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polyfed.agents.federated_planning import Models
from polyfed.agents.step_sizes import Plateau, StepSize
from polyfed.checks import in_range, one_of
from polyfed.environments import planning

LOCALS = ("q_damped", "v_damped_full_backup")


class QAvg(eqx.Module):
    """Averaged value tables; with `omega > 0` it is FedRQ.

    `q_damped` (the papers' form), every local step of agent `k`, `N_s` the neighbour sets:
    `Q_k <- (1 - alpha) Q_k + alpha [r + discount ((1 - omega) P_k max Q_k + omega min_{N_s} max Q_k)]`.
    `v_damped_full_backup` (Jin's released code): `V_k <- (1 - alpha) V_k + alpha max_a (r + discount P_k V_k)`, and at
    the end of a round one backup without damping, `Q_k = r + discount P_k V_k`. Every `E` local steps the tables are
    replaced by their mean.

    `sampled` draws one successor of every state and action at every local step, in place of the expectation: what a
    generative model gives, ours. `QLearning` is the learner that walks through a world.

    >>> QAvg(omega=0.2).check()
    """

    linear: ClassVar[bool] = True

    local: str = eqx.field(default="q_damped", static=True)  # q_damped or v_damped_full_backup
    omega: float = 0.0  # share of the worst neighbour, 0 to 1
    step_size: StepSize = Plateau(learning_rate=1e-2, decay=0.5)
    sampled: bool = eqx.field(default=False, static=True)  # one successor drawn for every state and action

    def check(self) -> None:
        """Raise `ValueError` if a field is out of range or two contradict each other."""
        one_of("method.local", self.local, LOCALS)
        in_range("method.omega", self.omega, 0.0, 1.0)
        self.step_size.check()
        if self.local != "q_damped" and (self.sampled or self.omega != 0):
            raise ValueError(
                "v_damped_full_backup averages values under known transitions and knows neither a worst neighbour nor "
                "samples: use local = 'q_damped', or omega = 0 and sampled = False."
            )

    def init(self, models: Models) -> Float[Array, ...]:
        """Tables of zeros: `Q` `[S, A, K, N]`, or `V` `[S, K, N]`."""
        table = jnp.zeros_like(models.transitions[:, :, 0])
        return table if self.local == "q_damped" else table[:, 0]

    def local_step(self, tables: Float[Array, ...], models: Models, rate: Any, key: Any) -> Float[Array, ...]:
        """One local step of every agent; `rate` is one number or `[N]`."""
        if self.local != "q_damped":
            q = planning.backup(tables, models.transitions, models.rewards, models.discount)
            return (1 - rate) * tables + rate * planning.highest(q, axis=1)
        values = planning.highest(tables, axis=1)
        expected = _sampled(values, models.transitions, key) if self.sampled else _expected(values, models.transitions)
        worst = planning.worst_neighbour(values, models.neighbours)[:, None]
        target = models.rewards + models.discount * ((1 - self.omega) * expected + self.omega * worst)
        return (1 - rate) * tables + rate * target

    def end_round(self, tables: Array, models: Models) -> Array:
        """What ends a round of an agent that never takes over the average (every local step, as published)."""
        return self.absorb(self.share(tables, models))

    def share(self, tables: Float[Array, ...], models: Models) -> Float[Array, "S A K N"]:
        """The `Q` tables."""
        if self.local == "q_damped":
            return tables
        return planning.backup(tables, models.transitions, models.rewards, models.discount)

    def absorb(self, message: Float[Array, "S A K N"]) -> Float[Array, ...]:
        """Take the broadcast, one copy per agent."""
        return message if self.local == "q_damped" else planning.highest(message, axis=1)

    def policy(self, message: Float[Array, "S A ..."]) -> Float[Array, "S A ..."]:
        """Greedy."""
        return planning.greedy(message)


def _expected(values: Float[Array, "S K N"], transitions: Float[Array, "S A S K N"]) -> Float[Array, "S A K N"]:
    return planning.contract(transitions, values[None, None], axis=2)


def _sampled(
    values: Float[Array, "S K N"], transitions: Float[Array, "S A S K N"], keys: Any
) -> Float[Array, "S A K N"]:
    """The value of one drawn successor each; `keys` is `[N]`, so that an instance draws the same in any company."""
    shape = transitions[:, :, 0].shape[:-1]
    uniform = jax.vmap(lambda key: jax.random.uniform(key, shape, jnp.float32), out_axes=-1)(keys)
    drawn = planning.sample_successors(uniform.astype(transitions.dtype), transitions)
    number = jnp.arange(transitions.shape[2], dtype=jnp.int32)[:, None, None]
    return jnp.sum(jnp.where(drawn[:, :, None] == number, values[None, None], 0), axis=2)
