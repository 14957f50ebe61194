import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments.dataset import CHUNK, Dataset, Shard, shards
from polyfed.environments.digits import Digits
from polyfed.environments.splits import Dirichlet, EqualSplit, LabelShards, TestSet
from polyfed.environments.world import quantities
from polyfed.record import from_data, to_data

DATA = Dataset(Digits())
PADDING = 255


def numbered(*sizes, longest=None):
    """Shards whose images say which row they are, and whose labels are the row modulo 7; padding is `PADDING`."""
    num = longest or max(sizes)
    row = np.broadcast_to(np.arange(num), (len(sizes), num))
    padding = row >= np.asarray(sizes)[:, None]
    return Shard(
        images=jnp.asarray(np.where(padding, PADDING, row), jnp.uint8)[..., None],
        labels=jnp.asarray(np.where(padding, PADDING, row % 7), jnp.int32),
        size=jnp.asarray(sizes, jnp.float32),
    )


def read(params, length, times, seed=0):
    """The rows that were seen, int [times, length, E], through a compiled loop."""
    num_envs = params.size.shape[0]
    k_start, k_steps = jax.random.split(jax.random.key(seed))
    keys = jax.random.split(k_steps, (times, length, num_envs + 2))

    @jax.jit
    def live(params):
        stay = DATA.start(k_start, params)
        return jax.lax.scan(lambda stay, k: DATA.live(None, stay, params, ((), k)), stay, keys)[1]

    trajectory, (returns, episodes) = live(params)
    rows = np.rint(np.asarray(trajectory.observation)[..., 0] * 255).astype(int)
    np.testing.assert_array_equal(trajectory.action, np.where(rows == PADDING, PADDING, rows % 7))
    np.testing.assert_array_equal(trajectory.next_observation, trajectory.observation)
    assert np.all(trajectory.reward == 1)
    assert np.all(trajectory.terminated)
    assert not np.any(trajectory.truncated)
    assert float(returns.sum()) == float(episodes.sum()) == 0
    return rows


def test_spaces_are_of_the_images():
    space = DATA.observation_space
    assert (space.size, space.shape, set(space.low), set(space.high)) == (64, (8, 8), {0.0}, {1.0})
    assert (DATA.action_space.n, DATA.measure) == (10, "accuracy")
    assert DATA.step_bytes == 64 + 1


def test_an_epoch_visits_every_sample_once_in_another_order():
    rows = read(numbered(12), length=4, times=9)[..., 0].reshape(3, 12)
    for epoch in rows:
        assert sorted(epoch.tolist()) == list(range(12))
    assert len({tuple(epoch) for epoch in rows}) == 3


def test_a_remainder_smaller_than_a_rollout_is_dropped():
    rows = read(numbered(14), length=4, times=30)[..., 0].reshape(10, 12)
    for epoch in rows:
        assert len(set(epoch.tolist())) == 12
    assert set(rows.ravel().tolist()) == set(range(14))  # but not always the same ones


def test_a_shard_smaller_than_a_rollout_is_repeated():
    for rollout in read(numbered(3), length=8, times=5)[..., 0]:
        assert sorted(np.bincount(rollout, minlength=3).tolist()) == [2, 3, 3]


def test_padding_is_never_seen_and_shards_keep_their_own_pace():
    rows = read(numbered(5, 12, 1, longest=20), length=4, times=9)
    assert rows.max() < 12
    for epoch in rows[..., 1].reshape(3, 12):
        assert sorted(epoch.tolist()) == list(range(12))
    for rollout in rows[..., 0]:
        assert len(set(rollout.tolist())) == 4
    assert np.all(rows[..., 2] == 0)


def test_shards_side_by_side_are_read_in_different_orders():
    rows = read(numbered(50, 50), length=10, times=5)
    assert not np.array_equal(rows[..., 0], rows[..., 1])


def test_the_key_decides_the_order():
    params = numbered(50)
    np.testing.assert_array_equal(read(params, 10, 9, seed=1), read(params, 10, 9, seed=1))
    assert not np.array_equal(read(params, 10, 9, seed=1), read(params, 10, 9, seed=2))


def test_reading_is_the_same_in_a_stack():
    params = numbered(9, 5)
    keys = jax.random.split(jax.random.key(1), (3, 1 + 2))

    def one(params):
        stay = DATA.start(jax.random.key(0), params)
        for _ in range(3):
            stay, (trajectory, _) = DATA.live(None, stay, params, ((), keys))
        return trajectory

    each = jax.tree.map(lambda x: x[:, None], params)
    stack = jax.jit(jax.vmap(one))(each)
    alone = [jax.jit(one)(jax.tree.map(operator.itemgetter(i), each)) for i in range(2)]
    jax.tree.map(lambda together, *apart: np.testing.assert_array_equal(together, np.stack(apart)), stack, *alone)


def naive_accuracy(choose, params, num):
    scores = []
    for images, labels, size in zip(*map(np.asarray, (params.images, params.labels, params.size)), strict=True):
        num_own = min(int(size), num)
        scores.append(np.mean([choose(images[i]) == labels[i] for i in range(num_own)]))
    return scores


