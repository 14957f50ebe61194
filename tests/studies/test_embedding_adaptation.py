"""Adaptation to unseen worlds: what each arm trains and where it begins, and that the study is whole."""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

from polyfed.agents import DDPG, DQN, Classifier
from polyfed.environments import Explicit
from polyfed.experiments import load_study
from polyfed.simulation.simulate import Simulation
from polyfed.studies.embedded_learners import PerDDPG, PerDQN, stepless
from polyfed.studies.embedding_adaptation import EmbeddingAdaptation
from polyfed.studies.embedding_arms import PERSONAL, begin, policy_returns
from polyfed.studies.embedding_findings import measures
from polyfed.study import findings_to_data, silent

SEEDS = (3, 8)


def named(name):
    """The study as it is published here."""
    study = load_study(name)
    assert isinstance(study, EmbeddingAdaptation)
    return study


def small(study, **agent):
    """The same with three clients, two unseen worlds and few steps."""
    experiment = dataclasses.replace(
        study.experiment,
        variation=Explicit({study.quantity: (0.6, 0.7, 0.8)}),
        num_clients=3,
        num_rounds=2,
        local_steps=40,
        agent=dataclasses.replace(study.experiment.agent, hidden=(8,), replay_capacity=60, **agent),
    )
    return dataclasses.replace(
        study,
        experiment=experiment,
        num_unseen=2,
        adaptation_steps=80,
        adaptation_points=2,
        adaptation_batch=4,
        episodes=2,
    )


DISCRETE, CONTINUOUS = named("perdqn-embedding"), named("perddpg-embedding")
SMALL = {
    "dqn": small(DISCRETE),
    "ddpg": dataclasses.replace(small(CONTINUOUS, batch_size=4, learning_starts=8), learner=PerDDPG(learning_starts=8)),
}
LEARNERS = pytest.mark.parametrize("study", SMALL.values(), ids=SMALL)


def vectors_of(agent):
    """A state's vectors, one after another in a list."""
    return (
        [agent.embedding.vector]
        if hasattr(agent, "online")
        else [
            agent.learner.embedding.actor.vector,
            agent.learner.embedding.critic.vector,
        ]
    )


def networks_of(agent):
    """A state's networks and their targets."""
    if hasattr(agent, "online"):
        return (agent.online,), (agent.target,)
    own = agent.learner
    return (own.actor, own.critic), (own.actor_target, own.critic_target)


def trained(study, seed=0):
    """Networks per seed and the vectors of three clients, `[S, C, 2]`, that nobody trained."""
    experiment = study.training(study.learner.recipes[0])
    init = lambda key: experiment.agent.share(experiment.agent.init(key, experiment.environment, 1))  # noqa: E731
    draw = np.random.default_rng(seed).normal
    random = lambda like: 0.5 * draw(size=(len(SEEDS), *like.shape)).astype(np.float32)  # noqa: E731
    networks = jax.tree.map(random, jax.eval_shape(init, jax.random.key(0)))
    own = [draw(size=(2, 3, 2)).astype(np.float32) for _ in range(len(study.learner.rates))]
    return networks, own[0] if len(own) == 1 else tuple(own)


@pytest.fixture(scope="module", params=[SMALL["dqn"], pytest.param(SMALL["ddpg"], marks=pytest.mark.slow)], ids=SMALL)
def adapted(request):
    """The newcomers before and after, by arm and world, `[S, arm, world]`."""
    study = request.param
    simulation = Simulation(study.adaptation(study.learner.recipes[0]), SEEDS)
    networks, vectors = trained(study)
    federation = begin(simulation, study.learner, (networks, vectors), PERSONAL)
    before = jax.device_get(simulation.unpadded(federation)).clients[0].agent
    after = jax.device_get(simulation.unpadded(simulation.advance(federation, 2)[0])).clients[0].agent
    shape = lambda x: x.reshape(2, len(PERSONAL), 2, *x.shape[1:])  # noqa: E731
    return jax.tree.map(shape, (before, after)), networks, vectors


