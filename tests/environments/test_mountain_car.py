import jax
import jax.numpy as jnp
import pytest

from polyfed.environments import MountainCar, MountainCarParams, MountainCarState


def step(position, velocity, action, **changes):
    state = MountainCarState(jnp.float32(position), jnp.float32(velocity), time=jnp.int32(0))
    return MountainCar().step(jax.random.key(0), state, jnp.int32(action), MountainCarParams(**changes))


def test_the_wall_stops_the_car():
    after, given = step(-1.19, -0.07, 0)
    assert float(after.position) == pytest.approx(-1.2)
    assert float(after.velocity) == 0
    assert not bool(given.terminated)


def test_every_step_costs_one_even_the_last():
    after, given = step(0.49, 0.06, 2)
    assert bool(given.terminated)
    assert float(given.reward) == -1
    assert float(after.position) >= 0.5


def test_the_goal_may_ask_for_speed():
    assert not bool(step(0.49, 0.03, 2, goal_velocity=0.05)[1].terminated)
    assert bool(step(0.49, 0.06, 2, goal_velocity=0.05)[1].terminated)


@pytest.mark.parametrize(("action", "engine"), [(0, -0.002), (1, 0.0), (2, 0.002)])
def test_the_engine_pushes_both_ways(action, engine):
    after, _ = step(-0.5, 0.0, action, force=0.002, gravity=0.0)
    assert float(after.velocity) == pytest.approx(engine)
