"""Planning oracles against naive loops, and the robust fixed point against its definition."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import planning

DISCOUNT = 0.9


def draw(seed, num_states=4, num_actions=3):
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.ones(num_states), (num_states, num_actions))
    policy = rng.dirichlet(np.ones(num_actions), num_states)
    return transitions, rng.uniform(size=(num_states, num_actions)), policy


@pytest.mark.parametrize("num_states", [4, 40])  # unrolled, and not
def test_policy_values_and_visits_solve_their_equations(num_states):
    transitions, rewards, policy = draw(0, num_states)
    start = np.full(num_states, 1 / num_states)
    moves, gain = np.einsum("sa,sat->st", policy, transitions), (policy * rewards).sum(1)
    known = np.linalg.solve(np.eye(num_states) - DISCOUNT * moves, gain)
    values = planning.policy_values(jnp.asarray(policy), jnp.asarray(transitions), jnp.asarray(rewards), DISCOUNT)
    np.testing.assert_allclose(values, known, rtol=1e-5)
    visited = planning.state_distribution(jnp.asarray(policy), jnp.asarray(transitions), jnp.asarray(start), DISCOUNT)
    flow = (1 - DISCOUNT) * start @ np.linalg.inv(np.eye(num_states) - DISCOUNT * moves)
    np.testing.assert_allclose(visited, flow, rtol=1e-4)
    assert float(visited.sum()) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_batch_is_its_instances_side_by_side():
    drawn = [[jnp.asarray(x, jnp.float32) for x in draw(seed)] for seed in range(5)]
    moves, rewards, policies = (jnp.stack(x, axis=-1) for x in zip(*drawn, strict=True))
    together = planning.policy_values(policies, moves, rewards, DISCOUNT)
    stacked = jax.vmap(lambda p, m, r: planning.policy_values(p, m, r, DISCOUNT), -1, -1)(policies, moves, rewards)
    for i, (move, reward, policy) in enumerate(drawn):
        one = planning.policy_values(policy, move, reward, DISCOUNT)
        np.testing.assert_allclose(together[:, i], one, rtol=1e-5)
        np.testing.assert_allclose(stacked[:, i], one, rtol=1e-5)


def test_value_iteration_beats_every_deterministic_policy():
    transitions, rewards, _ = draw(1, 3, 2)
    q = planning.value_iteration(jnp.asarray(transitions), jnp.asarray(rewards), DISCOUNT)
    values = []
    for actions in itertools.product(range(2), repeat=3):
        moves, gain = transitions[np.arange(3), actions], rewards[np.arange(3), actions]
        values.append(np.linalg.solve(np.eye(3) - DISCOUNT * moves, gain))
    np.testing.assert_allclose(np.max(q, axis=1), np.max(values, axis=0), rtol=1e-5)


def test_the_robust_value_is_the_least_over_the_covering_set():
    """The adversary is a player too: brute force over its choices of one neighbour per state and action."""
    transitions, rewards, _ = draw(2, 3, 2)
    neighbours = np.array([[True, True, False], [True, True, True], [False, True, True]])
    transitions = np.where(neighbours[:, None], transitions, 0)
    transitions /= transitions.sum(-1, keepdims=True)
    omega = 0.3
    known = planning.robust_value_iteration(
        jnp.asarray(transitions), jnp.asarray(rewards), DISCOUNT, omega=omega, neighbours=jnp.asarray(neighbours)
    )
    sets = [np.flatnonzero(row) for row in neighbours]
    least = np.full(3, -np.inf)
    for actions in itertools.product(range(2), repeat=3):
        worst = np.full(3, np.inf)
        for chosen in itertools.product(*sets):
            moves = (1 - omega) * transitions[np.arange(3), actions] + omega * np.eye(3)[list(chosen)]
            value = np.linalg.solve(np.eye(3) - DISCOUNT * moves, rewards[np.arange(3), actions])
            worst = np.minimum(worst, value)
        least = np.maximum(least, worst)
    np.testing.assert_allclose(np.max(known, axis=1), least, rtol=1e-5)


def test_float64_reaches_what_was_asked_for():
    transitions, rewards, _ = draw(3)
    with jax.enable_x64(True):
        given = jnp.asarray(transitions), jnp.asarray(rewards)
        neighbours = jnp.ones((4, 4), bool)
        q = planning.robust_value_iteration(*given, DISCOUNT, omega=0.2, neighbours=neighbours, tolerance=1e-10)
        again = planning.robust_backup(jnp.max(q, axis=1), *given, DISCOUNT, omega=0.2, neighbours=neighbours)
        assert float(jnp.max(jnp.abs(again - q))) < 1e-10
        assert q.dtype == jnp.float64


def test_no_worst_neighbour_is_the_plain_backup_bit_for_bit():
    transitions, rewards, _ = draw(4)
    given = jnp.arange(4.0), jnp.asarray(transitions), jnp.asarray(rewards), DISCOUNT
    robust = planning.robust_backup(*given, omega=0.0, neighbours=jnp.ones((4, 4), bool))
    np.testing.assert_array_equal(robust, planning.backup(*given))


def test_successors_are_drawn_with_their_probabilities():
    rows = jnp.array([[[0.0, 0.25, 0.75, 0.0]]])
    drawn = jax.vmap(lambda u: planning.sample_successors(jnp.full((1, 1), u), rows))(jnp.linspace(0, 0.999999, 4001))
    shares = np.bincount(np.ravel(drawn), minlength=4) / 4001
    np.testing.assert_allclose(shares, [0, 0.25, 0.75, 0], atol=1e-3)
