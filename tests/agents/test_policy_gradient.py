"""What learners of a stochastic policy share, predict and refuse."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.a2c import A2C
from polyfed.agents.networks import MLP
from polyfed.agents.observation_statistics import ObservationStatistics, with_more
from polyfed.agents.policy_networks import Layers, WithScale
from polyfed.agents.ppo import PPO
from polyfed.agents.reinforce import REINFORCE
from polyfed.environments import FAMILIES, CartPole, Dataset, Discrete, Pendulum
from polyfed.environments.digits import Digits

LEARNERS = (REINFORCE(hidden=(6,)), A2C(hidden=(6,)), PPO(hidden=(6,)))
EACH = pytest.mark.parametrize("agent", LEARNERS, ids=lambda agent: type(agent).__name__)


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


def begun(agent, seed=0, world=None):
    """A learner with moments and statistics that are not those of the beginning."""
    state = agent.init(jax.random.key(seed), world or CartPole(), 1)
    ones = lambda tree: jax.tree.map(jnp.ones_like, tree)  # noqa: E731
    state = dataclasses.replace(state, optimizer=ones(state.optimizer), value_optimizer=ones(state.value_optimizer))
    if agent.statistics is None:
        return state
    return dataclasses.replace(
        state, statistics=with_more(state.statistics, jax.random.normal(jax.random.key(9), (8, 4)))
    )


@EACH
@pytest.mark.parametrize("keep", [True, False])
def test_a_merge_takes_what_is_shared_and_keeps_the_rest(agent, keep):
    names = tuple(agent.parts)
    agent = dataclasses.replace(agent, keep_optimizer=keep, shared=names, statistics=ObservationStatistics())
    mine, theirs = begun(agent), begun(agent, seed=1)
    sent = agent.share(theirs)
    assert set(sent) == set(names)
    new = agent.absorb(mine, sent)
    assert same(agent.share(new), sent)
    assert not same(new.policy, mine.policy)
    assert same(new.optimizer, mine.optimizer) == keep
    if "value" in names:
        assert same(new.value_optimizer, mine.value_optimizer) == keep
    assert agent.alone().keep_optimizer


@EACH
def test_the_policy_alone_goes_as_a_bare_network(agent):
    mine, theirs = begun(agent), begun(agent, seed=1)
    sent = agent.share(theirs)
    assert isinstance(sent, MLP)
    new = agent.absorb(mine, sent)
    assert same(new.policy, sent)
    assert same(new.value, mine.value)


@EACH
def test_what_it_predicts_is_what_it_does_and_a_function_of_its_parameters(agent):
    state, seen = begun(agent), jax.random.normal(jax.random.key(2), (5, 4))
    params, moments = agent.student(state)
    found = agent.predict(state, seen).probabilities
    np.testing.assert_allclose(found, jax.nn.softmax(state.policy(seen)), rtol=1e-6)
    np.testing.assert_array_equal(agent.policy(state, seen), np.argmax(found, axis=1))
    other = begun(agent, seed=1).policy
    np.testing.assert_array_equal(
        agent.predict(state, seen, other).probabilities,
        agent.predict(agent.taught(state, other, moments), seen).probabilities,
    )

    def step(params):
        gradient = jax.grad(lambda params: agent.predict(state, seen, params).probabilities[:, 0].sum())(params)
        return agent.student_optimizer(state).update(gradient, moments, params)[0]

    updates = jax.eval_shape(step, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)


def test_observations_are_read_through_the_statistics():
    agent = PPO(hidden=(6,), statistics=ObservationStatistics())
    state, seen = begun(agent), jax.random.normal(jax.random.key(2), (5, 4))
    spread = jnp.sqrt(state.statistics.variance + 1e-8)
    expected = jax.nn.softmax(state.policy((seen - state.statistics.mean) / spread))
    np.testing.assert_allclose(agent.predict(state, seen).probabilities, expected, rtol=1e-5)


def test_acts_as_often_as_it_says():
    agent = REINFORCE(hidden=(6,))
    state, seen = begun(agent), jax.random.normal(jax.random.key(2), (4,))
    many = jnp.broadcast_to(seen, (20000, 4))
    share = np.mean(jax.jit(agent.act)(state, many, jax.random.key(3)))
    assert share == pytest.approx(float(agent.predict(state, seen[None]).probabilities[0, 1]), abs=0.01)


@pytest.mark.parametrize("scale", ["network", "parameter"])
def test_vectors_are_normal_and_judged_inside_their_bounds(scale):
    for agent in (REINFORCE(hidden=(6,), scale=scale), PPO(hidden=(6,), scale=scale)):
        state, seen = begun(agent, world=Pendulum()), jnp.ones((3, 3))
        found = agent.predict(state, seen)
        assert found.mean.shape == found.scale.shape == (3, 1)
        assert float(found.scale.min()) > 0
        assert isinstance(state.policy, WithScale if scale == "parameter" else MLP)
        wild = jax.tree.map(lambda x: 100 * jnp.abs(x), state.policy)
        assert agent.policy(dataclasses.replace(state, policy=wild), seen).tolist() == [[2.0]] * 3
        drawn = np.asarray(jax.jit(agent.act)(state, jnp.ones((20000, 3)), jax.random.key(3)))
        assert drawn.std() == pytest.approx(float(found.scale[0, 0]), rel=0.03)


def test_layers_may_have_activations_of_their_own():
    agent = REINFORCE(hidden=(6, 5), activation=("tanh", "relu"))
    state, seen = begun(agent), jax.random.normal(jax.random.key(2), (5, 4))
    assert isinstance(state.policy, Layers)
    first, second, last = state.policy.layers
    expected = last(jax.nn.relu(second(jnp.tanh(first(seen)))))
    np.testing.assert_allclose(state.policy(seen), expected, rtol=1e-6)
    alike = REINFORCE(hidden=(6, 5), activation=("tanh", "tanh")), REINFORCE(hidden=(6, 5), activation="tanh")
    for one, other in zip(*(jax.tree.leaves(begun(a).policy) for a in alike), strict=True):
        np.testing.assert_array_equal(one, other)


@EACH
@pytest.mark.parametrize("environment", FAMILIES, ids=repr)
def test_fits_choices_and_vectors(agent, environment):
    agent.check(environment)


@EACH
def test_refuses_worlds_without_actions_or_vectors(agent):
    name = type(agent).__name__
    with pytest.raises(ValueError, match=f"{name} learns by acting, but Dataset shows right answers"):
        agent.check(Dataset(Digits()))

    class Blind(CartPole):
        observation_space = Discrete(3)

    with pytest.raises(ValueError, match=f"{name} reads vectors, but Blind shows"):
        agent.check(Blind())


@EACH
@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"activation": "rleu"}, r"agent\.activation = 'rleu' is not known: did you mean 'relu'\?"),
        ({"activation": ("relu", "tanh")}, r"agent\.activation names 2 activations for 1 hidden layers"),
        ({"scale": "netwrok"}, r"agent\.scale = 'netwrok' is not known: did you mean 'network'\?"),
        ({"hidden": ()}, r"agent\.hidden = \(\) leaves no hidden layer"),
        ({"hidden": (0,)}, r"agent\.hidden = 0 units is out of range"),
        ({"learning_rate": -1e-3}, r"agent\.learning_rate = -0\.001 is out of range"),
        ({"discount": (0.9, 1.5)}, r"agent\.discount = 1\.5 is out of range"),
        ({"shared": ("statistics",)}, r"agent\.shared = \('statistics',\) must name policy, and nothing twice"),
        ({"shared": ("policy", "statistics")}, r"agent\.shared names statistics, but agent\.statistics is none"),
        ({"shared": ("policy", "values")}, r"agent\.shared = 'values' is not known"),
        ({"statistics": ObservationStatistics(clip=0.0)}, r"statistics\.clip = 0 standard deviations is out of range"),
    ],
)  # fmt: skip
def test_refuses_fields_in_a_sentence(agent, fields, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        dataclasses.replace(agent, **fields).check(CartPole())
    assert str(refusal.value).replace("e.g. ", "").count(". ") == 0
