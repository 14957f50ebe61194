"""WindyCliffs: the walk of the released code of QAvg, with its value in closed form, and the family that steps it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import (
    TabularMDP,
    WindyCliff,
    WindyCliffs,
    planning,
    windy_cliff_sets,
    windy_cliff_tests,
    windy_cliffs,
    windy_cliffs_around,
)
from polyfed.environments.windy_cliffs import WindyCliffParams
from polyfed.testing import check_environment

UP, DOWN, LEFT, RIGHT = range(4)


def test_keeps_the_contract():
    check_environment(WindyCliff(), num_steps=100)


def test_moves():
    moves = np.asarray(windy_cliffs(jnp.float32(0.6)).transitions)
    np.testing.assert_allclose(moves.sum(-1), 1, atol=1e-6)
    row = lambda s, a: {int(t): round(float(moves[s, a, t]), 4) for t in np.flatnonzero(moves[s, a])}  # noqa: E731
    assert row(5, UP) == {9: 0.8, 1: 0.2}
    assert row(5, DOWN) == {1: 1.0}
    assert row(6, LEFT) == {5: 0.8, 2: 0.2}
    assert row(0, RIGHT) == {1: 0.8, 0: 0.2}  # blown against the wall
    assert row(12, UP) == {12: 0.8, 8: 0.2}
    for state in (1, 2, 3):  # cliff and goal
        assert all(row(state, action) == {0: 1.0} for action in range(4))


def test_without_wind_the_way_round_the_cliff_takes_five_steps():
    mdp = windy_cliffs(jnp.float32(0.0))
    mdp.check()
    q = planning.value_iteration(mdp.transitions, mdp.rewards, mdp.discount)
    once = -(1 - 0.95**5) / 0.05 + 100 * 0.95**5
    assert float(jnp.max(q[0])) == pytest.approx(once / (1 - 0.95**6), rel=1e-5)


def test_sets_for_training_and_testing():
    train, test = windy_cliff_sets(jax.random.key(0), 3), windy_cliff_tests()
    wind = 3 * (1 - np.asarray(train.transitions)[:, :, 5, UP, 9])
    assert wind.shape == (3, 5)
    assert len(np.unique(wind)) == 15
    np.testing.assert_allclose(3 * (1 - np.asarray(test.transitions)[0, :, 5, UP, 9]), np.linspace(0, 1, 10), atol=1e-6)
    around = windy_cliffs_around(jax.random.key(0), 2, 0.5)
    assert around.transitions.shape == (2, 5, 16, 4, 16)
    np.testing.assert_allclose(around.transitions[:, 0, 5, UP, 9], 1 - 0.5 / 3, rtol=1e-6)
    around.check()


def test_the_family_steps_as_the_transitions_say():
    world, params = WindyCliff(), WindyCliffParams(wind=jnp.float32(0.9))
    state, _ = world.reset(jax.random.key(0), params)
    assert int(state.state) == 0
    step = jax.jit(jax.vmap(world.step, in_axes=(0, None, None, None)))
    after, given = step(jax.random.split(jax.random.key(1), 20_000), state, jnp.int32(UP), params)
    np.testing.assert_allclose(np.mean(np.asarray(after.state) == 4), 0.7, atol=0.015)
    assert set(np.asarray(given.reward)) == {-1.0}


def test_the_variation_draws_a_wind_per_client():
    world, variation = TabularMDP(num_states=16, num_actions=4), WindyCliffs(seed=2)
    wind = variation.worlds(world, 3)["wind"]
    np.testing.assert_array_equal(wind[1:], WindyCliffs(seed=2, first=1).worlds(world, 2)["wind"])
    params = variation.params(world, 3)
    np.testing.assert_allclose(params.transitions[:, 5, UP, 9], 1 - wind / 3, rtol=1e-6)
    with pytest.raises(ValueError, match=r"set environment\.num_states to 16"):
        variation.check(TabularMDP(), 3)
    with pytest.raises(ValueError, match="WindyCliff has physics"):
        variation.check(WindyCliff(), 3)
