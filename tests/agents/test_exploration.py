import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from polyfed.agents import ExponentialDecay, LinearDecay
from polyfed.agents.exploration import epsilon_greedy
from polyfed.leaves import stacked


def test_linear_decay_is_a_line_and_then_flat():
    schedule = LinearDecay(start=0.8, end=0.2, steps=60)
    known = {0: 0.8, 1: 0.79, 30: 0.5, 60: 0.2, 61: 0.2, 10**6: 0.2}
    np.testing.assert_allclose([schedule(jnp.int32(t)) for t in known], list(known.values()), rtol=1e-6)


def test_exponential_decay_follows_its_formula():
    schedule = ExponentialDecay(start=0.9, end=0.1, steps=50)
    times = [0, 1, 50, 200]
    expected = [0.1 + 0.8 * np.exp(-t / 50) for t in times]
    np.testing.assert_allclose([schedule(jnp.int32(t)) for t in times], expected, rtol=1e-6)
    assert float(schedule(jnp.int32(2**30))) == pytest.approx(0.1)


@pytest.mark.parametrize("cls", [LinearDecay, ExponentialDecay])
def test_every_client_has_its_own_schedule(cls):
    schedules = stacked(cls(start=(1.0, 0.5), end=0.1, steps=(10, 100)), 2)
    together = jax.vmap(lambda schedule: schedule(jnp.int32(5)))(schedules)
    alone = [cls(1.0, 0.1, 10)(5), cls(0.5, 0.1, 100)(5)]
    np.testing.assert_allclose(together, alone, rtol=1e-6)


@pytest.mark.parametrize("cls", [LinearDecay, ExponentialDecay])
@pytest.mark.parametrize(
    ("fields", "name"),
    [({"start": 1.5}, "start"), ({"end": -0.1}, "end"), ({"end": float("nan")}, "end"), ({"steps": 0}, "steps")],
)
def test_refuses_what_is_no_probability_or_no_time(cls, fields, name):
    cls().check()
    with pytest.raises(ValueError, match=rf"exploration\.{name} = .* is out of range"):
        cls(**fields).check()


def test_acts_at_random_as_often_as_epsilon_says():
    num_envs, num_actions, epsilon = 40_000, 4, 0.3
    values = jnp.tile(jnp.array([0.0, 5.0, 1.0, -1.0]), (num_envs, 1))
    actions = np.asarray(epsilon_greedy(values, jnp.float32(epsilon), jax.random.key(0)))
    assert actions.dtype == np.int32
    counts = np.bincount(actions, minlength=num_actions)
    expected = np.full(num_actions, epsilon / num_actions) + np.eye(num_actions)[1] * (1 - epsilon)
    assert stats.chisquare(counts, expected * num_envs).pvalue > 1e-3


def test_is_greedy_without_and_uniform_with_full_exploration():
    values = jax.random.normal(jax.random.key(1), (30_000, 3))
    greedy = epsilon_greedy(values, jnp.float32(0.0), jax.random.key(2))
    np.testing.assert_array_equal(greedy, np.argmax(values, axis=1))
    uniform = np.asarray(epsilon_greedy(values, jnp.float32(1.0), jax.random.key(2)))
    agrees = int((uniform == np.argmax(values, axis=1)).sum())  # random actions know nothing of the values
    assert stats.binomtest(agrees, 30_000, 1 / 3).pvalue > 1e-3
    assert stats.chisquare(np.bincount(uniform)).pvalue > 1e-3


def test_the_first_of_equals_is_greedy():
    assert epsilon_greedy(jnp.zeros((5, 3)), jnp.float32(0.0), jax.random.key(0)).tolist() == [0] * 5
