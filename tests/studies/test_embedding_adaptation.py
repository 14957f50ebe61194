"""Adaptation to unseen worlds: what each arm trains and where it begins, and that the study is whole."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import Classifier
from polyfed.environments import Explicit
from polyfed.experiments import load_study
from polyfed.recipes import dqnavg, perdqnavg
from polyfed.simulation.simulate import Simulation
from polyfed.studies.embedding_adaptation import EmbeddingAdaptation
from polyfed.studies.embedding_arms import PERSONAL, begin, policy_returns
from polyfed.studies.embedding_findings import measures
from polyfed.study import findings_to_data, silent

NAMED = load_study("perdqn-embedding")
assert isinstance(NAMED, EmbeddingAdaptation)
SMALL = dataclasses.replace(
    NAMED,
    experiment=dataclasses.replace(
        NAMED.experiment,
        variation=Explicit({"half_length": (0.3, 0.5, 0.7)}),
        num_clients=3,
        num_rounds=2,
        local_steps=40,
        agent=dataclasses.replace(NAMED.experiment.agent, hidden=(8,), replay_capacity=60),
    ),
    num_unseen=2,
    adaptation_steps=80,
    adaptation_points=2,
    episodes=2,
)
SEEDS = (3, 8)


def trained(seed=0):
    """A network per seed and the vectors of three clients, `[S, C, 2]`, that nobody trained."""
    experiment = SMALL.training(perdqnavg)
    init = lambda key: experiment.agent.init(key, experiment.environment, 1).online  # noqa: E731
    networks = jax.vmap(init)(jax.random.split(jax.random.key(seed), len(SEEDS)))
    return networks, np.random.default_rng(seed).normal(size=(2, 3, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def adapted():
    """The newcomers before and after, by arm and world, `[S, arm, world]`."""
    simulation = Simulation(SMALL.adaptation(perdqnavg), SEEDS)
    networks, vectors = trained()
    federation = begin(simulation, networks, vectors, PERSONAL)
    before = jax.device_get(simulation.unpadded(federation)).clients.agent
    after = jax.device_get(simulation.unpadded(simulation.advance(federation, 2)[0])).clients.agent
    shape = lambda x: x.reshape(2, len(PERSONAL), 2, *x.shape[1:])  # noqa: E731
    return jax.tree.map(shape, (before, after)), networks, vectors


def test_every_newcomer_begins_with_the_trained_network(adapted) -> None:
    (before, _), networks, _ = adapted
    for found, given in zip(jax.tree.leaves(before.online), jax.tree.leaves(networks), strict=True):
        np.testing.assert_array_equal(found, np.broadcast_to(given[:, None, None], found.shape))
    for one, other in zip(jax.tree.leaves(before.online), jax.tree.leaves(before.target), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not before.replay.count.any()


def test_vectors_begin_at_the_mean_or_at_random(adapted) -> None:
    (before, _), _, vectors = adapted
    for i, arm in enumerate(PERSONAL):
        found = before.embedding.vector[:, i]
        if arm.mean:
            np.testing.assert_allclose(found, np.broadcast_to(vectors.mean(1)[:, None], found.shape), rtol=1e-6)
        else:
            assert np.abs(found).max() < 1
            assert len(np.unique(found)) == found.size


def test_every_arm_trains_what_it_says_and_nothing_else(adapted) -> None:
    (before, after), _, _ = adapted
    for i, arm in enumerate(PERSONAL):
        pairs = zip(jax.tree.leaves(before.online), jax.tree.leaves(after.online), strict=True)
        network = [np.abs(b[:, i] - a[:, i]).max() for b, a in pairs]
        vector = np.abs(before.embedding.vector[:, i] - after.embedding.vector[:, i])
        assert all(x > 0 for x in network) == any(x > 0 for x in network) == arm.network
        assert np.all(vector > 0) == np.any(vector > 0) == arm.embedding


def test_returns_are_of_the_policy_with_its_own_vector() -> None:
    """Against one world at a time, by the agent itself."""
    experiment = SMALL.training(perdqnavg)
    networks, vectors = trained(1)
    network = jax.tree.map(lambda x: x[0], networks)
    worlds = experiment.variation.params(experiment.environment, 3)
    parts = experiment.environment, experiment.agent
    key = jax.random.key(5)
    found = policy_returns(parts, (network, vectors[0]), (worlds, key), num_episodes=3, personal=False)
    for i in range(3):
        state = experiment.agent.init(key, experiment.environment, 1)
        own_vector = experiment.agent.embedding.at(jnp.asarray(vectors[0, i]))
        state = dataclasses.replace(state, online=network, embedding=own_vector)
        act = lambda seen, state=state: experiment.agent.policy(state, seen)  # noqa: E731
        own = jax.tree.map(lambda x, i=i: x[i : i + 1], worlds)
        expected = jax.jit(lambda own, act=act: experiment.environment.evaluate(act, own, key, 3))(own)
        assert float(found[i]) == float(expected[0])


def test_trainings_differ_in_the_embedding_alone() -> None:
    personal, plain = SMALL.training(perdqnavg), SMALL.training(dqnavg)
    assert personal.agent.embedding.size == 2  # three clients
    assert plain.agent == dataclasses.replace(personal.agent, embedding=None)
    assert NAMED.training_embedding.size == 4  # ten clients, as published
    assert not set(NAMED.unseen_values) & set(NAMED.experiment.variation.values[0][1])


def test_measures_by_hand() -> None:
    own = np.arange(12.0).reshape(1, 2, 6)
    found = measures((own, own[..., :2]))
    assert [float(found[name][0]) for name in list(found)[:3]] == [8.5, 6.0, 5.5]
    assert [float(found[name][0]) for name in list(found)[3:]] == [6.5, 6.0, 3.5]


@pytest.mark.slow
def test_findings_are_whole() -> None:
    found = SMALL.answer(SEEDS, silent)
    assert [len(table.rows) for table in found.tables] == [3, 7, 7]
    assert len(found.curves) == 5
    nothing = next(row for row in found.tables[1].rows if row[0].startswith("Ctr-2"))
    assert nothing[5].value == 0  # what is not trained does not change
    findings_to_data(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adaptation_points": 3}, "cannot be cut into 3 equal parts"),
        ({"num_unseen": 0}, "num_unseen"),
        ({"adaptation_epsilon": 2.0}, "adaptation_epsilon"),
        ({"experiment": dataclasses.replace(SMALL.experiment, agent=Classifier())}, "the learner is Classifier"),
        ({"unseen": (-0.1, 0.9)}, "half_length = -0.1"),
    ],
)
def test_what_cannot_be_made_is_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **change).check()
