"""Policies with a memory: the unit, what is carried and lost, gradients through sequences, and what they are for."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed import recipes
from polyfed.agents import A2C, PPO, REINFORCE, ObservationStatistics
from polyfed.agents.recurrent import gru_cell, remembering
from polyfed.agents.rollout import local_update
from polyfed.environments import Catch, Doors, Explicit, Noted, Recall, Remembered
from polyfed.environments.trace import trace_episode
from polyfed.exchange import Predictions
from polyfed.experiment import Evaluation, Experiment
from polyfed.simulation.simulate import Simulation
from polyfed.testing import check_agent

RECALL = Recall(length=3)
LEARNERS = (
    A2C(hidden=(8,), memory=4, rollout_steps=10),
    PPO(hidden=(8,), memory=4, rollout_steps=12, minibatches=2, epochs=2),
    REINFORCE(hidden=(8,), memory=4),
)
EACH = pytest.mark.parametrize("agent", LEARNERS, ids=lambda agent: type(agent).__name__)


def lived(agent, world, num_envs=2, num_steps=12):
    """A fresh learner's state and what it lives through."""
    home = agent.view(world)
    params = jax.tree.map(lambda x: jnp.broadcast_to(x, (num_envs,)), home.nominal())
    k_agent, k_start, k_draw, k_steps = jax.random.split(jax.random.key(0), 4)
    state = agent.init(k_agent, home, num_envs)

    @jax.jit
    def live(state):
        inputs = home.draw(k_draw, params, num_steps), jax.random.split(k_steps, (num_steps, num_envs + 2))
        return home.live(lambda x, k: agent.act(state, x, k), home.start(k_start, params), params, inputs)[1][0]

    return state, live(state)


@pytest.mark.slow
def test_the_unit_is_that_of_equinox():
    mine, theirs = gru_cell(3, 5, jax.random.key(0)), eqx.nn.GRUCell(3, 5, key=jax.random.key(1))
    old = mine.recalls.bias  # equinox has one bias, not two, for two of the gates
    theirs = eqx.tree_at(
        lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias, cell.bias_n),
        theirs,
        (mine.reads.weight, mine.recalls.weight, mine.reads.bias.at[:10].add(old[:10]), old[10:]),
    )
    x, memory = (jax.random.normal(jax.random.key(k), (4, size)) for k, size in ((2, 3), (3, 5)))
    np.testing.assert_allclose(mine(x, memory), jax.vmap(theirs)(x, memory), rtol=1e-5, atol=1e-6)


def test_a_sequence_is_its_steps_and_forgets_where_an_episode_ends():
    network = remembering(lambda size, key: gru_cell(size, 2, key).reads, (3, 4, 0), jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (6, 2, 7))
    over = jnp.zeros((6, 2), bool).at[2, 1].set(True)
    memory, wanted = x[0, :, 3:], []
    for t in range(6):
        seen = jnp.concatenate([x[t, :, :3], memory], axis=-1)
        wanted.append(network(seen))
        memory = jnp.where(over[t][:, None], 0.0, network.remember(seen))
    np.testing.assert_allclose(network.unrolled(x, over), jnp.stack(wanted), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(network.unrolled(x, None)[:3], network.unrolled(x, over)[:3])
    gradient = jax.grad(lambda x: jnp.sum(network.unrolled(x, over)[5]))(x)
    reaches = np.abs(np.asarray(gradient[..., :3])).sum(axis=-1) > 0  # steps from which something reached the last
    assert reaches.T.tolist() == [[True] * 6, [False] * 3 + [True] * 3]


@EACH
def test_what_is_remembered_is_carried_and_lost_with_the_episode(agent):
    state, trajectory = lived(agent, RECALL)
    size = agent.view(RECALL).size
    assert size == (4 if agent.episodic else 8)
    assert isinstance(trajectory.action, Noted)
    over = np.asarray(trajectory.terminated | trajectory.truncated)
    memory, noted = np.asarray(trajectory.observation[..., 2:]), np.asarray(trajectory.action.memory)
    assert over.any()
    np.testing.assert_array_equal(memory[0], 0)
    np.testing.assert_array_equal(memory[1:], np.where(over[:-1, :, None], 0, noted[:-1]))
    np.testing.assert_array_equal(trajectory.next_observation[..., 2:], noted)
    np.testing.assert_allclose(
        state.policy.unrolled(trajectory.observation, jnp.asarray(over)), state.policy(trajectory.observation),
        rtol=1e-4, atol=1e-6,
    )  # fmt: skip


@pytest.mark.slow
@EACH
def test_an_episode_is_played_and_traced_with_it(agent):
    home, key = agent.view(RECALL), jax.random.key(0)
    state = agent.init(key, home, 1)
    params = jax.tree.map(lambda x: jnp.broadcast_to(x, (3,)), home.nominal())
    trajectory, _, steps = jax.jit(lambda: home.play(lambda x, k: agent.act(state, x, k), params, key))()
    assert steps.tolist() == [4] * 3
    np.testing.assert_allclose(trajectory.observation[1:4, :, 2:], trajectory.action.memory[:3], rtol=1e-5, atol=1e-6)
    assert not np.asarray(trajectory.action.memory[4:]).any()
    _, score, length = trace_episode(home, lambda x: agent.policy(state, x), home.nominal(), key)
    assert length == 4
    assert abs(score) == 1.0
    assert abs(float(home.evaluate(lambda x: agent.policy(state, x), params, key, 5)[0])) <= 1.0


@pytest.mark.slow
@EACH
@pytest.mark.parametrize("world", [RECALL, Doors()], ids=["Recall", "Doors"])
def test_learners_keep_the_contract_with_a_memory(agent, world):
    check_agent(agent, world, num_steps=40)


@pytest.mark.slow
def test_gradients_reach_back_through_the_episode():
    """Of a loss on the last step alone, the unit's reading of the sign."""
    state, trajectory = lived(LEARNERS[0], RECALL, num_steps=4)
    over = trajectory.terminated

    def loss(reads, unroll):
        policy = eqx.tree_at(lambda p: p.cell.reads.weight, state.policy, reads)
        outputs = policy.unrolled(trajectory.observation, over) if unroll else policy(trajectory.observation)
        return jnp.sum(outputs[3] ** 2)

    through, alone = (jax.grad(loss)(state.policy.cell.reads.weight, unroll) for unroll in (True, False))
    assert np.abs(np.asarray(through[:, 0])).max() > 0  # the sign is shown in the first step only
    np.testing.assert_array_equal(alone[:, 0], 0)


@pytest.mark.slow
def test_a_federation_with_memories_averages_them():
    experiment = Experiment(
        "recall", RECALL, Explicit({"scale": (1.0, 2.0)}), num_clients=2, num_envs=2, num_rounds=1, local_steps=20,
        agent=LEARNERS[0], evaluation=Evaluation(every=1, episodes=2),
    )  # fmt: skip
    simulation = Simulation(recipes.fedavg(experiment), (0,))
    federation, _ = simulation.advance(simulation.init(), 1)
    assert np.isfinite(np.asarray(federation.server.broadcast.cell.recalls.weight)).all()
    assert federation.server.broadcast.cell.recalls.weight.shape == (1, 12, 4)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(simulation.evaluate(federation)))


