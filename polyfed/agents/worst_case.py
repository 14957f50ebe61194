"""The worst successor of a state, learned by expectile regression: what makes a value-based learner robust.

FedRDQN and FedRDDPG (Hwang and Hong 2025) plan against the worst transition of the covering set
`{(1 - omega) P + omega q}`, `q` any distribution over the successors of a state. Its backup needs the least value among
those successors, and a network `D` learns it from the same transitions as the critic.

References: hwang2025fedrq, newey1987expectile.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.agents.networks import MLP
from polyfed.checks import in_range


def expectile_loss(error: Float[Array, "*shape"], tau: Float[Array, ""] | float) -> Float[Array, "*shape"]:
    """`|tau - 1{error < 0}| error^2` (Newey and Powell 1987): at small `tau` its minimum is near the least target.

    Args:
      error: Target minus prediction.
      tau: 0 to 1; 0.5 gives half the squared error, at 0.01 a target below the prediction weighs 99 times as much as
        one above.

    >>> [round(float(x), 2) for x in expectile_loss(jnp.array([-1.0, 1.0]), 0.01)]
    [0.99, 0.01]
    """
    return jnp.abs(tau - (error < 0)) * error**2


class WorstCaseState(eqx.Module):
    """What changes while the worst case is learned."""

    network: MLP  # observation -> value of the worst successor
    optimizer: Any


class WorstCase(eqx.Module):
    """Trust the sampled successor with `1 - omega`, and the worst successor of the state with `omega`.

    `y = r + discount * ((1 - omega) * V'(s') + omega * D(s))`, where `V'(s')` is the target network's value, 0 after a
    termination, and `D` minimises the mean of `expectile_loss(V'(s') - D(s), tau)` (Hwang and Hong 2025). `D` depends
    on the state alone: its minimum runs over the successors of all actions. It has an Adam of the learner's step size
    and no target network, and is evaluated before its own gradient step.

    `masked=False` is the form of the authors' code: `D` learns from `V'(s')` even where the episode terminated, and
    `y = r` there. Masked, a terminal successor counts as value 0 in the minimum, as the covering set asks.

    >>> WorstCase(omega=0.3).tau
    0.01
    """

    omega: float = 0.2  # share of the worst successor, 0 to 1; should exceed how far the transitions really differ
    tau: float = 0.01  # expectile, above 0 to 0.5; the smaller, the nearer to the minimum
    masked: bool = eqx.field(default=True, static=True)  # a terminal successor has value 0; no: the authors' form

    def check(self) -> None:
        """Raise `ValueError` if a number is out of range."""
        in_range("worst_case.omega", self.omega, 0.0, 1.0)
        in_range("worst_case.tau", self.tau, 1e-6, 0.5)

    def init(
        self,
        key: PRNGKeyArray,
        observation_size: int,
        *,
        hidden: tuple[int, ...],
        activation: str,
        optimizer: optax.GradientTransformation,
    ) -> WorstCaseState:
        """A fresh network from observations to one value."""
        network = MLP(observation_size, 1, hidden=hidden, activation=activation, key=key)
        return WorstCaseState(network, optimizer.init(network))

    def absorb(
        self,
        state: WorstCaseState,
        network: MLP | None,
        *,
        keep_optimizer: bool,
        optimizer: optax.GradientTransformation,
    ) -> WorstCaseState:
        """What it is after a merge: with the network that came, or, if none did, with its own."""
        network = state.network if network is None else network
        return WorstCaseState(network, state.optimizer if keep_optimizer else optimizer.init(network))

    def learn(
        self,
        state: WorstCaseState,
        observation: Float[Array, "B D"],
        next_value: Float[Array, " B"],
        alive: Bool[Array, " B"],
        optimizer: optax.GradientTransformation,
    ) -> tuple[WorstCaseState, Float[Array, " B"], Float[Array, ""]]:
        """One gradient step.

        Args:
          state: Network and moments.
          observation: `s`.
          next_value: `V'(s')` of the target network, before any masking.
          alive: Whether `s'` goes on; a time limit does not end it.
          optimizer: The learner's.

        Returns:
          `(state, D(s) before the step, mean loss)`.
        """
        target = jax.lax.stop_gradient(jnp.where(alive, next_value, 0.0) if self.masked else next_value)

        def loss(network: MLP) -> tuple[Float[Array, ""], Float[Array, " B"]]:
            worst = network(observation)[:, 0]
            return jnp.mean(expectile_loss(target - worst, self.tau)), worst

        (value, worst), gradient = jax.value_and_grad(loss, has_aux=True)(state.network)
        updates, moments = optimizer.update(gradient, state.optimizer, state.network)
        return WorstCaseState(optax.apply_updates(state.network, updates), moments), worst, value

    def future(
        self,
        next_value: Float[Array, " B"],
        worst: Float[Array, " B"],
        bootstrap: Float[Array, " B"],
        discount: Float[Array, ""],
    ) -> Float[Array, " B"]:
        """What a target adds to the reward; at `omega = 0` it is `bootstrap * next_value`, bit for bit.

        Args:
          next_value: `V'(s')`.
          worst: `D(s)`.
          bootstrap: `discount`, or 0 where `s'` is terminal.
          discount: One number.
        """
        if self.masked:  # one product at the end, as without a worst case
            alive = jnp.where(bootstrap > 0, next_value, 0.0)
            return discount * ((1.0 - self.omega) * alive + self.omega * worst)
        return bootstrap * ((1.0 - self.omega) * next_value + self.omega * worst)
