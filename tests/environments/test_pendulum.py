import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import Pendulum, PendulumParams, PendulumState
from polyfed.environments.pendulum import pendulum_acceleration, wrapped_angle


def step(angle, speed, torque, params):
    state = PendulumState(jnp.float32(angle), jnp.float32(speed), time=jnp.int32(0))
    return Pendulum().step(jax.random.key(0), state, jnp.float32([torque]), params)


@pytest.mark.parametrize("seed", range(3))
def test_the_motor_is_the_only_source_of_energy(seed):
    rng = np.random.default_rng(seed)
    angle, speed, torque = rng.uniform(-3, 3, 3)
    p = PendulumParams(*rng.uniform(0.5, 2.0, 8))
    slope = -p.mass * p.gravity * p.length / 2 * np.sin(angle)  # of the potential energy m g (l/2) cos
    inertia = p.mass * p.length**2 / 3
    power = speed * (inertia * float(pendulum_acceleration(angle, torque, p)) + slope)
    assert power == pytest.approx(torque * speed, abs=1e-4)


def test_the_cost_is_that_of_the_state_before_and_of_the_torque_applied():
    _, given = step(np.pi / 2, 2.0, 50.0, PendulumParams())
    assert float(given.reward) == pytest.approx(-((np.pi / 2) ** 2 + 0.1 * 4 + 0.001 * 4), rel=1e-5)
    _, weak = step(np.pi / 2, 2.0, 50.0, PendulumParams(max_torque=1.0))
    assert float(weak.reward) == pytest.approx(-((np.pi / 2) ** 2 + 0.1 * 4 + 0.001), rel=1e-5)


def test_never_terminates_and_is_clipped():
    after, given = step(1.0, 7.9, 2.0, PendulumParams())
    assert float(after.angular_velocity) == 8.0
    assert not bool(given.terminated)


def test_wrapped_angle():
    angles = np.linspace(-20, 20, 401)
    expected = np.angle(np.exp(1j * angles))
    np.testing.assert_allclose(wrapped_angle(angles), expected, atol=1e-5)
