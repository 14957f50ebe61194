"""Public states: each way to make them, what of them is refused, and the figures of their diversity."""

import hashlib
import types

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from polyfed.environments import Acrobot, Box, CartPole, Dataset, Digits, Discrete, Pendulum
from polyfed.environments.public_states import FileStates, NeutralStates, UniformStates, random_actions
from polyfed.environments.state_checks import check_states
from polyfed.environments.state_clusters import clustered, k_means, principal_components, quotas
from polyfed.environments.state_diversity import diversity, standardised
from polyfed.record import from_data, to_data

DRAW = np.random.default_rng(3)
STATES = DRAW.normal(size=(12, 4)).astype(np.float32)


def a_world(low, high, actions=Discrete(2)):
    return types.SimpleNamespace(observation_space=Box(low, high), action_space=actions)


def test_uniform_states_fill_the_bounds():
    states = UniformStates(num=4000, seed=1).states(Acrobot())
    assert states.shape == (4000, 6)
    assert states.dtype == np.float32
    high = np.array(Acrobot().observation_space.high)
    assert np.all(np.abs(states) <= high)
    np.testing.assert_allclose(states.mean(axis=0) / high, 0.0, atol=0.05)
    np.testing.assert_allclose(states.std(axis=0) / high, 1 / np.sqrt(3), atol=0.02)


def test_uniform_states_reach_where_there_is_no_bound():
    inf, huge = np.inf, 3.4e38
    world = a_world(low=(-inf, 0.0, -inf, 5.0, -inf, -huge), high=(inf, inf, 1.0, inf, -7.0, huge))
    states = UniformStates(num=5000, reach=2.0).states(world)
    found = [
        (round(float(low), 1), round(float(high), 1)) for low, high in zip(states.min(0), states.max(0), strict=True)
    ]
    assert found == [(-2.0, 2.0), (0.0, 2.0), (-2.0, 1.0), (5.0, 7.0), (-9.0, -7.0), (-2.0, 2.0)]


def test_neutral_states_are_states_of_random_rollouts():
    world = CartPole()
    made = NeutralStates(num=300, steps=1000, seed=2)
    states = made.states(world)
    assert states.shape == (300, 4)
    assert np.isfinite(states).all()
    assert len(np.unique(states, axis=0)) > 290
    np.testing.assert_array_equal(states, made.states(world))
    assert not np.array_equal(states, NeutralStates(num=300, steps=1000, seed=3).states(world))
    assert 0.02 < np.abs(states[:, 2]).mean() < 0.2  # rad: who acts at random soon falls


def test_random_actions_are_uniform():
    key = jax.random.key(0)
    choices = np.asarray(random_actions(Discrete(3), 3000, key))
    assert np.all(np.abs(np.bincount(choices) / 3000 - 1 / 3) < 0.05)
    vectors = np.asarray(random_actions(Box((-1.0, 0.0), (1.0, 4.0)), 3000, key))
    np.testing.assert_allclose(vectors.mean(axis=0), [0.0, 2.0], atol=0.1)
    assert np.all((vectors >= [-1, 0]) & (vectors <= [1, 4]))


