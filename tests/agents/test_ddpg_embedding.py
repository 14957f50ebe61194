"""Embeddings of DDPG: frozen, they are numbers written before every observation; at work, they never leave."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import DDPG, Embedding
from polyfed.agents.actor_critic import Embeddings
from polyfed.environments import Box, Explicit, Pendulum
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import perddpgavg
from polyfed.simulation.simulate import Simulation
from polyfed.types import Trajectory

SMALL = DDPG(hidden=(8,), batch_size=16, replay_capacity=60, learning_starts=5)
VECTOR = np.array([0.3, -0.8], np.float32)


def transition(seed):
    random = np.random.default_rng(seed)
    draw = lambda *shape: random.normal(size=(1, 1, *shape)).astype(np.float32)  # noqa: E731
    return Trajectory(draw(3), draw(1), draw(), draw(3), draw() > 1, draw() > 1)


@pytest.mark.slow
def test_a_frozen_embedding_is_a_longer_observation():
    """After every gradient step: the same networks and targets as without it where the numbers are observed."""
    actions = Pendulum().action_space
    long = SimpleNamespace(observation_space=Box(low=(-1.0,) * 5, high=(1.0,) * 5), action_space=actions)
    personal = dataclasses.replace(SMALL, embedding=Embedding(2, learning_rate=0.0))
    own, plain = (agent.init(jax.random.key(0), world, 1) for agent, world in ((personal, Pendulum()), (SMALL, long)))
    at = personal.embedding.at(jnp.asarray(VECTOR))
    own = dataclasses.replace(own, learner=dataclasses.replace(own.learner, embedding=Embeddings(at, at)))
    learn = jax.jit(lambda state, lived, key: personal.learn(state, lived, key)[0])
    learn_plain = jax.jit(lambda state, lived, key: SMALL.learn(state, lived, key)[0])
    before = lambda seen: np.concatenate([np.broadcast_to(VECTOR, (1, 1, 2)), seen], -1)  # noqa: E731
    for t in range(15):
        lived, key = transition(t), jax.random.key(t)
        seen = {name: before(getattr(lived, name)) for name in ("observation", "next_observation")}
        own, plain = learn(own, lived, key), learn_plain(plain, dataclasses.replace(lived, **seen), key)
    for name in ("actor", "critic", "actor_target", "critic_target"):
        pairs = zip(*(jax.tree.leaves(getattr(state.learner, name)) for state in (own, plain)), strict=True)
        for one, other in pairs:
            np.testing.assert_array_equal(one, other)
    assert int(own.learner.steps) == 11


@pytest.mark.slow
def test_perddpgavg_shares_networks_and_no_embedding():
    experiment = Experiment(
        name="three",
        environment=Pendulum(),
        variation=Explicit({"length": (0.5, 1.0, 1.5)}),
        num_clients=3,
        agent=SMALL,
        num_rounds=1,
        local_steps=20,
        evaluation=Evaluation(every=1),
    )
    simulation = Simulation(perddpgavg(experiment), (0,))
    begun = simulation.init()
    first = np.array(simulation.unpadded(begun).clients[0].agent.learner.embedding.actor.vector)
    federation = jax.device_get(simulation.unpadded(simulation.advance(begun, 1)[0]))
    last = federation.clients[0].agent.learner.embedding
    assert first.shape == (3, 2)
    assert len(np.unique(first)) == 6
    assert np.all(last.actor.vector != first)
    assert np.all(last.actor.vector != last.critic.vector)
    assert sorted(federation.server.broadcast) == ["actor", "critic"]
    sizes = [leaf.shape[1:] for leaf in jax.tree.leaves(federation.server.broadcast)]
    assert (2,) not in sizes
