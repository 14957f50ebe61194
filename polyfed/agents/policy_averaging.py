"""PAvg with known transitions (Jin et al. 2022): policies, or the logits behind them, that are averaged.

SoftPAvg is `PAvg("softmax_npg", "logits")`, ProjPAvg is `PAvg("projected", "probabilities")`. Run by
`polyfed.agents.federated_planning.plan`. Arrays have instances last: `[S, A, K, N]`.

References: jin2022qavg, duchi2008projections.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from polyfed.agents.federated_planning import Models
from polyfed.agents.step_sizes import Plateau, StepSize
from polyfed.checks import one_of
from polyfed.environments import planning

PARAMETERIZATIONS = ("softmax_npg", "softmax_pg", "projected")
AVERAGES = ("logits", "probabilities")
SMALLEST = 1e-30  # probability whose logarithm is taken where a policy gives none


def project_to_simplex(vectors: Float[Array, "S A *N"]) -> Float[Array, "S A *N"]:
    """The nearest distribution over actions, in Euclidean distance (Duchi et al. 2008).

    It is `max(x - tau, 0)` with `tau = max_k (sum of the k largest - 1) / k`.

    >>> project_to_simplex(jnp.array([[0.5, 0.5], [2.0, 0.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    above = (vectors[:, :, None] >= vectors[:, None]).astype(vectors.dtype)  # [S, i, j, *N]: is i at least j?
    total = planning.contract(above, vectors[:, :, None], axis=1)
    tau = planning.highest((total - 1) / planning.contract(above, jnp.ones_like(above), axis=1), axis=1)[:, None]
    return jnp.maximum(vectors - tau, 0)


def softmax(logits: Float[Array, "S A *N"]) -> Float[Array, "S A *N"]:
    """`exp(z) / sum exp(z)` over actions.

    >>> softmax(jnp.zeros((1, 4))).tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """
    weight = jnp.exp(logits - planning.highest(logits, axis=1)[:, None])
    weight = jax.lax.optimization_barrier(weight)
    return weight / planning.contract(weight, jnp.ones_like(weight), axis=1)[:, None]


class PAvg(eqx.Module):
    """Averaged policies. A local step of agent `k`, with `Q`, `A = Q - V` and `d` those of its policy in its world:

    `softmax_npg`: logits `z <- z + alpha A / (1 - discount)`, the natural gradient (Jin's released code);
    `softmax_pg`: `z <- z + alpha d(s) pi(a|s) A(s, a) / (1 - discount)`, the plain gradient;
    `projected`: `pi <- Proj(pi + alpha d(s) Q(s, a) / (1 - discount))`, onto the distributions over actions.

    Every `E` local steps the mean of `logits` or `probabilities` replaces everybody's own.

    >>> PAvg("projected", "probabilities").check()
    """

    parameterization: str = eqx.field(default="softmax_npg", static=True)  # softmax_npg, softmax_pg or projected
    average: str = eqx.field(default="logits", static=True)  # logits or probabilities
    step_size: StepSize = Plateau(learning_rate=5e-2, decay=0.8)

    def check(self) -> None:
        """Raise `ValueError` if a field is not known or two contradict each other."""
        one_of("method.parameterization", self.parameterization, PARAMETERIZATIONS)
        one_of("method.average", self.average, AVERAGES)
        self.step_size.check()
        if self.parameterization == "projected" and self.average == "logits":
            raise ValueError(
                "projected policies are probabilities and have no logits to average: use average = 'probabilities', "
                "or a softmax parameterization."
            )

    def init(self, models: Models) -> Float[Array, "S A K N"]:
        """Every action with equal chance."""
        zero = jnp.zeros_like(models.transitions[:, :, 0])
        return zero + 1 / zero.shape[1] if self.parameterization == "projected" else zero

    def local_step(self, own: Float[Array, "S A K N"], models: Models, rate: Any, key: Any) -> Float[Array, "S A K N"]:
        """One local step of every agent; `rate` is one number or `[N]`."""
        del key
        policy = own if self.parameterization == "projected" else softmax(own)
        visits = planning.discounted_visits(policy, models.transitions, models.discount)
        values = planning.contract(visits, planning.contract(policy, models.rewards, axis=1)[None], axis=1)
        q = planning.backup(values, models.transitions, models.rewards, models.discount)
        far = rate / (1 - models.discount)
        if self.parameterization == "softmax_npg":
            return own + far * (q - values[:, None])
        visited = (1 - models.discount) * planning.contract(models.start[:, None], visits, axis=0)[:, None]
        if self.parameterization == "softmax_pg":
            return own + far * visited * policy * (q - values[:, None])
        return project_to_simplex(own + far * visited * q)

    def end_round(self, own: Float[Array, "S A K N"], models: Models) -> Float[Array, "S A K N"]:
        """Nothing ends a round of an agent that never takes over the average."""
        del models
        return own

    def share(self, own: Float[Array, "S A K N"], models: Models) -> Float[Array, "S A K N"]:
        """Logits or probabilities."""
        del models
        turned = self.parameterization != "projected" and self.average == "probabilities"
        return softmax(own) if turned else own

    def absorb(self, message: Float[Array, "S A K N"]) -> Float[Array, "S A K N"]:
        """Take the broadcast, one copy per agent."""
        turned = self.parameterization != "projected" and self.average == "probabilities"
        return jnp.log(jnp.maximum(message, SMALLEST)) if turned else message

    def policy(self, message: Float[Array, "S A ..."]) -> Float[Array, "S A ..."]:
        """Probabilities."""
        return softmax(message) if self.average == "logits" else message
