"""Public states: observations that belong to nobody, on which agents tell each other what they would do.

A builder is a part; the same builder gives the same states. None of them looks at what a client has lived through.

References: jiang2025fedhpd.
"""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, PRNGKeyArray

from polyfed.checks import in_range, whole_in_range
from polyfed.environments.environment import Environment
from polyfed.environments.spaces import Box, Discrete
from polyfed.environments.state_checks import box_of
from polyfed.environments.state_file import FileStates
from polyfed.environments.world import World

SIDE_BY_SIDE = 10  # environments in which neutral rollouts run
BEYOND = 1e9  # a bound of this size bounds nothing


class UniformStates(eqx.Module):
    """States drawn uniformly between the bounds of the observations.

    Where an entry has no bound it reaches to `reach` from 0, or from its other bound if that lies beyond. Needs no
    experience at all, but most such states are never visited.

    >>> from polyfed.environments import CartPole
    >>> states = UniformStates(num=1000, reach=2.0).states(CartPole())
    >>> states.shape, [round(float(x), 1) for x in np.abs(states).max(axis=0)]
    ((1000, 4), [4.8, 2.0, 0.4, 2.0])
    """

    num: int = eqx.field(default=5000, static=True)  # states
    reach: float = eqx.field(default=3.0, static=True)  # where there is no bound, in the units of the observation
    seed: int = eqx.field(default=0, static=True)  # of the draw

    @property
    def describe(self) -> str:
        """One line."""
        return f"{self.num} states uniform between the bounds, {self.reach:g} where there are none (seed {self.seed})"

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        box_of(environment)
        _check_draw(self.num, self.seed)
        in_range("public_states.reach", self.reach, 1e-9, 1e9)

    def states(self, environment: World) -> np.ndarray:
        """Float32 `[num, D]`."""
        box = box_of(environment)
        low, high = (np.asarray(bound, np.float64) for bound in (box.low, box.high))
        open_low, open_high = low <= -BEYOND, high >= BEYOND
        lowest = np.where(open_low, np.minimum(-self.reach, np.where(open_high, 0.0, high) - self.reach), low)
        highest = np.where(open_high, np.maximum(self.reach, np.where(open_low, 0.0, low) + self.reach), high)
        drawn = np.random.default_rng(self.seed).uniform(lowest, highest, (self.num, box.size))
        return drawn.astype(np.float32)

    def fingerprint(self) -> str:
        """Empty: it reads no file."""
        return ""


class NeutralStates(eqx.Module):
    """States that somebody meets who acts at random in the nominal world: `num` of the first `steps`.

    Actions are uniform. So the states belong to no client's world and to no client's policy, but are real ones.

    >>> from polyfed.environments import CartPole
    >>> NeutralStates(num=100, steps=200).states(CartPole()).shape
    (100, 4)
    """

    num: int = eqx.field(default=5000, static=True)  # states
    steps: int = eqx.field(default=20_000, static=True)  # that are lived through; `num` of them are drawn
    seed: int = eqx.field(default=0, static=True)  # of actions, worlds and draw

    @property
    def describe(self) -> str:
        """One line."""
        return f"{self.num} of {self.steps} states met by acting at random (seed {self.seed})"

    def check(self, environment: World) -> None:
        """Raise `ValueError` in one sentence if a field is out of range or the environment does not fit."""
        box_of(environment)
        _check_draw(self.num, self.seed)
        whole_in_range("public_states.steps", self.steps, 1, 10**8, "steps")
        if self.steps < self.num:
            raise ValueError(
                f"NeutralStates lives through {self.steps} steps, from which {self.num} states cannot be drawn: give "
                f"at least {self.num} steps."
            )
        name, actions = type(environment).__name__, environment.action_space
        if not isinstance(environment, Environment):
            raise ValueError(
                f"Nobody acts in {name}, whose samples are the clients' own: bring public ones in a file, with "
                "FileStates."
            )
        if isinstance(actions, Box) and not actions.bounded:
            raise ValueError(
                f"Random actions need bounds, but {name} has {actions}: give each entry a finite range, or bring "
                "states in a file, with FileStates."
            )

    def states(self, environment: Environment) -> np.ndarray:
        """Float32 `[num, D]`, in random order."""
        length = -(-self.steps // SIDE_BY_SIDE)
        lived = np.asarray(_wander(environment, length, jax.random.key(self.seed)), np.float32)
        met = lived.reshape(length * SIDE_BY_SIDE, -1)[: self.steps]
        return met[np.random.default_rng(self.seed).permutation(len(met))[: self.num]]

    def fingerprint(self) -> str:
        """Empty: it reads no file."""
        return ""


def random_actions(
    space: Box | Discrete, num: int, key: PRNGKeyArray, allowed: Bool[Array, "num n"] | None = None
) -> Array:
    """Uniform actions, of choices those that are allowed: `[num]` or `[num, size]`.

    >>> random_actions(Box(low=(0.0,), high=(1.0,)), 3, jax.random.key(0)).shape
    (3, 1)
    """
    if allowed is not None:
        return jax.random.categorical(key, jnp.where(allowed, 0.0, -1e9)).astype(jnp.int32)
    if isinstance(space, Discrete):
        return jax.random.randint(key, (num,), 0, space.n, jnp.int32)
    low, high = jnp.asarray(space.low, jnp.float32), jnp.asarray(space.high, jnp.float32)
    return jax.random.uniform(key, (num, space.size), jnp.float32, low, high)


@eqx.filter_jit
def _wander(environment: Environment, length: int, key: PRNGKeyArray) -> Array:
    """What is seen in `length` random steps in each of `SIDE_BY_SIDE` nominal worlds, `[length, SIDE_BY_SIDE, D]`."""

    def act(observation: Array, key: PRNGKeyArray) -> Array:
        return random_actions(environment.action_space, SIDE_BY_SIDE, key, environment.allowed(observation))

    params = jax.tree.map(lambda x: jnp.broadcast_to(x, (SIDE_BY_SIDE, *x.shape)), environment.nominal())
    k_start, k_draw, k_steps = jax.random.split(key, 3)
    keys = jax.random.split(k_steps, (length, SIDE_BY_SIDE + 2))
    stay = environment.start(k_start, params)
    inputs = environment.draw(k_draw, params, length), keys
    return environment.live(act, stay, params, inputs)[1][0].observation


def _check_draw(num: int, seed: int) -> None:
    whole_in_range("public_states.num", num, 1, 10**7, "states")
    whole_in_range("public_states.seed", seed, 0, 2**32 - 1)


PublicStates = UniformStates | NeutralStates | FileStates
"""What makes states from an environment, or from a file."""
