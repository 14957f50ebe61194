"""The worst successor: expectiles against their definition, both forms by hand, and what `omega = 0` gives."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyfed.agents import WorstCase
from polyfed.agents.worst_case import expectile_loss

OBSERVED = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
NEXT_VALUES = jnp.array([3.0, -1.0, 5.0, 2.0, -4.0])
ALIVE = jnp.array([True, True, True, False, True])


def begin(part, rate=0.05):
    optimizer = optax.sgd(rate)
    form = {"hidden": (8,), "activation": "tanh", "optimizer": optimizer}
    return part.init(jax.random.key(0), 2, **form), optimizer


def expectile(values, tau):
    """By its first-order condition: `tau sum (v - e)+ = (1 - tau) sum (e - v)+`, found by bisection."""
    low, high = min(values), max(values)
    for _ in range(200):
        e = (low + high) / 2
        slope = tau * np.maximum(values - e, 0).sum() - (1 - tau) * np.maximum(e - values, 0).sum()
        low, high = (e, high) if slope > 0 else (low, e)
    return e


@pytest.mark.parametrize("tau", [0.01, 0.1, 0.5])
def test_the_loss_is_least_at_the_expectile(tau):
    values = np.random.default_rng(0).normal(size=50)
    guesses = np.linspace(values.min(), values.max(), 4001)
    losses = np.asarray(expectile_loss(values[:, None] - guesses, tau)).mean(axis=0)
    assert guesses[losses.argmin()] == pytest.approx(expectile(values, tau), abs=2e-3)
    if tau == 0.5:
        assert expectile(values, tau) == pytest.approx(values.mean(), abs=1e-9)


def test_the_loss_is_the_naive_one():
    errors = np.random.default_rng(1).normal(size=20).astype(np.float32)
    for error, given in zip(errors, expectile_loss(errors, 0.01), strict=True):
        assert float(given) == pytest.approx((0.99 if error < 0 else 0.01) * error**2, rel=1e-5)


def test_the_smaller_tau_the_nearer_to_the_least_value():
    values = np.array([0.0, 1.0, 2.0, 10.0])
    found = [expectile(values, tau) for tau in (0.5, 0.1, 0.01, 1e-4)]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(values.mean())
    assert found[-1] == pytest.approx(0.0, abs=2e-3)


@pytest.mark.parametrize("masked", [True, False])
def test_a_step_is_gradient_descent_by_hand(masked):
    """Adam left out: plain gradient descent on a network of one hidden layer, in float64, three steps."""
    part = WorstCase(tau=0.2, masked=masked)
    state, optimizer = begin(part)
    weights = [np.asarray(x, np.float64) for layer in state.network.layers for x in (layer.weight, layer.bias)]
    for _ in range(3):
        w1, b1, w2, b2 = weights
        gradient, losses, before = [np.zeros_like(w) for w in weights], [], []
        for s, v, alive in zip(np.asarray(OBSERVED), np.asarray(NEXT_VALUES), np.asarray(ALIVE), strict=True):
            target = v if alive or not masked else 0.0
            hidden = np.tanh(w1 @ s + b1)
            error = target - (w2 @ hidden + b2)[0]
            weight = 0.8 if error < 0 else 0.2
            losses.append(weight * error**2)
            before.append(target - error)
            out = np.array([-2 * weight * error]) / len(NEXT_VALUES)
            back = (w2.T @ out) * (1 - hidden**2)
            for g, add in zip(gradient, (np.outer(back, s), back, np.outer(out, hidden), out), strict=True):
                g += add
        weights = [w - 0.05 * g for w, g in zip(weights, gradient, strict=True)]
        state, worst, loss = part.learn(state, OBSERVED, NEXT_VALUES, ALIVE, optimizer)
        np.testing.assert_allclose(worst, before, rtol=1e-4, atol=1e-5)
        assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
        leaves = [x for layer in state.network.layers for x in (layer.weight, layer.bias)]
        for mine, theirs in zip(weights, leaves, strict=True):
            np.testing.assert_allclose(theirs, mine, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("masked", "least"), [(True, (-4.0, -1.0)), (False, (-4.0, -1.0))])
def test_learns_the_least_successor_of_each_state(masked, least):
    """Of the second state the successors are worth -1 and 2, the latter terminal: 0 if masked, and -1 is less."""
    part = WorstCase(tau=0.01, masked=masked)
    optimizer = optax.adam(0.02)
    state = part.init(jax.random.key(0), 2, hidden=(16,), activation="tanh", optimizer=optimizer)
    values = [NEXT_VALUES[0::2], jnp.where(ALIVE | (not masked), NEXT_VALUES, 0.0)[1::2]]
    learn = lambda state, _: (part.learn(state, OBSERVED, NEXT_VALUES, ALIVE, optimizer)[0], None)  # noqa: E731
    state, _ = jax.lax.scan(learn, state, None, length=3000)
    found = state.network(jnp.eye(2))[:, 0]
    np.testing.assert_allclose(found, [expectile(np.asarray(v, np.float64), 0.01) for v in values], atol=0.02)
    np.testing.assert_allclose(found, least, atol=0.25)


def test_what_a_target_adds_is_the_mixture():
    """Masked: a terminal successor is worth 0, but the worst one still counts; the authors': `y = r` there."""
    worst, bootstrap = jnp.array([-2.0, -3.0, 0.5, 1.0, -5.0]), jnp.where(ALIVE, 0.9, 0.0)
    for masked in (True, False):
        given = WorstCase(omega=0.3, masked=masked).future(NEXT_VALUES, worst, bootstrap, jnp.float32(0.9))
        for i in range(5):
            sampled, least = float(NEXT_VALUES[i]), float(worst[i])
            if ALIVE[i]:
                expected = 0.9 * (0.7 * sampled + 0.3 * least)
            else:
                expected = 0.9 * 0.3 * least if masked else 0.0
            assert float(given[i]) == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("masked", [True, False])
def test_without_trust_in_the_worst_it_is_the_usual_target_bit_for_bit(masked):
    random = np.random.default_rng(0)
    value, worst, reward = random.normal(size=(3, 1000)).astype(np.float32)
    bootstrap = np.where(random.random(1000) < 0.2, 0.0, np.float32(0.99)).astype(np.float32)
    part = WorstCase(omega=jnp.float32(0.0), masked=masked)

    @jax.jit
    def targets(part, value, worst, reward, bootstrap):
        robust = reward + part.future(value, worst, bootstrap, jnp.float32(0.99))
        return robust, reward + bootstrap * value

    np.testing.assert_array_equal(*targets(part, value, worst, reward, bootstrap))


def test_full_trust_in_the_worst_leaves_the_sample_out():
    part, discount = WorstCase(omega=1.0), jnp.float32(0.9)
    given = part.future(NEXT_VALUES, jnp.ones(5), 0.9 * ALIVE, discount)
    np.testing.assert_allclose(given, np.full(5, 0.9), rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"omega": -0.1}, r"worst_case\.omega = -0\.1 is out of range: give a number from 0 to 1\."),
        ({"omega": (0.2, 1.5)}, r"worst_case\.omega = 1\.5 is out of range"),
        ({"tau": 0.0}, r"worst_case\.tau = 0 is out of range"),
        ({"tau": 0.6}, r"worst_case\.tau = 0\.6 is out of range"),
    ],
)
def test_refuses_numbers_in_a_sentence(fields, sentence):
    WorstCase(omega=0.0, tau=0.5).check()
    with pytest.raises(ValueError, match=sentence):
        WorstCase(**fields).check()