@pytest.mark.parametrize("num", [1, 3, 20, 10**6])
@pytest.mark.parametrize("sizes", [(5,), (5, 12, 1), (2, 2 * CHUNK + 3, CHUNK, CHUNK + 1)])
def test_accuracy_is_that_of_a_naive_loop(num, sizes):
    params = numbered(*sizes, longest=max(sizes) + 2)
    images = np.random.default_rng(0).integers(0, 7, params.images.shape)  # an image says what the policy answers
    params = Shard(jnp.asarray(images, jnp.uint8), params.labels, params.size)
    act = lambda observation: jnp.rint(observation[:, 0] * 255).astype(jnp.int32)  # noqa: E731
    given = jax.jit(lambda p: DATA.evaluate(act, p, jax.random.key(0), num))(params)
    assert given.dtype == jnp.float32
    np.testing.assert_allclose(given, naive_accuracy(lambda x: int(x[0]), params, num), rtol=1e-6)


def test_padding_is_not_judged():
    params = numbered(3, 9)  # the answer is right for every image, and for the padding
    right = lambda x: jnp.where(x[:, 0] == 1, PADDING, jnp.rint(x[:, 0] * 255).astype(jnp.int32) % 7)  # noqa: E731
    np.testing.assert_array_equal(DATA.evaluate(right, params, jax.random.key(0), 9), [1.0, 1.0])
    wrong = lambda x: jnp.where(x[:, 0] == 1, PADDING, -1)  # noqa: E731
    np.testing.assert_array_equal(DATA.evaluate(wrong, params, jax.random.key(0), 9), [0.0, 0.0])


def test_evaluation_can_be_stacked_over_policies():
    params = numbered(4, 600)
    judge = lambda answer: DATA.evaluate(lambda x: jnp.full(x.shape[0], answer), params, jax.random.key(0), 10**6)  # noqa: E731
    stack = jax.vmap(judge)(jnp.arange(3))
    np.testing.assert_allclose(stack, [judge(k) for k in range(3)])


def test_weights_are_sizes():
    params = Dirichlet().params(DATA, 4)
    assert DATA.weights(params).dtype == jnp.float32
    np.testing.assert_array_equal(DATA.weights(params), Dirichlet().worlds(DATA, 4)["size"])


@pytest.mark.parametrize("clients_first", [True, False])
def test_joined_worlds_are_padded_to_the_larger(clients_first):
    clients, test = EqualSplit().params(DATA, 10), TestSet().params(DATA, 1)
    pair = (clients, test) if clients_first else (test, clients)
    joined = DATA.join(*pair)
    assert joined.images.shape == (11, 297, 64)
    start = 0
    for part in pair:
        num, longest = part.labels.shape
        np.testing.assert_array_equal(joined.images[start : start + num, :longest], part.images)
        np.testing.assert_array_equal(joined.labels[start : start + num, :longest], part.labels)
        np.testing.assert_array_equal(joined.size[start : start + num], part.size)
        start += num
    key, act = jax.random.key(0), lambda x: jnp.zeros(x.shape[0], jnp.int32)
    apart = jnp.concatenate([DATA.evaluate(act, part, key, 10**6) for part in pair])
    np.testing.assert_array_equal(DATA.evaluate(act, joined, key, 10**6), apart)


def test_the_nominal_world_is_the_whole_training_part():
    nominal = DATA.nominal()
    assert (nominal.images.shape, nominal.labels.shape, float(nominal.size)) == ((1500, 64), (1500,), 1500.0)


def test_shards_hold_the_rows_that_were_asked_for():
    samples = DATA.samples
    held = shards(samples, [np.array([3, 5]), np.array([7])])
    np.testing.assert_array_equal(held.images[0], samples.images[[3, 5]])
    np.testing.assert_array_equal(held.images[1, 0], samples.images[7])
    np.testing.assert_array_equal(held.labels, [samples.labels[[3, 5]], [samples.labels[7], 0]])


def test_a_data_set_is_read_once_and_recorded_by_its_source():
    assert DATA.samples is Dataset(Digits()).samples
    assert DATA.samples is not Dataset(Digits(num_test=10)).samples
    assert from_data(to_data(DATA)) == DATA
    assert jax.tree.leaves(DATA) == []
    assert list(quantities(Shard)) == ["size"]


@pytest.mark.parametrize("split", [EqualSplit(), LabelShards(seed=3), Dirichlet(alpha=0.3, seed=5)], ids=repr)
def test_a_client_is_judged_on_unseen_samples_with_its_own_proportions(split):
    params = split.params(DATA, 5)
    held, judged = split.label_counts(DATA, 5), DATA.judged(params)
    samples = DATA.samples
    unseen = {samples.images[i].tobytes() for i in samples.test}
    for client in range(5):
        size = int(judged.size[client])
        labels = np.asarray(judged.labels[client, :size])
        counts = np.bincount(labels, minlength=10)
        assert set(np.flatnonzero(counts)) == set(np.flatnonzero(held[client]))
        exact = held[client] * (counts / np.maximum(held[client], 1))[np.argmax(held[client])]
        np.testing.assert_allclose(counts, exact, atol=1.001, err_msg="proportions, up to rounding")
        assert {np.asarray(x).tobytes() for x in judged.images[client, :size]} <= unseen


def test_clients_that_hold_the_same_classes_are_judged_on_the_same_samples():
    judged = DATA.judged(EqualSplit().params(DATA, 3))
    first, second = (set(map(bytes, np.asarray(judged.images[c, : int(judged.size[c])]))) for c in (0, 1))
    assert len(first & second) > 0.8 * min(len(first), len(second))
