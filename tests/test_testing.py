"""The check of the contract of a family of worlds: all of ours pass, and each broken promise is found."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import CONTINUOUS_PROBES, FAMILIES, PROBES, Box, Discrete, Environment, Step, quantity
from polyfed.testing import check_environment

OURS = [FAMILIES[0], PROBES[2], CONTINUOUS_PROBES[1]]
OURS += [pytest.param(family, marks=pytest.mark.slow) for family in FAMILIES[1:]]  # tests/environments has more of them


@pytest.mark.parametrize("environment", OURS, ids=repr)
def test_our_worlds_keep_the_contract(environment):
    check_environment(environment)


class Slope(eqx.Module):
    steepness: float = quantity(1.0, "1", low=0.0, high=2.0)


class Nameless(eqx.Module):
    steepness: float = eqx.field(default=1.0, metadata={"unit": "", "low": 0.0, "high": 2.0})


class Ball(eqx.Module):
    place: float
    time: int


class Hill(Environment[Ball]):
    """A ball is pushed left or right; beyond ±1 the episode terminates. `flaw` breaks one promise."""

    params_class: ClassVar[type] = Slope

    flaw: str = eqx.field(default="none", static=True)
    max_steps: int = eqx.field(default=100, static=True)

    @property
    def observation_space(self):
        """Where the ball is."""
        return Box(low=(-1.0,), high=(1.0,)) if self.flaw == "space" else Box(low=(-9.0,) * self._size, high=(9.0,))

    @property
    def _size(self):
        return 2 if self.flaw == "size" else 1

    @property
    def action_space(self):
        """Left or right."""
        return Discrete(2)

    def nominal(self):
        """One number."""
        return (Nameless if self.flaw == "unit" else Slope)(jnp.float32(1.0))

    def reset(self, key, params):
        """Near the middle."""
        place = jax.random.uniform(key, (), jnp.float32, -0.5, 0.5)
        return Ball(place, jnp.int32(0)), place[None]

    def step(self, key, state, action, params):
        """A push."""
        push = 0.3 * (2.0 * action.astype(jnp.float32) - 1.0) + 0.1 * jax.random.normal(key, (), jnp.float32)
        if self.flaw == "trace":
            push = push + np.random.default_rng().normal()
        if self.flaw == "decides" and params.steepness > 1:
            push = push * 2
        place = state.place + push * params.steepness
        time = state.time + (1.0 if self.flaw == "state" else 1)
        clock = time + (self.flaw == "late")
        truncated = (clock >= self.max_steps) | ((self.flaw == "clock") & (jnp.abs(place) > 0.8))
        reward = jnp.float16(1) if self.flaw == "type" else jnp.log(place) if self.flaw == "finite" else place
        return Ball(place, time), Step(place[None], reward, jnp.abs(place) > 1, truncated)


def test_accepts_a_world_made_elsewhere():
    check_environment(Hill())


class NamelessHill(Environment[Ball]):
    """The hill, whose steepness has no unit."""

    params_class: ClassVar[type] = Nameless
    max_steps: int = eqx.field(default=100, static=True)
    observation_space, action_space, reset, step = Hill.observation_space, Hill.action_space, Hill.reset, Hill.step


class LooseHill(Environment[Ball]):
    """The hill, whose time limit is not static."""

    params_class: ClassVar[type] = Slope
    max_steps: int = 100
    observation_space, action_space, reset, step = Hill.observation_space, Hill.action_space, Hill.reset, Hill.step


class KnownHill(Environment[Ball]):
    """The hill, which claims to know its optimum, and one rule."""

    params_class: ClassVar[type] = Slope
    floor: ClassVar[str] = "rest"
    best: float = eqx.field(default=5.0, static=True)
    rule: str = eqx.field(default="rest", static=True)
    max_steps: int = eqx.field(default=100, static=True)
    flaw: ClassVar[str] = "none"
    observation_space, action_space, reset, step = Hill.observation_space, Hill.action_space, Hill.reset, Hill.step
    _size: ClassVar[int] = 1

    def optimum(self, params, key):
        """As was claimed."""
        return self.best

    def baselines(self, params, key):
        """One rule with a return of 3."""
        return {self.rule: 3.0}


def test_an_optimum_that_bounds_the_rules_is_accepted():
    check_environment(KnownHill())


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        (KnownHill(best=2.9), "optimum is 2.9, but rest has 3"),
        (KnownHill(rule="run"), r"calls 'rest' its floor, but knows \['run'\]"),
        (LooseHill(), "not a hashable value"),
        (NamelessHill(), "quantity steepness without a unit"),
        (Hill(flaw="state"), "state goes from"),
        (Hill(flaw="type"), "float16"),
        (Hill(flaw="decides"), "needs to know a state or a quantity"),
        (Hill(flaw="space"), "its observation space does not hold"),
        (Hill(flaw="size"), "its space has 2 numbers"),
        (Hill(flaw="finite"), "not finite"),
        (Hill(flaw="clock"), "does not truncate at max_steps alone"),
        (Hill(flaw="late"), "does not truncate at max_steps alone"),
        (Hill(flaw="trace"), "stacked worlds not as it steps one"),
    ],
    ids=lambda x: getattr(x, "flaw", None),
)
def test_catches(environment, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_environment(environment)
