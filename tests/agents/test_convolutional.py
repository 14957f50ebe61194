"""Learners that read images: stages before their networks, in every learner that has the option."""

import dataclasses

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from polyfed import recipes
from polyfed.agents import A2C, DQN, PPO, REINFORCE, Embedding, HardUpdate, LinearDecay, WorstCase
from polyfed.agents.convolutional import Convolutional
from polyfed.agents.networks import CNN
from polyfed.agents.rollout import local_update
from polyfed.environments import CartPole, Catch, Explicit
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.simulate import Simulation
from polyfed.testing import check_agent

CATCH = Catch()
LEARNERS = (
    DQN(hidden=(8,), channels=(4,), dueling=True, batch_size=8, replay_capacity=64, learning_starts=10),
    PPO(hidden=(8,), channels=(4, 4), rollout_steps=16, minibatches=2, epochs=2, activation=("tanh",)),
    A2C(hidden=(8,), channels=(4,)),
    REINFORCE(hidden=(8,), channels=(4,)),
)


def name(agent):
    return type(agent).__name__


@pytest.mark.slow
@pytest.mark.parametrize("agent", LEARNERS, ids=name)
def test_learners_keep_the_contract_on_images(agent):
    check_agent(agent, CATCH, num_steps=40)


@pytest.mark.parametrize("agent", LEARNERS, ids=name)
def test_images_go_through_stages_and_neighbouring_pixels_share_weights(agent):
    state = agent.init(jax.random.key(0), CATCH, 1)
    network = state.online if isinstance(agent, DQN) else state.policy
    assert isinstance(network, Convolutional)
    assert network.stages[0].weight.shape == (4, 1, 3, 3)
    seen = jnp.asarray(np.random.default_rng(0).random((5, 36)), jnp.float32)
    one_by_one = jnp.stack([network(x) for x in seen])
    np.testing.assert_allclose(network(seen), one_by_one, rtol=1e-5, atol=1e-6)
    assert np.asarray(agent.policy(state, seen)).shape == (5,)


def test_it_is_the_network_of_classifiers():
    form = {"hidden": (8,), "activation": "relu"}
    cnn = CNN((6, 6), 3, channels=(4,), key=jax.random.key(3), **form)
    same = Convolutional(cnn.stages, cnn.head, (6, 6), "relu")
    seen = jnp.asarray(np.random.default_rng(0).random((2, 4, 36)), jnp.float32)
    np.testing.assert_array_equal(same(seen), cnn(seen))


def test_no_channels_leave_learners_as_they_were():
    plain, image = (dataclasses.replace(LEARNERS[2], channels=c).init(jax.random.key(0), CATCH, 1) for c in ((), (4,)))
    assert type(plain.policy).__name__ == "MLP"
    assert plain.policy.layers[0].weight.shape == (8, 36)
    assert image.policy.network.layers[0].weight.shape == (8, 3 * 3 * 4)


@pytest.mark.slow
def test_a_federation_averages_stages_as_it_does_layers():
    experiment = Experiment(
        "catch", CATCH, Explicit({"scale": (1.0, 2.0)}), num_clients=2, num_envs=2, num_rounds=1, local_steps=20,
        agent=dataclasses.replace(LEARNERS[2], rollout_steps=10), evaluation=Evaluation(every=1, episodes=2),
    )  # fmt: skip
    simulation = Simulation(recipes.fedavg(experiment), (0,))
    federation, metrics = simulation.advance(simulation.init(), 1)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(metrics) if x.dtype == jnp.float32)
    shapes = [x.shape for x in jax.tree.leaves(federation)]
    assert any(shape[-4:] == (4, 1, 3, 3) for shape in shapes)


class Pixels(gymnasium.Env):
    """Pictures of bytes."""

    observation_space = spaces.Box(0, 255, (8, 6, 3), np.uint8)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low + np.uint8(255 * self.np_random.integers(2)), {}

    def step(self, action):
        return self.observation_space.high, float(action), False, False, {}


@pytest.mark.slow
def test_pictures_of_gymnasium_are_read():
    gymnasium.register("Pixels-v0", entry_point=Pixels, max_episode_steps=5)
    try:
        agent, world = LEARNERS[2], Gymnasium("Pixels-v0", wrappers=("FrameStackObservation(stack_size=2)",))
        agent.check(world)
        params = jax.tree.map(lambda x: x[None], world.nominal())
        client = agent.init(jax.random.key(0), world, 1), world.start(jax.random.key(1), params), params
        assert client[0].policy.stages[0].weight.shape == (4, 6, 3, 3)
        state, _, metrics = jax.jit(lambda *c: local_update(world, agent, c, jax.random.key(2), num_steps=16))(*client)
        assert float(metrics["episodes"]) == 3
        assert np.any(np.asarray(state.policy.stages[0].weight != client[0].policy.stages[0].weight))
    finally:
        del gymnasium.registry["Pixels-v0"]


@pytest.mark.parametrize(
    ("agent", "world", "words"),
    [
        (LEARNERS[2], CartPole(), "what CartPole shows has no rows and columns"),
        (A2C(channels=(4, 4, 4)), CATCH, "halves rows and columns 3 times, but Catch shows 6 x 6: give at most 2"),
        (DQN(channels=(0,)), CATCH, "agent.channels"),
        (DQN(channels=(4,), width=8), CATCH, "agent.width is of networks that read vectors"),
        (DQN(channels=(4,), embedding=Embedding()), CATCH, "agent.embedding is of networks that read vectors"),
        (DQN(channels=(4,), worst_case=WorstCase()), CATCH, "agent.worst_case is of networks that read vectors"),
    ],
    ids=["vectors", "too many", "none", "width", "embedding", "worst case"],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(agent, world, words):
    with pytest.raises(ValueError, match=words) as caught:
        agent.check(world)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("agent", "steps"),
    [
        (
            DQN(
                hidden=(32,), channels=(8,), discount=0.9, learning_starts=100, target_update=HardUpdate(100),
                exploration=LinearDecay(1.0, 0.1, 3000), replay_capacity=5000, batch_size=32,
            ),
            8000,
        ),
        (PPO(hidden=(32,), channels=(8,), discount=0.9, rollout_steps=128, learning_rate=3e-3), 128 * 150),
    ],
    ids=["DQN", "PPO"],
)  # fmt: skip
def test_balls_are_caught(agent, steps, seed):
    params = jax.tree.map(lambda x: x[None], CATCH.nominal())
    k_agent, k_world, k_life, k_judge = jax.random.split(jax.random.key(seed), 4)
    client = agent.init(k_agent, CATCH, 1), CATCH.start(k_world, params), params
    state, _, _ = jax.jit(lambda *c: local_update(CATCH, agent, c, k_life, num_steps=steps))(*client)
    assert float(CATCH.evaluate(lambda x: agent.policy(state, x), params, k_judge, 200)[0]) >= 0.95
