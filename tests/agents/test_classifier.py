import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyfed.agents.classifier import Classifier, cross_entropy
from polyfed.agents.local_terms import Proximal
from polyfed.agents.networks import CNN, MLP
from polyfed.agents.rollout import local_update
from polyfed.environments.cartpole import CartPole
from polyfed.environments.dataset import Dataset, Shard
from polyfed.environments.digits import Digits
from polyfed.environments.idx import IdxFolder
from polyfed.environments.splits import EqualSplit, TestSet
from polyfed.leaves import stacked
from polyfed.record import from_data, to_data
from polyfed.testing import check_agent
from polyfed.types import Nested, Trajectory

DATA = Dataset(Digits())
MNIST = Path(__file__).parents[2] / "../shared/data/mnist"
KEY = jax.random.key(0)


def a_trajectory(length, num_envs=1, seed=0):
    draw = np.random.default_rng(seed)
    observation = jnp.asarray(draw.uniform(size=(length, num_envs, 64)), jnp.float32)
    label = jnp.asarray(draw.integers(0, 10, (length, num_envs)), jnp.int32)
    one = jnp.ones((length, num_envs))
    return Trajectory(observation, label, one, observation, one > 0, one < 0)


def in_numpy(network, images, labels, rate):
    """One plain SGD step of a perceptron with one hidden layer of ReLUs, and the loss before it, by hand."""
    (w1, b1), (w2, b2) = ((np.asarray(x.weight, np.float64), np.asarray(x.bias, np.float64)) for x in network.layers)
    x = np.asarray(images, np.float64)
    h = np.maximum(x @ w1.T + b1, 0)
    z = h @ w2.T + b2
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    right = np.eye(10)[np.asarray(labels)]
    loss = -np.mean(np.sum(np.log(p) * right, axis=1))
    dz = (p - right) / len(x)
    dh = (dz @ w2) * (h > 0)
    return (w1 - rate * dh.T @ x, b1 - rate * dh.sum(0), w2 - rate * dz.T @ h, b2 - rate * dz.sum(0)), loss


def train(agent, data, num_steps, num_clients=1):
    """The state of one client after `num_steps` samples, the metrics, and its accuracy on the test set."""
    agent.check(data)
    agent = stacked(agent, None)
    params = jax.tree.map(lambda x: x[:1], EqualSplit().params(data, num_clients))

    @jax.jit
    def run(params):
        state, stay = agent.init(KEY, data, 1), data.start(KEY, params)
        state = agent.absorb(state, agent.share(state))
        return local_update(data, agent, (state, stay, params), KEY, num_steps=num_steps)

    state, _, metrics = run(params)
    judge = jax.jit(lambda s, p: data.evaluate(lambda x: agent.policy(s, x), p, KEY, 10**6))
    return state, metrics, float(judge(state, TestSet().params(data, 1))[0])


def test_cross_entropy_is_minus_the_log_of_the_probability():
    logits, labels = jnp.array([[1.0, 2.0, -1.0], [0.5, 0.0, 3.0]]), jnp.array([2, 0])
    wanted = -np.log([np.exp(-1) / np.exp([1, 2, -1]).sum(), np.exp(0.5) / np.exp([0.5, 0, 3]).sum()]).mean()
    np.testing.assert_allclose(cross_entropy(logits, labels), wanted, rtol=1e-6)
    assert np.isfinite(cross_entropy(jnp.array([[1e30, 0.0]]), jnp.array([0])))


def test_a_step_is_what_numpy_makes_of_it():
    agent = Classifier(hidden=(16,), learning_rate=0.3, batch_size=8)
    state, told = agent.init(KEY, DATA, 2), a_trajectory(8, num_envs=2)
    images, labels = told.observation.reshape(16, 64), told.action.reshape(16)
    right = np.mean(np.asarray(agent.policy(state, images)) == labels)
    after, metrics = agent.learn(state, told, KEY)
    wanted, loss = in_numpy(state.network, images, labels, 0.3)
    for given, value in zip(jax.tree.leaves(after.network), wanted, strict=True):
        np.testing.assert_allclose(given, value, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics["return"], right)  # before the step


def test_minibatches_are_steps_on_samples_in_the_order_in_which_they_were_seen():
    agent = Classifier(hidden=(16,), batch_size=6, minibatches=3)
    state, told = agent.init(KEY, DATA, 2), a_trajectory(6, num_envs=2)
    network = state.network
    for part in range(3):
        steps = slice(2 * part, 2 * part + 2)  # two time steps of both shards
        images, labels = told.observation[steps].reshape(4, 64), told.action[steps].reshape(4)
        moved, _ = in_numpy(network, images, labels, 0.1)
        network = MLP(64, 10, hidden=(16,), activation="relu", key=KEY)
        network = jax.tree.unflatten(jax.tree.structure(network), [jnp.asarray(x, jnp.float32) for x in moved])
    after, metrics = agent.learn(state, told, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after.network, network)
    assert all(jnp.ndim(value) == 0 for value in metrics.values())


