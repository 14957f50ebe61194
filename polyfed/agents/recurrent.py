"""Networks that remember: a gated recurrent unit (Cho et al. 2014), and a network that reads what it holds.

References: cho2014gru, hausknecht2015drqn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from polyfed.agents.networks import Linear, linears


class GRU(eqx.Module):
    """A gated recurrent unit of `H` numbers (Cho et al. 2014, eqs. 5 to 8, the reset gate behind the product).

    `r = sigmoid(W_r x + U_r h)`, `z = sigmoid(W_z x + U_z h)`, `n = tanh(W_n x + r U_n h)`, each product with a bias;
    `h' = (1 - z) n + z h`, between -1 and 1 if `h` is.

    >>> gru_cell(3, 8, jax.random.key(0))(jnp.ones((5, 3)), jnp.zeros((5, 8))).shape
    (5, 8)
    """

    reads: Linear  # [3 H, inputs]: reset, update, new
    recalls: Linear  # [3 H, H]

    def __call__(self, x: Float[Array, "... in"], memory: Float[Array, "... H"]) -> Float[Array, "... H"]:
        """The next memory, over any leading axes."""
        reset, update, new = jnp.split(self.reads(x), 3, axis=-1)
        old_reset, old_update, old_new = jnp.split(self.recalls(memory), 3, axis=-1)
        keep = jax.nn.sigmoid(update + old_update)
        return (1 - keep) * jnp.tanh(new + jax.nn.sigmoid(reset + old_reset) * old_new) + keep * memory


def gru_cell(num_inputs: int, units: int, key: PRNGKeyArray) -> GRU:
    """A fresh unit, initial weights as those of `linears`.

    >>> gru_cell(3, 8, jax.random.key(0)).recalls.weight.shape
    (24, 8)
    """
    return GRU(*linears([(num_inputs, 3 * units), (units, 3 * units)], key))


class Recurrent(eqx.Module):
    """A unit that reads an observation and its own memory, and a network that reads the new memory.

    Both stand in one vector, as `Remembered` shows them: the observation, then everything that is remembered, of which
    this network's part is `units` numbers from `begin` on.

    >>> from polyfed.agents.networks import MLP
    >>> made = lambda size, key: MLP(size, 2, hidden=(4,), activation="tanh", key=key)
    >>> network = remembering(made, (3, 8, 0), jax.random.key(0))
    >>> network(jnp.ones((5, 3 + 8))).shape, network.remember(jnp.ones((5, 3 + 8))).shape
    ((5, 2), (5, 8))
    """

    cell: GRU
    network: Any
    num_inputs: int = eqx.field(static=True)  # entries of an observation
    begin: int = eqx.field(static=True)  # of the memory

    @property
    def units(self) -> int:
        """Numbers in the memory."""
        return self.cell.recalls.weight.shape[-1]

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... out"]:
        """One step, over any leading axes."""
        return self.network(self.remember(x))

    def remember(self, x: Float[Array, "... D"]) -> Float[Array, "... H"]:
        """The next memory."""
        return self.cell(x[..., : self.num_inputs], x[..., self.begin : self.begin + self.units])

    def unrolled(self, x: Float[Array, "T E D"], over: Bool[Array, "T E"] | None) -> Float[Array, "T E out"]:
        """All steps in their order, through which gradients flow; memories shown after the first step are not read.

        Args:
          x: Observations, and what was remembered before the first.
          over: Steps with which an episode ended, after which nothing is remembered; None: one episode goes on.
        """
        fresh = jnp.zeros(x.shape[:2], bool)
        if over is not None:
            fresh = fresh.at[1:].set(over[:-1])

        def step(memory: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            memory = self.cell(now[0], jnp.where(now[1][:, None], 0.0, memory))
            return memory, memory

        first = x[0, :, self.begin : self.begin + self.units]
        return self.network(jax.lax.scan(step, first, (x[..., : self.num_inputs], fresh))[1])


def remembering(made: Callable[[int, PRNGKeyArray], Any], form: tuple[int, int, int], key: PRNGKeyArray) -> Recurrent:
    """A recurrent network.

    Args:
      made: What reads the memory, from its number of inputs and a key.
      form: `(entries of an observation, units, numbers remembered by others before them)`.
      key: Of the initial weights.

    >>> remembering(lambda size, key: size, (3, 8, 16), jax.random.key(0)).begin
    19
    """
    num_inputs, units, before = form
    k_cell, k_network = jax.random.split(key)
    return Recurrent(gru_cell(num_inputs, units, k_cell), made(units, k_network), num_inputs, num_inputs + before)
