"""The rule whose server walks: the parts of the contract that hold for it, and where it goes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.aggregation import Consensus
from polyfed.aggregation.shared_walk import SharedWalk, drawn_action
from polyfed.environments import CartPole, Dataset, Digits, Pendulum
from polyfed.environments.spaces import Box
from polyfed.environments.walk import begin, go_on
from polyfed.testing.compare import assert_same
from polyfed.types import ActionValues, Gaussians, Logits, Probabilities, Update, Visit

RULE = SharedWalk(CartPole())
ROWS = np.array([[[0.2, 0.8]], [[0.6, 0.4]], [[1.0, 0.0]]], np.float32)
WEIGHT = np.array([1.0, 3.0, 2.0], np.float32)


def message(rows=ROWS, at=0.0, kind=Probabilities):
    """What clients send; what they say of the state is not read."""
    here = np.full((len(rows), 4), at, np.float32)
    return Visit(here, kind(rows), here)


@functools.partial(jax.jit, static_argnames="rule")
def one_round(rule, payload, weight):
    """From the first state."""
    state = rule.init(jax.tree.map(lambda x: x[0], payload))
    return rule.aggregate(state, Update(payload, weight))[:2]


def test_the_consensus_is_made_where_the_server_stands_and_the_next_state_follows_from_it():
    merged, state = one_round(RULE, message(), WEIGHT)
    first = begin(CartPole())
    np.testing.assert_allclose(merged.prediction.probabilities, [[4 / 6, 2 / 6]], rtol=1e-6)
    np.testing.assert_array_equal(merged.at, first.observation)
    k_act, k_step = jax.random.split(jax.random.fold_in(jax.random.key(0), 0))
    action = np.argmax(np.log([4 / 6, 2 / 6]) + np.asarray(jax.random.gumbel(k_act, (2,))))
    np.testing.assert_allclose(merged.following, go_on(CartPole(), first, action, k_step).observation, rtol=1e-6)
    np.testing.assert_array_equal(state.place.observation, merged.following)
    assert int(state.steps) == 1


def test_order_scale_absent_clients_and_what_they_say_of_the_state_do_not_matter():
    expected = one_round(RULE, message(), WEIGHT)[0]
    order = [2, 0, 1]
    assert_same(one_round(RULE, message(ROWS[order], at=7.0), 8 * WEIGHT[order])[0], expected, "moved")
    for content in (0.0, np.inf, np.nan):
        rows = np.concatenate([ROWS, np.full((1, 1, 2), content, np.float32)])
        merged = one_round(RULE, message(rows, at=content), np.append(WEIGHT, 0).astype(np.float32))[0]
        assert_same(merged, expected, "an absent client is heard")


def test_when_nobody_came_there_are_zeros_and_the_server_stays():
    merged, state = one_round(RULE, message(np.full_like(ROWS, np.nan)), 0 * WEIGHT)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(merged))
    assert_same(state, RULE.init(jax.tree.map(lambda x: x[0], message())), "the server moved", 0.0)


@pytest.mark.slow
def test_numpy_and_several_seeds_at_once_are_the_same():
    expected = one_round(RULE, message(), WEIGHT)[0]
    plain = RULE.aggregate(RULE.init(jax.tree.map(lambda x: x[0], message())), Update(message(), WEIGHT))[0]
    assert_same(plain, expected, "NumPy differs")
    both = jax.tree.map(lambda x: np.stack([x, x]), message())
    stacked = jax.vmap(lambda payload: one_round(RULE, payload, WEIGHT)[0])(both)
    assert_same(jax.tree.map(lambda x: x[1], stacked), expected, "several seeds differ")


def test_a_walk_goes_on_where_an_episode_ends():
    environment = CartPole(max_steps=3)
    place = begin(environment)
    for step in range(3):
        place = go_on(environment, place, jnp.int32(1), jax.random.key(step))
    assert np.abs(np.asarray(place.observation)).max() < 0.05  # a reset
    assert np.abs(np.asarray(go_on(environment, place, jnp.int32(1), jax.random.key(3)).observation)).max() > 0.05


@pytest.mark.slow
def test_actions_are_drawn_from_the_policy():
    keys = jax.random.split(jax.random.key(0), 4000)
    bounded = Box(low=(-1.0,), high=(1.0,))
    drawn = jax.vmap(lambda key: drawn_action(Logits(jnp.log(jnp.array([[0.9, 0.1]])) + 5), None, key))(keys)
    assert abs(float(drawn.mean()) - 0.1) < 0.02
    normal = Gaussians(jnp.array([[0.3]]), jnp.array([[0.2]]))
    drawn = np.asarray(jax.vmap(lambda key: drawn_action(normal, bounded, key))(keys))
    assert abs(drawn.mean() - 0.3) < 0.02
    assert abs(drawn.std() - 0.2) < 0.02
    assert drawn.max() <= 1.0


def test_normal_policies_walk_too():
    rows = np.array([[[0.5]], [[1.5]]], np.float32)
    here = np.zeros((2, 3), np.float32)
    merged, _ = one_round(SharedWalk(Pendulum()), Visit(here, Gaussians(rows, np.ones_like(rows)), here), np.ones(2))
    np.testing.assert_allclose(merged.prediction.mean, [[1.0]])
    assert np.isfinite(merged.following).all()


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (Probabilities(ROWS), "clients share a Probabilities: let them send ServerStates, or use Consensus"),
        (message(kind=ActionValues), "no policy: use distillation.payload"),
        (Visit(np.zeros((1, 3)), Probabilities(ROWS), np.zeros((1, 3))), "a state is 3 numbers"),
    ],
)
def test_what_it_cannot_merge_is_refused(payload, sentence):
    with pytest.raises(ValueError, match=sentence):
        RULE.init(jax.tree.map(lambda x: x[0], payload))


def test_the_rule_passes_on_what_its_consensus_refuses():
    SharedWalk(CartPole()).check()
    with pytest.raises(ValueError, match="nobody acts in Dataset"):
        SharedWalk(Dataset(Digits())).check()
    with pytest.raises(ValueError, match="has nothing left"):
        SharedWalk(CartPole(), Consensus("trimmed_mean", trim=2)).check_clients(4)
    with pytest.raises(ValueError, match=r"rule\.seed"):
        SharedWalk(CartPole(), seed=-1).check()