def test_states_come_from_files(tmp_path):
    np.save(tmp_path / "a.npy", STATES.astype(np.float64))
    save_file({"states": STATES}, tmp_path / "a.safetensors")
    np.savetxt(tmp_path / "a.csv", STATES, delimiter=",")
    np.savetxt(tmp_path / "header.csv", STATES, delimiter=",", header="x,v,angle,w", comments="")
    for name in ("a.npy", "a.safetensors", "a.csv", "header.csv"):
        made = FileStates(str(tmp_path / name))
        made.check(CartPole())
        np.testing.assert_allclose(made.states(CartPole()), STATES, rtol=1e-6)
        assert made.states(CartPole()).dtype == np.float32
        assert made.fingerprint() == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (np.zeros((3, 5)), r"Public states of 5 numbers are no observations of CartPole, which shows 4"),
        (np.zeros(4), r"Public states of shape \[4\] give nothing to predict on: give \[M, 4\]"),
        (np.zeros((0, 4)), r"Public states of shape \[0, 4\] give nothing to predict on"),
        (np.full((2, 4), np.nan), "holds nan in row 0, column 0, on which nobody can predict"),
        (np.full((2, 4), 1e300), "holds inf in row 0"),
        (np.full((2, 4), "x"), "but states are numbers"),
        (np.zeros((2, 4), complex), "holds complex128, but states are numbers"),
        (np.array([[None] * 4]), "cannot be read .*pickle"),
    ],
    ids=str,
)
def test_files_that_hold_no_states(tmp_path, content, sentence):
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(ValueError, match=sentence):
        FileStates(str(tmp_path / "a.npy")).check(CartPole())


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", b"", r"shape \[0, 0\] give nothing"),
        ("a.csv", b"x,v,a,w\n", r"shape \[0, 0\] give nothing"),
        ("a.csv", b"1,2,3,4\n1,2,3\n", "a.csv cannot be read"),
        ("a.csv", b"1,2,3,4\n1,2,3,four\n", "a.csv cannot be read"),
        ("a.csv", b"1,2,3,\n1,2,3,4\nx,y,z,w", "a.csv cannot be read"),
        ("a.csv", b"\xff\xfe,1", "a.csv cannot be read"),
        ("a.npy", b"", "a.npy cannot be read"),
        ("a.npy", b"nonsense", "a.npy cannot be read"),
        ("a.safetensors", b"nonsense", "a.safetensors cannot be read"),
        ("a.txt", b"1", r"is none of the files that hold states: give one of \.npy, \.safetensors, \.csv"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        FileStates(str(tmp_path / name)).check(CartPole())
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_and_one_of_too_many_arrays(tmp_path):
    with pytest.raises(ValueError, match=r"none\.npy is not there: give the path of a file of states"):
        FileStates(str(tmp_path / "none.npy")).check(CartPole())
    save_file({"one": STATES, "two": STATES}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"holds 2 arrays \(one, two\): keep the states alone"):
        FileStates(str(tmp_path / "a.safetensors")).check(CartPole())


@pytest.mark.parametrize(
    ("made", "world", "sentence"),
    [
        (UniformStates(num=0), CartPole(), r"public_states\.num = 0 states is out of range"),
        (UniformStates(seed=-1), CartPole(), r"public_states\.seed = -1 is out of range"),
        (UniformStates(reach=0.0), CartPole(), r"public_states\.reach = 0 is out of range"),
        (NeutralStates(steps=10), CartPole(), "lives through 10 steps, from which 5000 states cannot be drawn"),
        (NeutralStates(), Dataset(Digits()), "Nobody acts in Dataset, whose samples are the clients' own"),
        (UniformStates(), types.SimpleNamespace(observation_space=Discrete(3)), "Public states are vectors, but"),
    ],
)
def test_what_cannot_be_made(made, world, sentence):
    with pytest.raises(ValueError, match=sentence):
        made.check(world)


def test_random_actions_need_bounds():
    class Unbounded(Pendulum):
        """Takes any torque."""

        @property
        def action_space(self):
            return Box((-np.inf,), (np.inf,))

    with pytest.raises(ValueError, match="Random actions need bounds, but Unbounded has"):
        NeutralStates().check(Unbounded())


@pytest.mark.parametrize("made", [UniformStates(num=7), NeutralStates(seed=4), FileStates("a.npy")])
def test_builders_are_parts(made):
    made_again = from_data(to_data(made))
    assert made_again == made
    assert hash(made_again) == hash(made)
    assert made.describe
    assert "\n" not in made.describe
    if not isinstance(made, FileStates):
        made.check(CartPole())
        assert made.fingerprint() == ""


def test_states_of_the_right_width_pass():
    check_states((1, 4), CartPole())


def three_blobs(num=200):
    middles = np.array([[0.0, 0.0, 0.0], [9.0, 0.0, 1.0], [0.0, 9.0, -1.0]])
    labels = DRAW.integers(0, 3, num)
    return middles[labels] + DRAW.normal(scale=0.5, size=(num, 3)), labels


def test_principal_components_are_those_of_scikit_learn():
    from sklearn.decomposition import PCA

    points = DRAW.normal(size=(50, 4)) @ DRAW.normal(size=(4, 4))
    ours, theirs = principal_components(points, 2), PCA(2).fit_transform(points)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), atol=1e-10)


