"""Heterogeneity against the covering set that it measures, and what is refused."""

import warnings

import jax
import numpy as np
import pytest

from polyfed.environments import random_mdps_common
from polyfed.environments.neighbours import check_neighbours, heterogeneity, reachable, warn_small_omega


def holds(centre, rows, omega):
    """Whether every row is `(1 - omega) * centre + omega * q` for some distribution `q`."""
    return bool(np.all(rows >= (1 - omega) * centre - 1e-9))


@pytest.mark.slow
def test_kappa_is_the_smallest_omega_that_covers_every_agent():
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.ones(4), (3, 2, 2)).astype(np.float32)  # three agents
    kappa = np.asarray(heterogeneity(rows))
    for s, a in np.ndindex(2, 2):
        centre = rows[:, s, a].mean(0)
        assert holds(centre, rows[:, s, a], kappa[s, a] + 1e-6)
        assert not holds(centre, rows[:, s, a], kappa[s, a] - 1e-3)


def test_equal_agents_have_none_and_different_supports_have_all():
    same = np.full((3, 1, 1, 2), 0.5, np.float32)
    apart = np.array([[[[1.0, 0.0]]], [[[0.0, 1.0]]]], np.float32)
    assert float(heterogeneity(same)[0, 0]) == 0
    assert float(heterogeneity(apart)[0, 0]) == 1


def test_warns_with_both_numbers():
    envs = random_mdps_common(jax.random.key(0), 1, num_envs=3, kappa=0.3).transitions[0]
    kappa = float(heterogeneity(envs).max())
    with pytest.warns(UserWarning, match=rf"omega = 0\.01 .* kappa = {kappa:.4g} "):
        warn_small_omega(0.01, envs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_small_omega(min(kappa + 0.01, 1.0), envs)


@pytest.mark.parametrize(
    ("neighbours", "sentence"),
    [
        ([[0, 1], [0, 0]], "State 1 has an empty neighbour set"),
        ([[1, 1], [0, 1]], "State 1 is absorbing"),
        ([[0, 1, 0], [1, 0, 0], [1, 0, 0]], "State 2 cannot be reached"),
    ],
)
def test_refuses(neighbours, sentence):
    start = np.eye(len(neighbours))[0]
    with pytest.raises(ValueError, match=sentence) as refusal:
        check_neighbours(np.array(neighbours, bool), start)
    assert str(refusal.value).count(". ") == 0


def test_accepts_what_can_be_learned():
    check_neighbours(np.array([[0, 1], [1, 0]], bool), np.array([1.0, 0.0]))
    assert reachable(np.array([[0, 1], [1, 0]], bool), np.array([0.0, 1.0])).all()
