"""Divergences against their definitions in float64, their gradients against numeric ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from polyfed.agents.divergence import as_kind, check_divergence, divergence, log_probabilities
from polyfed.types import ActionValues, Gaussians, Logits, Probabilities

DRAW = np.random.default_rng(0)
TARGET, OWN = DRAW.normal(size=(2, 7, 3))
APART = jax.jit(divergence, static_argnames="direction")
SLOPE = jax.jit(
    lambda *given, direction: jax.grad(divergence, 1)(*given[:2], direction, *given[2:]), static_argnames="direction"
)


def softmax(logits):
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def naive(target, own, direction, temperature):
    """State by state, action by action."""
    total = 0.0
    for wanted, given in zip(softmax(target / temperature), softmax(own / temperature), strict=True):
        for p, q in zip(wanted, given, strict=True):
            total += {"forward": p * np.log(p / q), "reverse": q * np.log(q / p), "squared": (p - q) ** 2}[direction]
    return temperature**2 * total / len(target)


def as_logits(x):
    return Logits(jnp.asarray(x, jnp.float32))


def as_probabilities(x):
    return Probabilities(jnp.asarray(softmax(x), jnp.float32))


@pytest.mark.parametrize("kind", [as_logits, as_probabilities])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("direction", ["forward", "reverse", "squared"])
def test_of_categorical_predictions(direction, temperature, kind):
    found = APART(kind(TARGET), kind(OWN), direction, temperature)
    assert float(found) == pytest.approx(naive(TARGET, OWN, direction, temperature), rel=2e-6)
    assert float(APART(kind(OWN), kind(OWN), direction, temperature)) == 0.0


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("direction", ["forward", "reverse", "squared"])
def test_gradients_are_the_numeric_ones(direction, temperature):
    found = SLOPE(as_logits(TARGET), as_logits(OWN), temperature, direction=direction).logits
    numeric = np.zeros_like(OWN)
    for place in np.ndindex(*OWN.shape):
        step = np.zeros_like(OWN)
        step[place] = 1e-5
        ends = [naive(TARGET, OWN + sign * step, direction, temperature) for sign in (1, -1)]
        numeric[place] = (ends[0] - ends[1]) / 2e-5
    np.testing.assert_allclose(found, numeric, atol=2e-7, rtol=2e-5)


def test_the_two_directions_differ_where_one_side_excludes_an_action():
    """Forward punishes an agent that excludes what the consensus allows, reverse one that allows what it excludes."""
    even, sure = Probabilities(jnp.array([[0.5, 0.5]])), Probabilities(jnp.array([[1.0, 0.0]]))
    forward, reverse = APART(even, sure, "forward"), APART(even, sure, "reverse")
    assert float(forward) > 30
    assert float(reverse) == pytest.approx(np.log(2), rel=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse", "squared"])
def test_certain_predictions_give_finite_values_and_gradients(direction):
    sure = Probabilities(jnp.array([[1.0, 0.0], [0.0, 1.0]]))
    loss = lambda logits: APART(sure, Probabilities(jax.nn.softmax(logits)), direction)  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(jnp.array([[-300.0, 300.0], [-300.0, 300.0]]))
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_where_both_agree_the_gradient_is_zero_to_the_last_bits():
    for direction in ("forward", "reverse", "squared"):
        slope = SLOPE(as_logits(OWN), as_logits(OWN), 1.0, direction=direction).logits
        assert np.max(np.abs(slope)) < 4e-9


def test_hot_softmax_matches_logits():
    """At high temperature the gradient is the centred difference of logits over the number of actions, Hinton eq. 4."""
    centred = [x - x.mean(axis=1, keepdims=True) for x in (OWN, TARGET)]
    wanted = (centred[0] - centred[1]) / OWN.shape[1] / len(OWN)
    found = SLOPE(as_logits(TARGET), as_logits(OWN), 1e3, direction="forward").logits
    np.testing.assert_allclose(found, wanted, atol=5e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_of_normal_distributions(direction):
    mean, scale = DRAW.normal(size=(2, 4, 2)), DRAW.uniform(0.5, 2.0, size=(2, 4, 2))
    total = 0.0
    for place in np.ndindex(4, 2):
        pair = [norm(m[place], s[place]) for m, s in zip(mean, scale, strict=True)]
        p, q = pair if direction == "forward" else pair[::-1]
        total += quad(lambda x, p=p, q=q: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -30, 30, limit=200)[0]
    target, own = (
        Gaussians(jnp.asarray(m, jnp.float32), jnp.asarray(s, jnp.float32)) for m, s in zip(mean, scale, strict=True)
    )
    assert float(APART(target, own, direction)) == pytest.approx(total / 8, rel=1e-5)
    assert float(APART(own, own, direction)) == 0.0
    gradient = SLOPE(own, own, 1.0, direction=direction)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_of_values():
    found = APART(*(ActionValues(jnp.asarray(x, jnp.float32)) for x in (TARGET, OWN)))
    assert float(found) == pytest.approx(np.mean((TARGET - OWN) ** 2), rel=1e-6)


def test_kinds_are_converted():
    values = jnp.asarray(OWN, jnp.float32)
    boltzmann = as_kind(ActionValues(values), "probabilities", 0.5)
    np.testing.assert_allclose(boltzmann.probabilities, softmax(OWN / 0.5), atol=1e-6)
    logs = as_kind(Logits(values + 3), "logits").logits
    np.testing.assert_allclose(logs, np.log(softmax(OWN)), atol=1e-6)
    back = as_kind(as_kind(as_probabilities(OWN), "logits"), "probabilities").probabilities
    np.testing.assert_allclose(back, softmax(OWN), atol=1e-6)
    given = ActionValues(values)
    assert as_kind(given, "own") is given
    kept = as_probabilities(OWN)
    assert as_kind(kept, "probabilities") is kept


def test_gradients_flow_through_a_conversion():
    """To logits of a Boltzmann policy: those of the values, divided by the temperature."""
    target = as_probabilities(TARGET)
    loss = lambda q: APART(target, as_kind(ActionValues(q), "probabilities", 0.5))  # noqa: E731
    wanted = (softmax(OWN / 0.5) - softmax(TARGET)) / 0.5 / len(OWN)
    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(OWN, jnp.float32)), wanted, atol=1e-6)


def test_probabilities_that_sum_to_nearly_one_are_made_to():
    logs = log_probabilities(Probabilities(jnp.array([[0.25, 0.5]])))
    np.testing.assert_allclose(jnp.exp(logs), [[1 / 3, 2 / 3]], atol=1e-6)


def test_refusals():
    values, policy = ActionValues(jnp.zeros((1, 2))), Probabilities(jnp.full((1, 2), 0.5))
    normal = Gaussians(jnp.zeros((1, 1)), jnp.ones((1, 1)))
    with pytest.raises(ValueError, match="A target of ActionValues has no divergence from Probabilities"):
        APART(values, policy)
    with pytest.raises(ValueError, match=r"direction = 'forwards' is not known: did you mean 'forward'\?"):
        APART(policy, policy, "forwards")
    with pytest.raises(ValueError, match="payload = 'logit' is not known"):
        as_kind(policy, "logit")
    with pytest.raises(ValueError, match="Normal distributions have no probabilities of a finite set of actions"):
        as_kind(normal, "probabilities")
    with pytest.raises(ValueError, match="whose difference could be squared"):
        check_divergence(normal, "squared", 1.0)
    with pytest.raises(ValueError, match="which has no reverse"):
        check_divergence(values, "reverse", 1.0)
    for prediction in (values, normal):
        with pytest.raises(ValueError, match=r"are not softened by distillation\.temperature"):
            check_divergence(prediction, "forward", (1.0, 2.0))
    for direction in ("forward", "reverse", "squared"):
        check_divergence(policy, direction, 2.0)