def test_clusters_are_those_of_scikit_learn():
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score
    from sklearn.preprocessing import StandardScaler

    points, labels = three_blobs()
    found, centres, inertia = k_means(points, 3, np.random.default_rng(0))
    assert adjusted_rand_score(labels, found) == 1.0
    theirs = KMeans(3, n_init=10, random_state=0).fit(points)
    assert inertia == pytest.approx(theirs.inertia_, rel=1e-6)
    assert {tuple(c.round(6)) for c in centres} == {tuple(c.round(6)) for c in theirs.cluster_centers_}
    np.testing.assert_allclose(standardised(points), StandardScaler().fit_transform(points), atol=1e-12)
    loose = DRAW.normal(size=(300, 2))  # no clusters at all: the best of ten starts is about as good
    ours, theirs = k_means(loose, 5, np.random.default_rng(0))[2], KMeans(5, n_init=10, random_state=0).fit(loose)
    assert ours == pytest.approx(theirs.inertia_, rel=0.02)


def test_rare_clusters_count_as_much_as_frequent_ones():
    frequent, rare = DRAW.normal(size=(900, 3)), DRAW.normal(size=(100, 3)) + 50
    kept = clustered(np.concatenate([frequent, rare]), 150, clusters=2, components=2, seed=0)
    assert np.sum(kept[:, 0] > 25) == 75
    assert 20 < np.sum(kept[:75, 0] > 25) < 55  # in random order
    again = clustered(np.concatenate([frequent, rare]), 150, clusters=2, components=2, seed=0)
    np.testing.assert_array_equal(kept, again)
    assert len(np.unique(kept, axis=0)) == 150
    many = clustered(np.concatenate([frequent, rare]), 600, clusters=2, components=2, seed=0)
    assert np.sum(many[:, 0] > 25) == 100  # all there are


def test_points_that_are_all_the_same_can_be_clustered():
    kept = clustered(np.ones((20, 2)), 10, clusters=3, components=1, seed=0)
    np.testing.assert_array_equal(kept, np.ones((10, 2)))


@pytest.mark.parametrize(("sizes", "num"), [((5, 5, 5), 15), ((1, 0, 9), 7), ((100, 2, 3), 50), ((3,), 2)])
def test_quotas_add_up(sizes, num):
    taken = quotas(np.array(sizes), num)
    assert taken.sum() == num
    assert np.all(taken <= sizes)
    free = taken[taken < sizes]  # all that could give more give the same
    assert not len(free) or free.max() - free.min() <= 1


def test_diversity_of_known_sets():
    square = np.stack(np.meshgrid(*[np.arange(10.0)] * 2), axis=-1).reshape(-1, 2)
    found = diversity(square)
    assert (found["num"], found["distinct"]) == (100, 100)
    assert found["dimensions"] == pytest.approx(2.0)
    assert found["spacing"] == pytest.approx(1 / np.arange(10.0).std())
    assert found["mean"] == pytest.approx([4.5, 4.5])
    doubled = diversity(np.concatenate([square, square]))
    assert (doubled["num"], doubled["distinct"], doubled["spacing"]) == (200, 100, 0.0)
    assert diversity(3.0 * square + 7.0)["spacing"] == pytest.approx(found["spacing"])
    lonely = diversity(np.ones((1, 3)))
    assert (lonely["spacing"], lonely["dimensions"], lonely["distinct"]) == (0.0, 0.0, 1)