@pytest.mark.parametrize(
    ("agent", "world", "words"),
    [
        (A2C(memory=4, channels=(4,)), Catch(), "agent.memory = 4 reads observations as they come, but agent.channels"),
        (A2C(memory=4, statistics=ObservationStatistics()), RECALL, "but agent.statistics changes them"),
        (A2C(memory=-1), RECALL, "agent.memory"),
        (PPO(memory=4, rollout_steps=10, minibatches=4), RECALL, "cannot be cut into agent.minibatches = 4 sequences"),
    ],
    ids=["channels", "statistics", "negative", "minibatches"],
)
def test_what_does_not_fit_a_memory_is_refused_in_a_sentence(agent, world, words):
    with pytest.raises(ValueError, match=words) as caught:
        agent.check(world)
    assert "\n" not in str(caught.value)


def test_predictions_on_public_states_are_refused_for_a_memory():
    experiment = Experiment(
        "recall", RECALL, Explicit(), num_clients=2, agent=LEARNERS[2], payload=Predictions()
    )  # fmt: skip
    with pytest.raises(ValueError, match="what an agent with a memory does depends on what came before"):
        recipes.fedhpd(experiment).check()


def test_no_memory_is_no_change():
    agent = dataclasses.replace(LEARNERS[0], memory=0)
    assert agent.view(RECALL) is RECALL
    assert type(agent.init(jax.random.key(0), RECALL, 1).policy).__name__ == "MLP"


BY_MEMORY = (
    (A2C(hidden=(16,), memory=16, rollout_steps=40, learning_rate=3e-3, entropy_weight=0.003), 40 * 1500),
    (PPO(hidden=(16,), memory=16, rollout_steps=128, minibatches=4, epochs=4, learning_rate=3e-3), 128 * 200),
    (REINFORCE(hidden=(16,), memory=16, learning_rate=3e-3, normalize=False), 6000),
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("agent", "steps"), BY_MEMORY, ids=["A2C", "PPO", "REINFORCE"])
@pytest.mark.parametrize("remembers", [True, False], ids=["remembers", "does not"])
def test_the_sign_is_recalled_by_those_who_remember_alone(agent, steps, remembers, seed):
    if not remembers:
        agent = dataclasses.replace(agent, memory=0)
    home = agent.view(RECALL)
    params = jax.tree.map(lambda x: x[None], home.nominal())
    k_agent, k_world, k_life, k_judge = jax.random.split(jax.random.key(seed), 4)
    client = agent.init(k_agent, home, 1), home.start(k_world, params), params
    state, _, _ = jax.jit(lambda *c: local_update(home, agent, c, k_life, num_steps=steps))(*client)
    score = float(home.evaluate(lambda x: agent.policy(state, x), params, k_judge, 2000)[0])
    assert score == 1.0 if remembers else abs(score) < 0.1  # four standard errors of a mean of 2000 signs


def test_a_world_that_remembers_takes_actions_without_a_note():
    home = Remembered(RECALL, 3)
    state, _ = home.reset(jax.random.key(0), home.nominal())
    _, step = home.step(jax.random.key(0), state, jnp.int32(1), home.nominal())
    assert step.observation.tolist()[2:] == [0.0] * 3


@pytest.mark.slow
def test_who_is_judged_notes_nothing_for_the_value_network():
    agent = LEARNERS[0]
    state, trajectory = lived(agent, RECALL)
    seen = trajectory.observation[2]
    judged, learning = agent.policy(state, seen).memory, agent.act(state, seen, jax.random.key(0)).memory
    np.testing.assert_allclose(judged[:, :4], learning[:, :4], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(judged[:, 4:], 0)
    assert np.abs(np.asarray(learning[:, 4:])).min() > 0
