"""A body of rigid limbs as an environment: each client's own model, stepped by MuJoCo (Todorov et al. 2012).

A state holds MuJoCo's numbers without loss. A step leaves the compiled program by a callback and comes back with the
next state, so it is a pure function like any other; the callback gives up Python's lock while it simulates.

References: todorov2012mujoco, jin2022qavg.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from polyfed.environments.environment import Environment, Params, Step
from polyfed.environments.mujoco import (
    body_quantities,
    compile_body_of_bytes,
    join_floats,
    load_mujoco,
    render,
    split_doubles,
)
from polyfed.environments.outside import outside
from polyfed.environments.spaces import Box


class BodyState(eqx.Module):
    """What MuJoCo knows of a body between two steps, and the clock.

    >>> import jax
    >>> from polyfed.environments import Hopper
    >>> state, _ = Hopper().reset(jax.random.key(0), Hopper().nominal())
    >>> state.physics.shape, int(state.time)
    ((3, 18), 0)
    """

    physics: Float[Array, "3 n"]  # positions, velocities, last accelerations, as `split_doubles` writes them
    time: Int[Array, ""]  # steps since the reset


class Body(Environment[BodyState]):
    """A family of bodies: Gymnasium's model, with the quantities of `params_class` changed in it.

    A quantity is named after what it changes: `gravity`, `friction` (a factor), `gear`, `total_mass`, or a limb of
    `limbs` with `_half_length`, `_radius` or `_density`. One that has its nominal value leaves the description
    untouched, so the nominal body is Gymnasium's to the last bit. Joints stay where they are when a limb changes, as
    published.

    >>> from polyfed.environments import Hopper
    >>> from polyfed.environments.mujoco import compile_body
    >>> compile_body(Hopper, Hopper.params_class(leg_radius=0.05)).model.body("leg").mass.round(2).tolist()
    [4.45]
    """

    xml: ClassVar[str]  # in Gymnasium's assets
    limbs: ClassVar[Mapping[str, str]]  # our name of a limb -> the name of its geom
    standing: ClassVar[tuple[str, ...]] = ()  # limbs that grow from their first end; others from their middle
    unseen: ClassVar[int] = 1  # positions, the first ones, that are not observed
    frame_skip: ClassVar[int]  # MuJoCo's steps per step
    time_step: ClassVar[float]  # s, of a step: MuJoCo's own times `frame_skip`
    rest: ClassVar[tuple[float, ...]]  # positions before noise, `nq`; there are as many velocities
    num_motors: ClassVar[int]
    strength: ClassVar[float] = 1.0  # the largest action of a motor, in units of its gear
    max_steps: int = eqx.field(default=1000, static=True)  # steps until truncation

    @property
    def observation_space(self) -> Box:
        """All positions but the `unseen` (how far it has come), then all velocities; not bounded."""
        size = 2 * len(self.rest) - self.unseen
        return Box(low=(-np.inf,) * size, high=(np.inf,) * size)

    @property
    def action_space(self) -> Box:
        """A torque per motor, in units of its gear; stronger ones are clipped but paid for."""
        most = (self.strength,) * self.num_motors
        return Box(low=tuple(-x for x in most), high=most)

    def pictures(self, params: Params, states: BodyState) -> list[np.ndarray]:
        """As MuJoCo draws them."""
        return render(self, params, states)

    def check(self) -> None:
        """Raise in one sentence if the time limit is out of range or MuJoCo is missing."""
        super().check()
        load_mujoco()

    @staticmethod
    @abc.abstractmethod
    def noise(key: PRNGKeyArray, size: int) -> Float[Array, " 2n"]:
        """What `reset_noise` multiplies: for positions, then for velocities, `size` each."""

    @classmethod
    @abc.abstractmethod
    def observe(cls, motion: Any) -> Any:
        """Observations `[..., 2n - unseen]` of positions and velocities `[..., 2n]`; NumPy or JAX arrays."""

    @classmethod
    @abc.abstractmethod
    def judge(cls, before: np.ndarray, after: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`(rewards, terminated)` `[N]` of steps between motions `[N, 2n]`, in double precision."""

    def reset(self, key: PRNGKeyArray, params: Params) -> tuple[BodyState, Array]:
        """Around the rest position, at rest, with noise of size `reset_noise` on both."""
        size = len(self.rest)
        start = jnp.asarray((*self.rest, *(0.0,) * size), jnp.float32)
        motion = start + jnp.asarray(params.reset_noise, jnp.float32) * self.noise(key, size)
        physics = jnp.zeros((3, 3 * size), jnp.float32).at[0, : 2 * size].set(motion)
        return BodyState(physics, time=jnp.zeros((), jnp.int32)), self.observe(motion)

    def step(self, key: PRNGKeyArray, state: BodyState, action: Array, params: Params) -> tuple[BodyState, Step]:
        """`frame_skip` steps of MuJoCo under one action."""
        del key
        known = [getattr(params, name) for name in body_quantities(type(self))]
        parts = [jnp.stack([jnp.asarray(x, jnp.float32) for x in known]), state.physics.ravel(), action]
        out = _stepped(type(self))(jnp.concatenate([x.astype(jnp.float32) for x in parts])[None])[0]
        physics = out[: state.physics.size].reshape(state.physics.shape)
        reward, terminated, observation = out[state.physics.size], out[state.physics.size + 1] > 0, out[-self._seen :]
        time = state.time + jnp.ones((), jnp.int32)
        return BodyState(physics, time), Step(observation, reward, terminated, time >= self.max_steps)

    @property
    def _seen(self) -> int:
        return self.observation_space.size


@functools.cache
def _stepped(family: type[Body]) -> Callable[[Array], Array]:
    """Rows `[N, quantities + 9n + actions]` -> `[N, 9n + 2 + observation]`, on the host."""
    size, num_quantities = 3 * len(family.rest), len(body_quantities(family))

    def host(rows: np.ndarray) -> np.ndarray:
        keys, before = rows[:, :num_quantities], rows[:, num_quantities : num_quantities + 3 * size]
        before, action = join_floats(before.reshape(-1, 3, size)), rows[:, num_quantities + 3 * size :].astype(float)
        bodies = [compile_body_of_bytes(family, key.tobytes()) for key in keys]
        after = np.stack([b.step(x, u) for b, x, u in zip(bodies, before, action, strict=True)])
        motion = after[:, : 2 * len(family.rest)]
        reward, terminated = family.judge(before, after, action)
        parts = [split_doubles(after).reshape(len(rows), -1), reward[:, None], terminated[:, None]]
        return np.concatenate([*parts, family.observe(motion)], axis=-1, dtype=np.float32, casting="same_kind")

    return outside(host, 3 * size + 2 + 2 * len(family.rest) - family.unseen)