@pytest.mark.parametrize(
    ("fields", "reference"),
    [
        ({"momentum": 0.9}, optax.sgd(0.1, momentum=0.9)),
        ({"optimizer": "adam", "learning_rate": 1e-3}, optax.adam(1e-3)),
    ],
)
def test_optimizers_are_those_of_optax(fields, reference):
    agent = Classifier(hidden=(16,), **fields)
    state, told = agent.init(KEY, DATA, 1), a_trajectory(32)
    network = state.network
    moments = reference.init(network)
    for _ in range(3):
        loss = lambda net: cross_entropy(net(told.observation[:, 0]), told.action[:, 0])  # noqa: E731
        updates, moments = reference.update(jax.grad(loss)(network), moments, network)
        network = optax.apply_updates(network, updates)
        state, _ = agent.learn(state, told, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), state.network, network)


@pytest.mark.parametrize("keep", [True, False])
def test_keep_optimizer_says_whether_moments_survive_a_merge(keep):
    agent = Classifier(hidden=(16,), momentum=0.9, keep_optimizer=keep)
    state, _ = agent.learn(agent.init(KEY, DATA, 1), a_trajectory(32), KEY)
    moments = jax.tree.leaves(agent.absorb(state, agent.share(state)).optimizer)
    assert any(np.any(np.asarray(x)) for x in moments) == keep
    assert agent.alone().keep_optimizer


@pytest.mark.slow
def test_a_proximal_term_holds_a_client_near_the_broadcast():
    far = {}
    for strength in (0.0, 10.0):
        agent = Classifier(hidden=(16,), learning_rate=0.05, local_terms=(Proximal(strength),))
        state = agent.init(KEY, DATA, 1)
        broadcast = agent.share(state)
        state = agent.absorb(state, broadcast)
        for seed in range(5):
            state, metrics = agent.learn(state, a_trajectory(32, seed=seed), KEY)
        gaps = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), agent.share(state), broadcast)
        far[strength] = float(sum(jax.tree.leaves(gaps)))
        assert float(metrics["loss"]) < 10  # the loss that is told is the cross-entropy alone
    assert far[10.0] < 0.5 * far[0.0]


@pytest.mark.slow
def test_a_width_leaves_the_other_units_as_they_were_received():
    agent = stacked(Classifier(hidden=(16,), width=5), None)
    state = agent.init(KEY, DATA, 1)
    before = agent.share(state)
    assert isinstance(before, Nested)
    state = agent.absorb(state, before)
    for seed in range(3):
        state, _ = agent.learn(state, a_trajectory(32, seed=seed), KEY)
    after = agent.share(state)
    held = before.network.held(5)
    for old, new, mask in zip(*map(jax.tree.leaves, (before.network, after.network, held)), strict=True):
        assert np.all((old == new)[~np.asarray(mask)])
        assert np.any((old != new)[np.asarray(mask)])
    assert int(after.width) == 5
    assert int(agent.whole().width) == 16
    narrow, whole = (a.policy(state, a_trajectory(64).observation[:, 0]) for a in (agent, agent.whole()))
    assert np.any(narrow != whole)


def test_without_a_width_the_payload_is_the_network():
    agent = Classifier(hidden=(16,))
    assert isinstance(agent.share(agent.init(KEY, DATA, 1)), MLP)
    assert agent.whole() is agent


def test_a_pooled_agent_takes_the_steps_of_the_fleet():
    agent = Classifier(hidden=(16,), batch_size=8).pooled(4)
    assert agent.minibatches == 4
    params = EqualSplit().params(DATA, 4)
    state, stay = agent.init(KEY, DATA, 4), DATA.start(KEY, params)
    run = jax.jit(lambda p: local_update(DATA, agent, (state, stay, p), KEY, num_steps=80))
    after, _, metrics = run(params)
    assert float(metrics["return"]) > 0.1
    assert not np.array_equal(after.network.layers[0].weight, state.network.layers[0].weight)


def test_padding_is_never_trained_on():
    params = EqualSplit().params(DATA, 30)  # shards of 50
    poisoned = Shard(
        images=jnp.concatenate([params.images, jnp.full_like(params.images, 255)], axis=1),
        labels=jnp.concatenate([params.labels, jnp.full_like(params.labels, 9)], axis=1),
        size=params.size,
    )
    agent = Classifier(hidden=(16,), batch_size=10)
    calm = Shard(poisoned.images.at[:, 50:].set(0), poisoned.labels.at[:, 50:].set(0), params.size)

    @jax.jit
    def run(params):
        one = jax.tree.map(lambda x: x[:1], params)
        client = (agent.init(KEY, DATA, 1), DATA.start(KEY, one), one)
        return local_update(DATA, agent, client, KEY, num_steps=200)[0]

    jax.tree.map(np.testing.assert_array_equal, run(poisoned), run(calm))


