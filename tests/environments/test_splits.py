import numpy as np
import pytest

from polyfed.environments.cartpole import CartPole
from polyfed.environments.dataset import Dataset
from polyfed.environments.digits import Digits
from polyfed.environments.splits import Dirichlet, EqualSplit, LabelShards, TestSet
from polyfed.record import from_data, to_data

DATA = Dataset(Digits())  # 1500 to train, 297 to test
SPLITS = [EqualSplit(), LabelShards(), LabelShards(shards_per_client=3), Dirichlet(), Dirichlet(alpha=0.1, min_size=2)]


def sample_ids(images):
    """Which images these are, as bytes: a multiset that does not know in which order they are stored."""
    return sorted(bytes(image) for image in np.asarray(images))


def shards_one_by_one(split, num_clients):
    params = split.params(DATA, num_clients)
    sizes = np.asarray(params.size).astype(int)
    return [(np.asarray(params.images)[i, :n], np.asarray(params.labels)[i, :n]) for i, n in enumerate(sizes)]


@pytest.mark.parametrize("split", SPLITS, ids=repr)
def test_every_sample_at_most_once_and_with_its_own_label(split):
    samples, own = DATA.samples, {}
    for i in samples.train:
        own.setdefault(bytes(samples.images[i]), []).append(samples.labels[i])
    held = shards_one_by_one(split, 7)
    for images, labels in held:
        for image, label in zip(images, labels, strict=True):
            own[bytes(image)].remove(label)  # fails where a sample comes a second time, or is not of the training part
    left = sum(len(labels) for labels in own.values())
    assert left == len(samples.train) - sum(len(labels) for _, labels in held)
    dropped = {EqualSplit: 1500 % 7, LabelShards: 1500 % (7 * getattr(split, "shards_per_client", 1)), Dirichlet: 0}
    assert left == dropped[type(split)]


@pytest.mark.parametrize("split", [*SPLITS, TestSet()], ids=repr)
def test_the_three_views_agree(split):
    num = 1 if isinstance(split, TestSet) else 6
    params, sizes, counts = split.params(DATA, num), split.worlds(DATA, num)["size"], split.label_counts(DATA, num)
    assert params.images.shape == (num, int(sizes.max()), 64)
    assert params.images.dtype == np.uint8
    np.testing.assert_array_equal(params.size, sizes)
    assert counts.shape == (num, 10)
    for (_, labels), row in zip(shards_one_by_one(split, num), counts, strict=True):
        assert [int(np.sum(labels == k)) for k in range(10)] == row.tolist()


@pytest.mark.parametrize("split", [EqualSplit, LabelShards, Dirichlet])
def test_draws_come_from_the_seed(split):
    first, again, other = (split(seed=seed).params(DATA, 5) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.images, again.images)
    assert first.images.shape != other.images.shape or not np.array_equal(first.images, other.images)
    assert from_data(to_data(split(seed=1))) == split(seed=1)


def test_an_equal_split_gives_everybody_the_same_number_of_a_mixture():
    counts = EqualSplit().label_counts(DATA, 5)
    assert counts.sum(axis=1).tolist() == [300] * 5
    assert counts.min() > 10


def test_label_shards_hold_few_labels():
    # ten shards of 150 in the order of the labels: each is nearly one class, and straddles at most one border
    one_each = LabelShards(shards_per_client=1).label_counts(DATA, 10)
    two_each = LabelShards(shards_per_client=2).label_counts(DATA, 5)
    assert (one_each > 0).sum(axis=1).max() <= 2
    assert (two_each > 0).sum(axis=1).max() <= 4
    assert one_each.sum(axis=1).tolist() == [150] * 10
    labels = np.concatenate([own for _, own in shards_one_by_one(LabelShards(shards_per_client=1), 10)])
    assert not np.all(np.diff(labels[:150]) >= 0) or len(set(labels[:150])) == 1  # stored in random order


def test_label_shards_are_dealt_at_random():
    main = LabelShards(shards_per_client=1).label_counts(DATA, 10).argmax(axis=1)
    assert sorted(main.tolist()) != main.tolist()


def test_dirichlet_agrees_with_a_naive_loop():
    samples, split, num = DATA.samples, Dirichlet(alpha=0.7, min_size=1, seed=3), 4
    shares = np.random.default_rng(3).dirichlet(np.full(num, 0.7), samples.num_classes)  # the first draw is enough
    wanted = np.zeros((num, samples.num_classes), int)
    for k in range(samples.num_classes):
        total, before = sum(samples.labels[samples.train] == k), 0
        for client in range(num):
            end = total if client == num - 1 else int(shares[k, : client + 1].sum() * total)
            wanted[client, k], before = end - before, end
    np.testing.assert_array_equal(split.label_counts(DATA, num), wanted)


def test_a_small_alpha_makes_clients_differ_more():
    def spread(alpha):
        counts = Dirichlet(alpha=alpha, min_size=1).label_counts(DATA, 5)
        return np.mean(np.max(counts / counts.sum(axis=1, keepdims=True), axis=1))

    assert spread(1000.0) < 0.15 < 0.3 < spread(0.1)


def test_the_test_set_is_what_nobody_learns_from():
    (images, labels) = shards_one_by_one(TestSet(), 1)[0]
    samples = DATA.samples
    assert sample_ids(images) == sample_ids(samples.images[samples.test])
    assert not np.array_equal(labels, samples.labels[samples.test])  # in random order


@pytest.mark.parametrize(
    ("split", "num_clients", "sentence"),
    [
        (EqualSplit(), 1501, r"1501 clients cannot share 1500 training samples by EqualSplit.* have 1 to 1500"),
        (EqualSplit(), 0, "0 clients cannot share 1500 training samples"),
        (EqualSplit(seed=-1), 2, r"variation\.seed = -1 is out of range"),
        (LabelShards(), 751, "everybody needs 2 samples: have 1 to 750 clients"),
        (LabelShards(shards_per_client=0), 2, r"variation\.shards_per_client = 0 shards is out of range"),
        (Dirichlet(), 151, "everybody needs 10 samples: have 1 to 150 clients"),
        (Dirichlet(alpha=0.0), 2, r"variation\.alpha = 0 is out of range"),
        (Dirichlet(alpha=float("nan")), 2, r"variation\.alpha = nan is out of range"),
        (Dirichlet(min_size=0), 2, r"variation\.min_size = 0 samples is out of range"),
        (Dirichlet(alpha=0.05, min_size=50), 30, r"left one of 30 clients with fewer than min_size = 50 samples in 10"),
        (TestSet(), 2, r"TestSet is one world, but 2 were asked for: set evaluation\.num_held_out to 1"),
    ],
    ids=repr,
)
def test_refuses(split, num_clients, sentence):
    with pytest.raises(ValueError, match=sentence):
        split.check(DATA, num_clients)
    with pytest.raises(ValueError, match=sentence):
        split.params(DATA, num_clients)


@pytest.mark.parametrize("split", [*SPLITS, TestSet()], ids=repr)
def test_refuses_a_world_without_samples(split):
    with pytest.raises(ValueError, match="splits a data set, but CartPole has no samples: use Explicit"):
        split.check(CartPole(), 1)
