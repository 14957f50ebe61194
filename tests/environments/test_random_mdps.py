"""RandomMDPs: the draws of the released code of QAvg, and how they differ between agents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import (
    CartPole,
    RandomMDPs,
    TabularMDP,
    random_mdps,
    random_mdps_around,
    random_mdps_common,
    split_envs,
)
from polyfed.environments.neighbours import heterogeneity

KEY = jax.random.key(0)


def test_supports_and_rewards_are_as_published():
    mdps = random_mdps(KEY, 400, 5)
    for n in range(3):
        assert mdps.transitions[n].shape == (5, 5, 5, 5)
    mdps.check()
    moves = np.asarray(mdps.transitions)
    sizes = (moves > 0).sum(-1)
    at_least_one = 5 * 0.2 + 0.8**5  # Bernoulli(0.2) entries, one where none came
    assert sizes.mean() == pytest.approx(at_least_one, abs=0.02)
    assert sizes.min() == 1
    assert np.asarray(mdps.rewards).mean() == pytest.approx(0.5, abs=0.02)
    assert mdps.discount == 0.9
    np.testing.assert_allclose(mdps.start, 0.2)


@pytest.mark.slow
def test_the_first_instances_and_environments_stay_when_more_are_asked_for():
    few, many = random_mdps(KEY, 2, 3), random_mdps(KEY, 4, 6)
    np.testing.assert_array_equal(few.transitions, many.transitions[:2, :3])
    np.testing.assert_array_equal(few.rewards, many.rewards[:2])
    train, test = split_envs(many, 2)
    np.testing.assert_array_equal(jnp.concatenate([train.transitions, test.transitions], axis=1), many.transitions)


@pytest.mark.slow
def test_double_precision_is_the_same_instance():
    single = random_mdps(KEY, 2, 3)
    with jax.enable_x64(True):
        double = random_mdps(KEY, 2, 3, dtype=jnp.float64)
        assert double.transitions.dtype == jnp.float64
        rows = np.asarray(double.transitions).sum(-1)
    np.testing.assert_allclose(rows, 1, atol=1e-15)
    np.testing.assert_allclose(single.transitions, np.asarray(double.transitions), atol=1e-6)


@pytest.mark.parametrize("kappa", [0.4, *(pytest.param(k, marks=pytest.mark.slow) for k in (0.0, 1.0))])
@pytest.mark.slow
def test_the_kappa_series_lies_around_its_centre(kappa):
    mdps = random_mdps_around(KEY, 20, kappa)
    mdps.check()
    centre = np.asarray(mdps.transitions[:, 0])
    others = np.asarray(mdps.transitions[:, 1:])
    partly = ~np.all(centre > 0, axis=-1)
    on_support = np.where((centre > 0)[:, None], others, 0).sum(-1)
    np.testing.assert_allclose(np.moveaxis(on_support, 1, 0)[:, partly], 1 - kappa, atol=1e-5)
    same = random_mdps_around(KEY, 20, 0.7)
    np.testing.assert_array_equal(same.transitions[:, 0], centre)
    if kappa < 1:
        measured = np.asarray(heterogeneity(mdps.transitions[0], mdps.transitions[0, 0]))
        np.testing.assert_allclose(measured[partly[0]], kappa, atol=1e-5)


@pytest.mark.slow
def test_common_neighbours_until_some_are_missing():
    common, torn = (random_mdps_common(KEY, 10, 4, missing=m) for m in (0.0, 0.5))
    sets = lambda mdps: np.any(np.asarray(mdps.transitions) > 0, axis=3)  # noqa: E731
    assert np.array_equal(sets(common), np.broadcast_to(sets(common)[:, :1], sets(common).shape))
    assert np.all(sets(torn) <= sets(common))
    assert np.all(sets(torn).any(-1))
    assert sets(torn).sum() < 0.8 * sets(common).sum()
    torn.check()


@pytest.mark.slow
def test_the_variation_gives_every_client_a_world_of_one_instance():
    world, variation = TabularMDP(), RandomMDPs(seed=4)
    params = variation.params(world, 3)
    later = RandomMDPs(seed=4, first=2).params(world, 2)
    np.testing.assert_array_equal(params.transitions[2], later.transitions[0])
    np.testing.assert_array_equal(params.rewards[0], params.rewards[2])
    assert variation.worlds(world, 3)["distance"].shape == (3,)
    assert hash(variation) == hash(RandomMDPs(seed=4))


@pytest.mark.parametrize(
    ("variation", "world", "sentence"),
    [
        (RandomMDPs(), CartPole(), "but CartPole has physics"),
        (RandomMDPs(density=1.5), TabularMDP(), r"variation\.density = 1\.5 is out of range"),
        (RandomMDPs(seed=-1), TabularMDP(), r"variation\.seed = -1 is out of range"),
        (RandomMDPs(first=-1), TabularMDP(), r"variation\.first = -1 is out of range"),
    ],
)
def test_refuses(variation, world, sentence):
    with pytest.raises(ValueError, match=sentence):
        variation.check(world, 3)
