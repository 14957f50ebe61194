import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.exchange import Hostile, PoisonedPredictions
from polyfed.types import ActionValues, Gaussians, Logits, Probabilities, Update

RANDOM = np.random.default_rng(0)
X, B = RANDOM.normal(size=(6, 4)).astype(np.float32), RANDOM.normal(size=4).astype(np.float32)
WEIGHT = np.float32([1, 2, 0, 1, 1, 3])  # the third is absent


def sent(attack, payload=X, broadcast=B):
    update, _ = attack.upload((), Update(payload, WEIGHT), broadcast, jax.random.key(0))
    np.testing.assert_array_equal(update.weight, WEIGHT)
    return np.asarray(update.payload)


HONEST = X[3:]
MEAN, SPREAD = HONEST.mean(axis=0), HONEST.std(axis=0)


@pytest.mark.parametrize(
    ("attack", "expected"),
    [
        (Hostile.sign_flip(2, 3.0), B - 3 * (X[:2] - B)),
        (Hostile.scaling(2, 10.0), B + 10 * (X[:2] - B)),
        (Hostile.constant(2), np.zeros((2, 4))),
        (Hostile.little_is_enough(2, 1.5), np.stack(2 * [MEAN - 1.5 * SPREAD])),
        (Hostile.inner_product(2, 6.0), np.stack(2 * [B - 6 * (MEAN - B)])),
    ],
    ids=["flip", "scale", "constant", "alie", "ipm"],
)
def test_attacks_agree_with_their_formula_and_leave_the_honest_alone(attack, expected):
    forged = sent(attack)
    np.testing.assert_allclose(forged[:2], expected, atol=2e-5)
    np.testing.assert_array_equal(forged[2:], X[2:])


def test_one_broadcast_per_client():
    own = RANDOM.normal(size=(6, 4)).astype(np.float32)
    np.testing.assert_allclose(sent(Hostile.sign_flip(2), broadcast=own)[:2], 2 * own[:2] - X[:2], atol=1e-5)


def test_what_an_absent_client_holds_is_not_known_to_the_liars():
    payload = X.copy()
    payload[2] = np.nan
    for attack in (Hostile.little_is_enough(2), Hostile.inner_product(2)):
        np.testing.assert_array_equal(sent(attack, payload)[:2], sent(attack)[:2])


def test_noise_has_the_deviation_that_was_asked_for_and_differs():
    payload = np.zeros((6, 10_000), np.float32)
    forged = sent(Hostile.gaussian(2, 0.5), payload, payload[0])
    np.testing.assert_allclose(forged[:2].std(axis=1), 0.5, rtol=0.05)
    assert abs(np.corrcoef(forged[:2])[0, 1]) < 0.05


def test_nobody_lies():
    np.testing.assert_array_equal(sent(Hostile.sign_flip(0)), X)


def test_whole_numbers_stay():
    update, _ = Hostile.sign_flip(1).upload((), Update(np.int32([3, 4]), np.ones(2)), jnp.int32(0), jax.random.key(0))
    assert update.payload.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("prediction", "turned"),
    [
        (Logits(jnp.ones((2, 1, 2))), Logits(jnp.array([[[-1.0, -1.0]], [[1.0, 1.0]]]))),
        (ActionValues(jnp.ones((2, 1, 1))), ActionValues(jnp.array([[[-1.0]], [[1.0]]]))),
        (
            Gaussians(jnp.ones((2, 1, 1)), jnp.ones((2, 1, 1))),
            Gaussians(jnp.array([[[-1.0]], [[1.0]]]), jnp.ones((2, 1, 1))),
        ),
        (
            Probabilities(jnp.array([[[0.5, 0.25, 0.1875, 0.0625]]] * 2)),
            Probabilities(jnp.array([[[0.0625, 0.1875, 0.25, 0.5]], [[0.5, 0.25, 0.1875, 0.0625]]])),
        ),
    ],
    ids=["logits", "values", "gaussians", "probabilities"],
)
def test_predictions_are_turned_round(prediction, turned):
    update, _ = PoisonedPredictions(1).upload((), Update(prediction, np.ones(2)), prediction, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, update.payload, turned)


def test_refuses():
    with pytest.raises(ValueError, match="let them send Predictions, or use Hostile"):
        PoisonedPredictions(1).upload((), Update(X, WEIGHT), B, jax.random.key(0))
    for attack in (Hostile(num_hostile=-1), PoisonedPredictions(-1)):
        with pytest.raises(ValueError, match=r"transforms\.num_hostile"):
            attack.check()
    with pytest.raises(ValueError, match=r"transforms\.noise"):
        Hostile(noise=-1.0).check()
