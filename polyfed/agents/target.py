"""When and how a target network follows the online network."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from polyfed.checks import in_range


class HardUpdate(eqx.Module):
    """Copy the online network every `period` gradient steps (Mnih et al. 2015).

    >>> import jax.numpy as jnp
    >>> float(HardUpdate(period=10)(jnp.ones(()), jnp.zeros(()), step=10))
    1.0
    """

    period: int = 500  # gradient steps

    def __call__(self, online: Any, target: Any, step: Int[Array, ""]) -> Any:
        """The target network after gradient step number `step` (the first is 1)."""
        due = step % self.period == 0
        return jax.tree.map(lambda o, t: jnp.where(due, o, t), online, target)

    def check(self) -> None:
        """Raise `ValueError` if the period is not positive."""
        in_range("target_update.period", self.period, 1, 2**31 - 1)


class SoftUpdate(eqx.Module):
    """`target <- rate * online + (1 - rate) * target` after every gradient step (Lillicrap et al. 2016).

    >>> import jax.numpy as jnp
    >>> float(SoftUpdate(rate=0.25)(jnp.ones(()), jnp.zeros(()), step=1))
    0.25
    """

    rate: float = 0.005  # 0 to 1

    def __call__(self, online: Any, target: Any, step: Int[Array, ""]) -> Any:
        """The target network after a gradient step."""
        del step
        return jax.tree.map(lambda o, t: t + self.rate * (o - t), online, target)

    def check(self) -> None:
        """Raise `ValueError` if the rate is not in (0, 1]."""
        in_range("target_update.rate", self.rate, 1e-12, 1.0)


TargetUpdate = HardUpdate | SoftUpdate
