"""Least next values against a naive loop, and a network that finds an expectile which is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from polyfed.agents.networks import MLP
from polyfed.environments import CartPole, Explicit
from polyfed.environments.cartpole import CartPoleState
from polyfed.studies.least_value import converged, exact_expectile, nearest_least, next_values, scores, successors
from polyfed.studies.tabular_expectiles import FAMILIES, tabular_scores

WORLDS = Explicit({"half_length": (0.3, 0.7)}).params(CartPole(), 2)
STATES = np.array([[0.0, 0.1, 0.02, -0.3], [2.39, 1.0, 0.0, 0.0], [0.0, 0.0, 0.2, 1.0]], np.float32)


def test_successors_are_those_of_the_environment() -> None:
    after, alive = successors(CartPole(), jnp.asarray(STATES), WORLDS)
    for i, state in enumerate(STATES):
        for j in range(4):
            world = jax.tree.map(lambda x, j=j: x[j // 2], WORLDS)
            before = CartPoleState(*map(jnp.asarray, state), time=jnp.int32(0))
            _, step = CartPole().step(jax.random.key(0), before, jnp.int32(j % 2), world)
            np.testing.assert_allclose(after[i, j], step.observation, rtol=1e-6)
            assert bool(alive[i, j]) != bool(step.terminated)
    assert alive.tolist() == [[True] * 4, [False] * 4, [False] * 4]


def test_a_successor_that_ends_counts_as_nothing() -> None:
    network = MLP(4, 2, hidden=(8,), activation="relu", key=jax.random.key(0))
    after, alive = successors(CartPole(), jnp.asarray(STATES), WORLDS)
    values = np.asarray(next_values(network, after, alive))
    np.testing.assert_allclose(values[0], np.asarray(network(after[0])).max(-1), rtol=1e-6)
    assert not values[1:].any()
    assert next_values(network, after[1:], True).any()


def test_the_nearest_minimum_is_that_of_a_naive_loop() -> None:
    random = np.random.default_rng(0)
    states, stored, values = random.normal(size=(7, 3)), random.normal(size=(40, 3)) * (1, 5, 9), random.normal(size=40)
    least, far = nearest_least(states, stored, values, 4)
    for i, state in enumerate(states):
        distance = np.sqrt((((stored - state) / stored.std(0)) ** 2).sum(1))
        order = np.argsort(distance)[:4]
        assert least[i] == values[order].min()
        assert far[i] == pytest.approx(distance[order[0]])


@pytest.mark.parametrize("tau", [0.5, 0.1, 0.001])
def test_exact_expectiles_are_minima_of_their_loss(tau) -> None:
    random = np.random.default_rng(1)
    values, chances = random.normal(size=6), random.dirichlet(np.ones(6))
    loss = lambda e: np.sum(chances * np.abs(tau - (values < e)) * (values - e) ** 2)  # noqa: E731
    bounds = values.min(), values.max()
    best = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    assert exact_expectile(values, chances, tau) == pytest.approx(best.x, abs=1e-4)


def test_a_network_that_is_trained_on_finds_the_expectiles() -> None:
    states = jnp.eye(3)
    values = jnp.array([[0.0, 1.0], [2.0, 2.0], [-1.0, 3.0]])
    network = MLP(3, 1, hidden=(16,), activation="relu", key=jax.random.key(0))
    budget = {"num_steps": 3000, "batch_size": 32, "learning_rate": 5e-3}
    done = converged(network, (states, values), 0.1, jax.random.key(1), **budget)
    expected = exact_expectile(np.asarray(values), np.full((3, 2), 0.5), 0.1)
    np.testing.assert_allclose(expected, [0.1, 2.0, -0.6], atol=1e-9)
    np.testing.assert_allclose(done(states)[:, 0], expected, atol=0.05)


def test_scores_are_those_of_scipy() -> None:
    random = np.random.default_rng(2)
    found, least = random.normal(size=20), random.normal(size=20)
    score = scores(found, least, least + 1)
    assert score["pearson"] == pytest.approx(stats.pearsonr(found, least)[0])
    assert score["spearman"] == pytest.approx(stats.spearmanr(found, least)[0])
    assert score["bias"] == pytest.approx(np.mean(found - least))
    assert score["share"] == pytest.approx(1 - score["bias"])
    assert np.isnan(scores(found, np.ones(20), np.ones(20))["pearson"])


@pytest.mark.parametrize("family", FAMILIES)
def test_expectiles_of_finite_environments_go_to_the_minimum(family) -> None:
    found = tabular_scores(family, (0.5, 0.1, 0.001, 1e-6), (0,), 3)
    shares = [found[tau][0]["share"] for tau in (0.5, 0.1, 0.001, 1e-6)]
    assert shares[0] == pytest.approx(0, abs=1e-9)  # the mean
    assert shares == sorted(shares)
    assert shares[-1] > 0.99
    # the expectile lies about tau (mean - minimum) / chance above the minimum, where tau is small beside the chance
    row = found[1e-6][0]
    assert row["bias"] < 100 * 1e-6 * row["gap"] / row["rarest"]
