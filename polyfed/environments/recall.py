"""A probe for memory: a cue that is shown once decides what pays later (the T-maze of Bakker 2001).

References: bakker2001tmaze.
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.environment import Environment, Step
from polyfed.environments.probes import ProbeParams
from polyfed.environments.spaces import Box, Discrete


class RecallState(eqx.Module):
    """What was shown at first, and the clock.

    >>> RecallState(cue=jnp.int32(1), time=jnp.int32(0)).cue
    Array(1, dtype=int32)
    """

    cue: Int[Array, ""]  # 0 or 1, left or right
    time: Int[Array, ""]


class Recall(Environment[RecallState]):
    """A corridor of `length` steps and a junction at its end, where one must turn to the side that a sign showed.

    Shown are the sign, -1 or 1, in the first step only and then 0, and whether this is the junction. Only the turn
    pays: `scale` for the right one, and as much is lost for the other. At the junction all look alike, so whoever
    acts by what is seen alone earns 0 in the mean, whatever it does there; who remembers the sign earns `scale`.

    >>> recall = Recall(length=2)
    >>> state, seen = recall.reset(jax.random.key(0), recall.nominal())
    >>> for _ in range(2):
    ...     state, step = recall.step(jax.random.key(1), state, state.cue, recall.nominal())
    >>> seen.tolist(), step.observation.tolist()
    ([1.0, 0.0], [0.0, 1.0])
    >>> float(recall.step(jax.random.key(1), state, state.cue, recall.nominal())[1].reward)
    1.0
    """

    params_class: ClassVar[type] = ProbeParams

    length: int = eqx.field(default=4, static=True)  # steps before the junction, at least 1

    @property
    def max_steps(self) -> int:
        """The turn comes before the clock runs out."""
        return self.length + 2

    @property
    def observation_space(self) -> Box:
        """The sign, and the junction."""
        return Box(low=(-1.0, 0.0), high=(1.0, 1.0))

    @property
    def action_space(self) -> Discrete:
        """Left and right; in the corridor neither does anything."""
        return Discrete(2)

    def check(self) -> None:
        """Raise `ValueError` in one sentence if the sign would still be seen at the junction."""
        if self.length < 1:
            raise ValueError(
                f"environment.length = {self.length} shows the sign at the junction, where nothing is to be "
                "remembered: give at least 1."
            )
        super().check()

    def reset(self, key: PRNGKeyArray, params: ProbeParams) -> tuple[RecallState, Array]:
        """Before a sign, either with equal chance."""
        del params
        state = RecallState(jax.random.randint(key, (), 0, 2, jnp.int32), time=jnp.zeros((), jnp.int32))
        return state, self._shown(state)

    def step(
        self, key: PRNGKeyArray, state: RecallState, action: Array, params: ProbeParams
    ) -> tuple[RecallState, Step]:
        """One step on, or the turn."""
        del key
        turned = state.time >= self.length
        right = params.scale * jnp.where(action == state.cue, 1.0, -1.0)
        state = RecallState(state.cue, state.time + 1)
        reward = jnp.where(turned, right, 0.0).astype(jnp.float32)
        return state, Step(self._shown(state), reward, turned, jnp.zeros((), bool))

    def _shown(self, state: RecallState) -> Float[Array, " 2"]:
        sign = jnp.where(state.time == 0, 2.0 * state.cue - 1.0, 0.0)
        return jnp.stack([sign, (state.time == self.length).astype(jnp.float32)]).astype(jnp.float32)
