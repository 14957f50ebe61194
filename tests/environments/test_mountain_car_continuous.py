import jax
import jax.numpy as jnp
import pytest

from polyfed.environments import MountainCarContinuous, MountainCarContinuousParams, MountainCarState


def step(position, velocity, throttle, **changes):
    state = MountainCarState(jnp.float32(position), jnp.float32(velocity), time=jnp.int32(0))
    params = MountainCarContinuousParams(**changes)
    return MountainCarContinuous().step(jax.random.key(0), state, jnp.float32([throttle]), params)


def test_throttle_is_clipped_but_paid_in_full():
    full, given = step(-0.5, 0.0, 1.0)
    beyond, charged = step(-0.5, 0.0, 3.0)
    assert float(full.velocity) == float(beyond.velocity)
    assert float(given.reward) == pytest.approx(-0.1)
    assert float(charged.reward) == pytest.approx(-0.9)


def test_a_wider_throttle_is_a_quantity():
    wide, _ = step(-0.5, 0.0, 3.0, max_action=2.0, gravity=0.0)
    assert float(wide.velocity) == pytest.approx(0.003)


def test_arriving_pays_once():
    _, given = step(0.44, 0.05, 0.5)
    assert bool(given.terminated)
    assert float(given.reward) == pytest.approx(100 - 0.025)
