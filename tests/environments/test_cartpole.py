import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import CartPole, CartPoleParams, CartPoleState
from polyfed.environments.cartpole import cartpole_accelerations


@pytest.mark.parametrize("seed", range(5))
def test_accelerations_solve_the_equations_of_motion(seed):
    rng = np.random.default_rng(seed)
    angle, speed, force = rng.uniform(-3, 3, 3)
    p = CartPoleParams(*rng.uniform(0.5, 2.0, 9))
    # (M + m) v' + m l w' cos - m l w^2 sin = F;  v' cos + 4/3 l w' = g sin
    mass = [
        [p.mass_cart + p.mass_pole, p.mass_pole * p.half_length * np.cos(angle)],
        [np.cos(angle), 4 / 3 * p.half_length],
    ]
    push = force + p.mass_pole * p.half_length * speed**2 * np.sin(angle)
    expected = np.linalg.solve(mass, [push, p.gravity * np.sin(angle)])
    np.testing.assert_allclose(cartpole_accelerations(angle, speed, force, p), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("position", "angle", "terminated"), [(0, 0, False), (2.41, 0, True), (0, -0.22, True)])
def test_the_terminating_step_is_paid_too(position, angle, terminated):
    state = CartPoleState(jnp.float32(position), jnp.float32(0), jnp.float32(angle), jnp.float32(0), time=jnp.int32(0))
    _, step = CartPole().step(jax.random.key(0), state, jnp.int32(0), CartPole().nominal())
    assert bool(step.terminated) is terminated
    assert float(step.reward) == 1.0


def test_limits_belong_to_the_client():
    state = CartPoleState(jnp.float32(2.0), *jnp.zeros(3), time=jnp.int32(0))
    narrow = CartPoleParams(position_limit=1.0)
    assert bool(CartPole().step(jax.random.key(0), state, jnp.int32(0), narrow)[1].terminated)


def test_actions_push_left_and_right():
    rest = CartPoleState(*jnp.zeros(4), time=jnp.int32(0))
    params = CartPole().nominal()
    left, right = (CartPole().step(jax.random.key(0), rest, jnp.int32(a), params)[0] for a in (0, 1))
    assert float(left.velocity) == -float(right.velocity) < 0
    assert float(left.angular_velocity) == -float(right.angular_velocity) > 0


def test_derived_quantities_follow():
    params = CartPoleParams(mass_pole=0.4, half_length=2.0)
    assert params.total_mass == pytest.approx(1.4)
    assert params.pole_moment == pytest.approx(0.8)
