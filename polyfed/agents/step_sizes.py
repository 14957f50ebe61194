"""Step sizes of tabular learners: constant, Robbins-Monro, and the decay on a plateau of the released code of QAvg.

References: robbins1951stochastic, jin2022qavg, hwang2025fedrq.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from polyfed.checks import in_range, one_of

CHECKS = ("round", "local_step")


class Constant(eqx.Module):
    """The same step size throughout; with sampled successors the error ends at a floor.

    >>> Constant(0.5).rate((), 10)
    0.5
    """

    learning_rate: float = 0.1  # 0 to 1

    def check(self) -> None:
        """Raise `ValueError` if the step size is out of range."""
        in_range("step_size.learning_rate", self.learning_rate, 0.0, 1.0)

    def init(self, like: Float[Array, " N"]) -> tuple[()]:
        """Nothing changes."""
        del like
        return ()

    def rate(self, state: tuple[()], step: Any) -> Any:
        """The step size of local step number `step`, from 0."""
        del state, step
        return self.learning_rate

    @property
    def watches(self) -> str | None:
        """It does not look at the objective."""
        return None


class RobbinsMonro(eqx.Module):
    """`min(1, scale / (t + offset))`: the sum diverges, the sum of squares does not (Robbins and Monro 1951).

    `RobbinsMonro.paper(discount, E)` is `2 / ((1 - discount) * (t + E))`, cut off at 1 (the cut is ours: it leaves the
    table a mean of what it has seen).

    >>> RobbinsMonro.paper(discount=0.9, local_steps=100)
    RobbinsMonro(scale=20.0, offset=100.0)
    >>> float(RobbinsMonro(scale=20.0, offset=100.0).rate((), 100))
    0.10000000149011612
    """

    scale: float = 20.0  # > 0
    offset: float = 1.0  # > 0

    @staticmethod
    def paper(discount: float, local_steps: int) -> RobbinsMonro:
        """`2 / ((1 - discount) * (t + E))`, `E` local steps per round."""
        return RobbinsMonro(scale=round(2 / (1 - discount), 9), offset=float(local_steps))

    def check(self) -> None:
        """Raise `ValueError` if a number is out of range."""
        in_range("step_size.scale", self.scale, 1e-9, 1e9)
        in_range("step_size.offset", self.offset, 1e-9, 1e9)

    def init(self, like: Float[Array, " N"]) -> tuple[()]:
        """Nothing but the clock changes."""
        del like
        return ()

    def rate(self, state: tuple[()], step: Any) -> Array:
        """The step size of local step number `step`, from 0."""
        del state
        return jnp.minimum(1.0, self.scale / (step + self.offset))

    @property
    def watches(self) -> str | None:
        """It does not look at the objective."""
        return None


class PlateauState(eqx.Module):
    """The step size that is left, and the last objective seen."""

    rate: Float[Array, " N"]
    last: Float[Array, " N"]
    seen: Int[Array, ""]


class Plateau(eqx.Module):
    """Multiply the step size by `decay` wherever the training objective rose by less than 0.1 % (Jin's released code).

    From the third look on: `if g_e - g_{e-1} < 1e-3 * g_{e-1}`, `g` the objective of the averaged policy, not shifted.
    The code looks once per round, so a round of one step rarely improves enough and small `E` lose their step size
    first: what looks like an effect of `E` is one of this rule. `look = "local_step"` looks after every local step
    (ours), which is fair to all `E`; so is `decay = 1`. Where the objective is negative, the threshold is too.

    >>> Plateau(learning_rate=0.01, decay=0.5).look
    'round'
    """

    learning_rate: float = 1e-2  # at first, above 0
    decay: float = 0.5  # 0 to 1
    look: str = eqx.field(default="round", static=True)  # round (as published) or local_step

    def check(self) -> None:
        """Raise `ValueError` if a field is out of range."""
        in_range("step_size.learning_rate", self.learning_rate, 0.0, 1e3)
        in_range("step_size.decay", self.decay, 0.0, 1.0)
        one_of("step_size.look", self.look, CHECKS)

    def init(self, like: Float[Array, " N"]) -> PlateauState:
        """The whole step size; `like` gives the number of instances and the precision."""
        rate = jnp.full_like(like, self.learning_rate)
        return PlateauState(rate, last=jnp.zeros_like(rate), seen=jnp.zeros((), jnp.int32))

    def rate(self, state: PlateauState, step: Any) -> Float[Array, " N"]:
        """The step size that is left."""
        del step
        return state.rate

    def seen(self, state: PlateauState, objective: Float[Array, " N"]) -> PlateauState:
        """Look at the objective."""
        flat: Bool[Array, " N"] = objective - state.last < 1e-3 * state.last
        decays = flat & (state.seen >= 2)
        return PlateauState(jnp.where(decays, self.decay * state.rate, state.rate), objective, state.seen + 1)

    @property
    def watches(self) -> str | None:
        """When it looks at the objective."""
        return self.look


def step_size(learning_rate: float, decay: float, decay_check: str | None) -> Constant | Plateau:
    """A constant step size for `decay_check=None`, else one that decays on a plateau, looked at so often.

    >>> step_size(0.01, 0.5, None)
    Constant(learning_rate=0.01)
    >>> step_size(0.01, 0.5, "round")
    Plateau(learning_rate=0.01, decay=0.5)
    """
    if decay_check is None:
        return Constant(learning_rate)
    one_of("decay_check", decay_check, CHECKS)
    return Plateau(learning_rate, decay, decay_check)


StepSize = Constant | RobbinsMonro | Plateau
