"""Squashed Gaussians, soft values and the temperature's loss against integrals and naive NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.networks import MLP
from polyfed.agents.soft_actor_critic import (
    LOG_SCALE,
    gaussians,
    soft_value,
    squashed_log_prob,
    squashed_sample,
    temperature_loss,
)
from polyfed.types import Gaussians

POLICIES = [(0.0, 1.0), (0.7, 0.3), (-1.5, 0.8), (0.2, 2.0)]  # mean and scale before the squashing


def density(mean, scale, before):
    """The density of `tanh(u)`: that of `u`, divided by the slope (change of variables), in float64."""
    chance = np.exp(-0.5 * ((before - mean) / scale) ** 2) / (scale * np.sqrt(2 * np.pi))
    return chance / (1 - np.tanh(before) ** 2)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


log_prob_of = jax.jit(lambda mean, scale, before: squashed_log_prob(Gaussians(mean, scale), before))


@jax.jit
def actor_and_critics():
    keys = jax.random.split(jax.random.key(0), 3)
    form = {"hidden": (8,), "activation": "tanh"}
    return MLP(3, 4, key=keys[0], **form), tuple(MLP(5, 1, key=k, **form) for k in keys[1:])


@pytest.mark.parametrize(("mean", "scale"), POLICIES)
def test_the_density_of_actions_is_that_of_the_change_of_variables_and_integrates_to_one(mean, scale):
    action = np.linspace(-1, 1, 200_001)[1:-1]  # every action, not every draw
    before = np.arctanh(action)
    given = np.float32([mean]), np.float32([scale]), before.astype(np.float32)[:, None]
    log_prob = np.asarray(log_prob_of(*given), np.float64)
    inner = np.abs(before) < 4
    np.testing.assert_allclose(np.exp(log_prob)[inner], density(mean, scale, before)[inner], rtol=1e-3, atol=1e-6)
    assert np.trapezoid(np.exp(log_prob), action) == pytest.approx(1.0, abs=5e-3)


def test_entries_of_an_action_are_independent():
    mean, scale, before = normal(0, 5, 2), np.exp(normal(1, 5, 2)), normal(2, 5, 2)
    each = [log_prob_of(*(x[:, i : i + 1] for x in (mean, scale, before))) for i in (0, 1)]
    np.testing.assert_allclose(log_prob_of(mean, scale, before), np.add(*each), rtol=1e-5, atol=1e-6)


def test_draws_are_squashed_and_their_mean_log_density_is_minus_the_entropy():
    mean, scale = 0.7, 0.3
    noise = normal(0, 20_000, 1)
    draw = jax.jit(lambda noise: squashed_sample(Gaussians(jnp.full_like(noise, mean), jnp.float32(scale)), noise))
    action, log_prob = draw(noise)
    np.testing.assert_allclose(action, np.tanh(mean + scale * noise), rtol=1e-5, atol=1e-6)
    before = np.linspace(mean - 8 * scale, mean + 8 * scale, 20_001)
    chance = np.exp(-0.5 * ((before - mean) / scale) ** 2) / (scale * np.sqrt(2 * np.pi))
    entropy = -np.trapezoid(chance * np.log(density(mean, scale, before)), before)
    assert -np.mean(log_prob) == pytest.approx(entropy, abs=0.02)


def test_far_draws_have_finite_densities_and_slopes():
    one = lambda mean, u: squashed_log_prob(Gaussians(mean, jnp.ones(1)), u)  # noqa: E731
    far = np.float32([-50.0, -15.0, 15.0, 50.0])
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(one, argnums=(0, 1))))(0 * far[:, None], far[:, None])
    expected = -0.5 * far**2 - 0.5 * np.log(2 * np.pi) - (2 * np.log(2) - 2 * abs(far))  # tanh' is 4 e^(-2|u|)
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(slopes[0][:, 0], far, rtol=1e-5)
    np.testing.assert_allclose(slopes[1][:, 0], -far + 2 * np.sign(far), rtol=1e-5)


def forward(network, x):
    """In float64."""
    (w1, b1), (w2, b2) = ((np.asarray(y.weight, np.float64), np.asarray(y.bias, np.float64)) for y in network.layers)
    return w2 @ np.tanh(w1 @ x + b1) + b2


def test_half_of_what_an_actor_says_is_its_mean_and_half_the_clipped_logarithm_of_its_scale():
    actor, _ = actor_and_critics()
    wide = jax.tree.map(lambda x: 100 * np.asarray(x), actor)
    seen = normal(1, 50, 3)
    policy = jax.jit(gaussians)(wide, seen)
    out = np.stack([forward(wide, x) for x in seen])
    np.testing.assert_allclose(policy.mean, out[:, :2], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(np.log(policy.scale), np.clip(out[:, 2:], *LOG_SCALE), rtol=1e-4, atol=1e-3)
    assert {round(float(x), 4) for x in np.log(np.ravel(policy.scale))} >= set(LOG_SCALE)


def test_soft_values_take_the_smaller_critic_and_add_the_warm_entropy():
    actor, critic = actor_and_critics()
    seen, noise = normal(1, 20, 3), normal(2, 20, 2)
    value, log_prob = jax.jit(soft_value)(actor, critic, seen, noise, 0.3)
    least = set()
    for i in range(20):
        out = forward(actor, seen[i])
        before = out[:2] + np.exp(out[2:]) * noise[i]
        logs = np.log(density(out[:2], np.exp(out[2:]), before)).sum()
        assert float(log_prob[i]) == pytest.approx(logs, abs=1e-4)
        both = [float(forward(q, np.append(seen[i], np.tanh(before)))[0]) for q in critic]
        least.add(int(np.argmin(both)))
        assert float(value[i]) == pytest.approx(min(both) - 0.3 * logs, abs=1e-4)
    assert least == {0, 1}  # neither critic is always the smaller


@pytest.mark.parametrize(("entropy", "sign"), [(-2.0, -1), (0.5, 1)])
def test_a_temperature_rises_where_entropy_is_short_of_its_target(entropy, sign):
    loss, slope = jax.jit(jax.value_and_grad(temperature_loss))(np.log(np.float32(0.25)), entropy, -1.0)
    assert float(loss) == pytest.approx(0.25 * (entropy + 1))
    assert np.sign(slope) == sign