def test_learns_the_digits():
    _, metrics, accuracy = train(Classifier(hidden=(64,)), DATA, num_steps=46 * 32 * 15)
    assert accuracy > 0.9
    assert float(metrics["return"]) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    "agent",
    [
        Classifier(optimizer="adam", learning_rate=1e-3),
        Classifier(momentum=0.9, learning_rate=0.03),
        Classifier(hidden=(), learning_rate=0.5),
        Classifier(network="cnn", channels=(8, 16), hidden=(32,), optimizer="adam", learning_rate=3e-3),
    ],
    ids=repr,
)
def test_every_kind_learns_the_digits(agent):
    assert train(agent, DATA, num_steps=46 * 32 * 20)[2] > 0.9


@pytest.mark.slow
@pytest.mark.skipif(not MNIST.is_dir(), reason="the 10,000 images of MNIST are not beside the checkout")
def test_learns_mnist():
    assert train(Classifier(), Dataset(IdxFolder(str(MNIST))), num_steps=8000 * 10)[2] > 0.93


@pytest.mark.parametrize(
    "agent",
    [
        pytest.param(Classifier(hidden=(16,), batch_size=8, minibatches=2), marks=pytest.mark.slow),
        Classifier(hidden=(16,), momentum=0.5, local_terms=(Proximal(),), width=5),
        Classifier(network="cnn", channels=(4,), hidden=(8,), batch_size=8, optimizer="adam"),
    ],
    ids=repr,
)
def test_keeps_the_contract(agent):
    check_agent(agent, DATA, num_steps=33)


def test_a_cnn_gets_the_shape_of_the_images():
    network = Classifier(network="cnn", channels=(4, 8)).init(KEY, DATA, 1).network
    assert isinstance(network, CNN)
    assert network.image_shape == (8, 8)


def test_is_a_value_that_can_be_recorded():
    agent = Classifier(network="cnn", momentum=0.9, local_terms=(Proximal(0.5),))
    assert from_data(to_data(agent)) == agent
    assert dataclasses.replace(agent, batch_size=7).rollout_length == 7


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"network": "mpl"}, r"agent\.network = 'mpl' is not known: did you mean 'mlp'\?"),
        ({"optimizer": "sdg"}, r"agent\.optimizer = 'sdg' is not known: did you mean 'sgd'\?"),
        ({"activation": "rleu"}, r"agent\.activation = 'rleu' is not known"),
        ({"hidden": (0,)}, r"agent\.hidden = 0 units is out of range"),
        ({"learning_rate": -1.0}, r"agent\.learning_rate = -1 is out of range"),
        ({"learning_rate": (0.1, float("nan"))}, r"agent\.learning_rate = nan is out of range"),
        ({"batch_size": 0}, r"agent\.batch_size = 0 samples is out of range"),
        ({"minibatches": 0}, r"agent\.minibatches = 0 is out of range"),
        ({"momentum": 1.5}, r"agent\.momentum = 1\.5 is out of range"),
        ({"momentum": 0.9, "optimizer": "adam"}, r'agent\.momentum is of SGD, but agent\.optimizer is "adam"'),
        ({"local_terms": (Proximal(-1.0),)}, r"local_terms\.strength = -1 is out of range"),
        ({"width": 129}, r"agent\.width = 129 units is out of range: give a number from 1 to 128"),
        ({"width": 1, "hidden": ()}, r"agent\.width counts units of hidden layers, but agent\.hidden = \(\)"),
        ({"width": 1, "network": "cnn"}, r'agent\.width counts units of a perceptron, but agent\.network is "cnn"'),
        ({"channels": (4,) * 4, "network": "cnn"}, r"halves rows and columns 4 times, but the images have 8 x 8"),
        ({"channels": (0,), "network": "cnn"}, r"agent\.channels = 0 is out of range"),
    ],
    ids=repr,
)
def test_refuses(fields, sentence):
    with pytest.raises(ValueError, match=sentence):
        Classifier(**fields).check(DATA)


def test_refuses_a_world_without_samples():
    with pytest.raises(ValueError, match="Classifier imitates labelled samples, but CartPole shows none: live in a Da"):
        Classifier().check(CartPole())


def test_refuses_minibatches_of_unequal_size():
    with pytest.raises(ValueError, match=r"32 samples of 2 shards cannot be cut into agent\.minibatches = 5"):
        Classifier(minibatches=5).init(KEY, DATA, 2)