def test_every_newcomer_begins_with_the_trained_networks(adapted) -> None:
    (before, _), networks, _ = adapted
    own, targets = networks_of(before)
    for found, given in zip(jax.tree.leaves(own), jax.tree.leaves(networks), strict=True):
        np.testing.assert_array_equal(found, np.broadcast_to(given[:, None, None], found.shape))
    for one, other in zip(jax.tree.leaves(own), jax.tree.leaves(targets), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not before.replay.count.any()


def test_vectors_begin_at_the_mean_or_at_random(adapted) -> None:
    (before, _), _, vectors = adapted
    for given, begun in zip(jax.tree.leaves(vectors), vectors_of(before), strict=True):
        for i, arm in enumerate(PERSONAL):
            found = begun[:, i]
            if arm.mean:
                np.testing.assert_allclose(found, np.broadcast_to(given.mean(1)[:, None], found.shape), rtol=1e-6)
            else:
                assert np.abs(found).max() < 1
                assert len(np.unique(found)) == found.size


def test_every_arm_trains_what_it_says_and_nothing_else(adapted) -> None:
    (before, after), _, _ = adapted
    for i, arm in enumerate(PERSONAL):
        pairs = zip(jax.tree.leaves(networks_of(before)), jax.tree.leaves(networks_of(after)), strict=True)
        network = [np.abs(b[:, i] - a[:, i]).max() for b, a in pairs]
        assert all(x > 0 for x in network) == any(x > 0 for x in network) == arm.network
        for one, other in zip(vectors_of(before), vectors_of(after), strict=True):
            vector = np.abs(one[:, i] - other[:, i])
            assert np.all(vector > 0) == np.any(vector > 0) == arm.embedding


@LEARNERS
def test_returns_are_of_the_policy_with_its_own_vectors(study) -> None:
    """Against one world at a time, by the agent itself."""
    experiment = study.training(study.learner.recipes[0])
    networks, vectors = trained(study, 1)
    network, own_vectors = jax.tree.map(lambda x: x[0], (networks, vectors))
    worlds = experiment.variation.params(experiment.environment, 3)
    parts = experiment.environment, study.learner, stepless(study.learner, experiment.agent)
    key = jax.random.key(5)
    found = policy_returns(parts, (network, own_vectors), (worlds, key), num_episodes=3, personal=False)
    blank = experiment.agent.absorb(experiment.agent.init(key, experiment.environment, 1), network)

    @jax.jit
    def alone(vector, world):
        state = eqx.tree_at(study.learner.vectors, blank, vector)
        return experiment.environment.evaluate(lambda seen: experiment.agent.policy(state, seen), world, key, 3)

    for i in range(3):
        vector, own = jax.tree.map(lambda x, i=i: x[i], own_vectors), jax.tree.map(lambda x, i=i: x[i : i + 1], worlds)
        np.testing.assert_allclose(float(found[i]), float(alone(vector, own)[0]), rtol=1e-5)
    assert len(np.unique(found)) > 1


@LEARNERS
def test_trainings_differ_in_the_embedding_alone(study) -> None:
    personal, plain = (study.training(method) for method in study.learner.recipes)
    assert personal.agent.embedding.size == 2  # three clients
    assert plain.agent == dataclasses.replace(personal.agent, embedding=None)


@pytest.mark.parametrize("study", [DISCRETE, CONTINUOUS], ids=SMALL)
def test_newcomers_meet_worlds_that_nobody_trained_in(study) -> None:
    assert study.training_embedding.size == 4  # ten clients, as published
    assert not set(study.unseen_values) & set(study.experiment.variation.values[0][1])


def test_newcomers_explore_as_the_learner_says() -> None:
    agents = {name: study.adaptation(study.learner.recipes[1]).agent for name, study in SMALL.items()}
    assert isinstance(agents["dqn"], DQN)
    assert float(agents["dqn"].exploration.start) == 0.1
    assert isinstance(agents["ddpg"], DDPG)
    assert agents["ddpg"].learning_starts == 8
    assert agents["ddpg"].noise == SMALL["ddpg"].experiment.agent.noise


def test_measures_by_hand() -> None:
    own = np.arange(12.0).reshape(1, 2, 6)
    found = measures((own, own[..., :2]))
    assert [float(found[name][0]) for name in list(found)[:3]] == [8.5, 6.0, 5.5]
    assert [float(found[name][0]) for name in list(found)[3:]] == [6.5, 6.0, 3.5]


@pytest.mark.slow
@LEARNERS
def test_findings_are_whole(study) -> None:
    found = study.answer(SEEDS, silent)
    assert [len(table.rows) for table in found.tables] == [3, 7, 7]
    assert [row[0] for row in found.tables[0].rows] == [*study.learner.names, "difference"]
    assert len(found.curves) == 5
    nothing = next(row for row in found.tables[1].rows if row[0].startswith("Ctr-2"))
    assert nothing[5].value == 0  # what is not trained does not change
    findings_to_data(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adaptation_points": 3}, "cannot be cut into 3 equal parts"),
        ({"num_unseen": 0}, "num_unseen"),
        ({"learner": PerDQN(epsilon=2.0)}, "epsilon = 2"),
        ({"learner": PerDDPG()}, "about PerDDPGAvg, but the learner is DQN: give a DDPG"),
        (
            {"experiment": dataclasses.replace(SMALL["dqn"].experiment, agent=Classifier())},
            "the learner is Classifier: give a DQN",
        ),
        ({"unseen": (-0.1, 0.9)}, "half_length = -0.1"),
    ],
)
def test_what_cannot_be_made_is_refused(change, message) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL["dqn"], **change).check()


def test_a_learner_that_never_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="learning_starts = 0"):
        dataclasses.replace(SMALL["ddpg"], learner=PerDDPG(learning_starts=0)).check()
