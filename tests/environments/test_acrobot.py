import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import Acrobot, AcrobotParams, AcrobotState
from polyfed.environments.acrobot import acrobot_derivative, runge_kutta_step


def energy(motion, p):
    """Kinetic and potential energy of two links, each with its own moment about its centre of mass."""
    angle_1, angle_2, speed_1, speed_2 = motion
    total = speed_1 + speed_2
    squared = (p.link_length_1 * speed_1) ** 2 + (p.link_com_2 * total) ** 2
    squared += 2 * p.link_length_1 * p.link_com_2 * speed_1 * total * jnp.cos(angle_2)
    kinetic = p.link_mass_1 * (p.link_com_1 * speed_1) ** 2 + p.link_mass_2 * squared
    kinetic += p.link_moment * (speed_1**2 + total**2)
    height_1 = -p.link_com_1 * jnp.cos(angle_1)
    height_2 = -p.link_length_1 * jnp.cos(angle_1) - p.link_com_2 * jnp.cos(angle_1 + angle_2)
    return kinetic / 2 + p.gravity * (p.link_mass_1 * height_1 + p.link_mass_2 * height_2)


@pytest.mark.parametrize("seed", range(5))
def test_the_motor_is_the_only_source_of_energy(seed):
    rng = np.random.default_rng(seed)
    motion = jnp.asarray(rng.uniform(-2, 2, 4), jnp.float32)
    params, torque = AcrobotParams(*rng.uniform(0.5, 2.0, 15)), rng.uniform(-2, 2)
    _, power = jax.jvp(lambda x: energy(x, params), (motion,), (acrobot_derivative(motion, torque, params),))
    assert float(power) == pytest.approx(torque * float(motion[3]), abs=1e-3)


def test_runge_kutta_is_of_fourth_order():
    with jax.enable_x64(True):
        errors = [abs(float(runge_kutta_step(lambda x: x, jnp.float64(1), h)) - np.exp(h)) for h in (0.1, 0.05)]
    assert errors[0] / errors[1] == pytest.approx(2**5, rel=0.1)  # of one step


def test_reaching_the_goal_costs_nothing():
    params = Acrobot().nominal()
    for angle, terminated, reward in ((np.pi, True, 0.0), (0.0, False, -1.0)):
        state = AcrobotState(jnp.float32(angle), *jnp.zeros(3), time=jnp.int32(0))
        _, step = Acrobot().step(jax.random.key(0), state, jnp.int32(1), params)
        assert (bool(step.terminated), float(step.reward)) == (terminated, reward)


def test_noise_is_bounded_uniform_and_off_by_default():
    still = AcrobotState(*jnp.zeros(4), time=jnp.int32(0))
    keys = jax.random.split(jax.random.key(0), 2000)
    step = jax.jit(jax.vmap(Acrobot().step, in_axes=(0, None, None, None)))

    def speeds(**changes):
        return np.asarray(step(keys, still, jnp.int32(1), AcrobotParams(**changes))[0].angular_velocity_2)

    assert np.ptp(speeds()) == 0
    noisy = speeds(torque_noise=0.01)
    pushed = float(speeds(torque=0.01, torque_noise=0.0)[0])
    assert pushed == 0  # action 1 applies no torque
    strongest, _ = Acrobot().step(keys[0], still, jnp.int32(2), AcrobotParams(torque=0.01))
    bound = float(strongest.angular_velocity_2)
    assert 0.95 * bound < abs(noisy).max() <= 1.001 * bound
    assert abs(noisy.mean()) < 0.05 * bound
    assert noisy.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)


def test_speeds_are_clipped_and_angles_wrapped():
    params = AcrobotParams(max_speed_1=1.0, max_speed_2=2.0)
    state = AcrobotState(*jnp.float32([3.1, -3.1, 9.0, -9.0]), time=jnp.int32(0))
    after, _ = Acrobot().step(jax.random.key(0), state, jnp.int32(0), params)
    assert abs(float(after.angular_velocity_1)) <= 1.0
    assert abs(float(after.angular_velocity_2)) <= 2.0
    assert max(abs(float(after.angle_1)), abs(float(after.angle_2))) <= np.float32(np.pi)
