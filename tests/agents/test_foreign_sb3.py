import inspect
import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.foreign import guarded
from polyfed.agents.foreign_sb3 import OURS, ROLLOUTS, SB3
from polyfed.agents.foreign_torch import TorchAgent
from polyfed.aggregation.consensus import Consensus
from polyfed.environments import CartPole, Pendulum, Uniform
from polyfed.types import Gaussians, Logits, Probabilities, Update

torch = pytest.importorskip("torch")
stable_baselines3 = pytest.importorskip("stable_baselines3")

CART, ROD = CartPole(max_steps=40), Pendulum(max_steps=40)
SMALL = {"hidden": (16,), "learning_rate": 1e-3}
PARTS = {
    "ppo": (SB3("PPO", **SMALL, options=(("n_steps", 32), ("batch_size", 16), ("n_epochs", 2))), CART),
    "a2c": (SB3("A2C", **SMALL), CART),
    "dqn": (SB3("DQN", **SMALL, boltzmann=0.5, options=(("learning_starts", 20), ("buffer_size", 500))), CART),
    "ppo-box": (SB3("PPO", **SMALL, options=(("n_steps", 32), ("batch_size", 16), ("n_epochs", 2))), ROD),
    "a2c-box": (SB3("A2C", **SMALL), ROD),
    "sac": (SB3("SAC", **SMALL, options=(("learning_starts", 20), ("buffer_size", 500), ("batch_size", 16))), ROD),
}
EACH = pytest.mark.parametrize("name", PARTS)


def made(name, seed=0):
    part, environment = PARTS[name]
    return part.make(environment, environment.nominal(), seed), environment


def states(environment, count=16):
    size = environment.observation_space.size
    return np.random.default_rng(0).normal(scale=0.3, size=(count, size)).astype(np.float32)


def target_for(environment, count=16):
    if environment is CART:
        return Probabilities(np.tile(np.float32([0.8, 0.2]), (count, 1)))
    return Gaussians(np.full((count, 1), 0.5, np.float32), np.full((count, 1), 0.7, np.float32))


def divergence(target, own):
    """`KL(target, own)`, mean over states and entries, naively."""
    if isinstance(target, Probabilities):
        p, q = target.probabilities.astype(float), own.probabilities.astype(float)
        return np.mean(np.sum(p * np.log(p / q), axis=-1))
    m1, s1, m2, s2 = (np.float64(x) for x in (target.mean, target.scale, own.mean, own.scale))
    return np.mean(np.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5)


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


@EACH
def test_it_lives_learns_and_says_how_long(name):
    part, environment = PARTS[name]
    part.check(environment)
    agent, _ = made(name)
    before, lived, ended = agent.predict(states(environment)), 0, 0
    for _ in range(2):
        metrics, reason = guarded(agent, "learn", environment, 50)
        assert reason is None
        assert metrics["steps"] == -(-50 // part.rollout_length) * part.rollout_length
        assert math.isnan(metrics["return"]) == (metrics["episodes"] == 0)
        lived, ended = lived + metrics["steps"], ended + metrics["episodes"]
    assert lived == agent.model.num_timesteps
    assert ended >= 2 if environment is CART else ended == lived // 40  # a running episode went on in the second call
    assert not equal(before, agent.predict(states(environment)))
    for greedy in (True, False):
        actions, reason = guarded(agent, "act", environment, states(environment), greedy)
        assert reason is None
        assert actions.shape == ((16,) if environment is CART else (16, 1))


@EACH
def test_it_predicts_what_it_would_do(name):
    agent, environment = made(name)
    observations = states(environment)
    prediction, reason = guarded(agent, "predict", environment, observations)
    assert reason is None
    with torch.no_grad():
        seen = torch.tensor(observations)
        if name == "dqn":
            values = agent.model.q_net(seen).numpy() / 0.5
            expected = Probabilities(np.exp(values) / np.exp(values).sum(axis=1, keepdims=True))
        elif name == "sac":
            mean, log_scale, _ = agent.model.actor.get_action_dist_params(seen)
            expected = Gaussians(mean.numpy(), np.exp(log_scale.numpy()))
            np.testing.assert_allclose(2 * np.tanh(expected.mean), agent.act(observations, True), atol=1e-5)
        else:
            given = agent.model.policy.get_distribution(seen).distribution
            discrete = environment is CART
            expected = Probabilities(given.probs.numpy()) if discrete else Gaussians(given.mean, given.stddev)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(prediction), strict=True):
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-5, atol=1e-6)
    assert equal(prediction, agent.predict(observations))


@EACH
def test_it_imitates_with_its_policy_alone(name):
    agent, environment = made(name)
    observations, target = states(environment), target_for(environment)
    before, weights = divergence(target, agent.predict(observations)), agent.save()
    assert guarded(agent, "imitate", environment, observations, target, 200, 1.0) == (None, None)
    assert divergence(target, agent.predict(observations)) < 0.8 * before
    after = agent.save()
    critics = [key for key in weights if "value" in key or "critic" in key or "target" in key]
    assert bool(critics)
    assert all(np.array_equal(weights[key], after[key]) for key in critics)
    assert any(not np.array_equal(weights[key], after[key]) for key in weights)


@EACH
def test_agreement_and_weight_0_change_nothing(name):
    agent, environment = made(name)
    observations = states(environment)
    own, weights = agent.predict(observations), agent.save()
    agent.imitate(observations, own, num_steps=3, weight=1.0)
    agent.imitate(observations, target_for(environment), num_steps=3, weight=0.0)
    assert all(np.array_equal(value, agent.save()[key]) for key, value in weights.items())


@EACH
def test_weights_travel_as_arrays(name):
    safetensors = pytest.importorskip("safetensors.numpy")
    agent, environment = made(name)
    agent.learn(60)
    arrays, reason = guarded(agent, "save", environment)
    assert reason is None
    arrays = safetensors.load(safetensors.save(arrays))
    other, _ = made(name, seed=1)
    other.load(arrays)
    observations = states(environment)
    assert equal(agent.predict(observations), other.predict(observations))
    assert other.model.num_timesteps == agent.model.num_timesteps
    assert {key: value.tolist() for key, value in other.save().items()} == {k: v.tolist() for k, v in arrays.items()}
    _, reason = guarded(other, "learn", environment, 50)
    assert reason is None
    wider = SB3(PARTS[name][0].algorithm, hidden=(17,)).make(environment, environment.nominal(), seed=0)
    with pytest.raises(ValueError, match="load it into an equal one"):
        wider.load(arrays)


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_an_agent_depends_on_its_own_seed_alone(name):
    alone, environment = made(name)
    observations = states(environment)
    alone.learn(40)
    alone.learn(40)
    outside = torch.random.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    first, _ = made(name)
    second, _ = made(name, seed=1)
    for agent in (first, second, second, first):
        agent.learn(40)
        agent.act(observations, False)
    assert torch.equal(outside[0], torch.random.get_rng_state())
    assert np.array_equal(outside[1], np.random.get_state()[1])
    assert outside[2] == random.getstate()
    third, _ = made(name)
    for _ in range(2):
        third.learn(40)
        third.act(observations, False)
    assert equal(first.predict(observations), third.predict(observations))
    assert not equal(first.predict(observations), second.predict(observations))


def test_logits_are_imitated_too_and_another_kind_is_refused():
    observations, target = states(CART), target_for(CART)
    predictions = []
    for goal in (target, Logits(np.log(target.probabilities) + 3.0)):
        agent, _ = made("ppo")
        agent.imitate(observations, goal, num_steps=5, weight=1.0)
        predictions.append(agent.predict(observations).probabilities)
    np.testing.assert_allclose(*predictions, atol=1e-5)
    _, reason = guarded(agent, "imitate", CART, observations, target_for(ROD), 1, 1.0)
    assert "but the consensus is Gaussians" in reason
    _, reason = guarded(agent, "imitate", CART, observations, Probabilities(np.full((16, 2), np.nan)), 1, 1.0)
    assert "is not finite" in reason


def test_agents_of_different_make_meet_in_what_they_predict():
    module = torch.nn.Linear(4, 2)
    agents = [made("ppo")[0], made("dqn")[0], TorchAgent(module, CART, CART.nominal(), seed=0)]
    observations = states(CART)
    for agent in agents:
        assert guarded(agent, "learn", CART, 60)[1] is None
    own = [guarded(agent, "predict", CART, observations)[0] for agent in agents]
    stacked = jax.tree.map(lambda *rows: jnp.stack(rows), *own)
    consensus, _, metrics = Consensus().aggregate((), Update(payload=stacked, weight=jnp.ones(3)))
    assert metrics["heard"] == 3
    for agent, before in zip(agents, own, strict=True):
        assert guarded(agent, "imitate", CART, observations, consensus, 100, 1.0) == (None, None)
        goal = Probabilities(np.asarray(consensus.probabilities))
        assert divergence(goal, agent.predict(observations)) < divergence(goal, before)


def test_a_time_limit_is_no_end_of_the_world():
    agent, _ = made("ppo-box")
    agent.view.reset(seed=0)
    vector = agent.model.env
    vector.reset()
    for _ in range(40):
        _, _, over, (info,) = vector.step(np.zeros((1, 1), np.float32))
    assert over[0]
    assert info["TimeLimit.truncated"]
    assert info["terminal_observation"].shape == (3,)


def test_exploration_falls_once_and_not_in_every_call():
    part = SB3("DQN", hidden=(8,), exploration_steps=100, options=(("exploration_final_eps", 0.1),))
    agent = part.make(CART, CART.nominal(), seed=0)
    rates = []
    for _ in range(3):
        agent.learn(40)
        rates.append(agent.model.exploration_rate)
    np.testing.assert_allclose(rates, [1 - 0.9 * 0.4, 1 - 0.9 * 0.8, 0.1], atol=0.01)


def test_worlds_are_those_of_the_clients():
    params = Uniform("half_length", rho=0.5, seed=0).params(CART, 2)
    part = PARTS["ppo"][0]
    agents = [part.make(CART, jax.tree.map(lambda x, i=i: x[i], params), seed=0) for i in range(2)]
    for agent in agents:
        agent.model.env.reset()
    first, second = (agent.model.env.step(np.array([1]))[0] for agent in agents)
    assert not np.allclose(first, second)


def test_our_table_is_what_the_package_says():
    for algorithm, (option, default) in ROLLOUTS.items():
        known = inspect.signature(getattr(stable_baselines3, algorithm).__init__).parameters
        assert known[option].default == default
        assert SB3(algorithm).rollout_length == default
        assert {"policy", "env", "seed", "device", "learning_rate"} <= set(OURS) & set(known)


@pytest.mark.parametrize(
    ("part", "environment", "sentence"),
    [
        (SB3("PPOO"), CART, "did you mean 'PPO'"),
        (SB3("DQN"), ROD, "use SAC or PPO"),
        (SB3("SAC"), CART, "takes one of 2 actions"),
        (SB3("PPO", hidden=(0,)), CART, "agent.hidden"),
        (SB3("PPO", activation="gelu"), CART, "agent.activation"),
        (SB3("PPO", learning_rate=-1.0), CART, "agent.learning_rate"),
        (SB3("DQN", boltzmann=0.0), CART, "agent.boltzmann"),
        (SB3("DQN", exploration_steps=0), CART, "agent.exploration_steps"),
        (SB3("PPO", options=(("n_step", 8),)), CART, "did you mean 'n_steps'"),
        (SB3("PPO", options=(("seed", 8),)), CART, "which is the client's: leave it out"),
        (SB3("DQN", options=(("exploration_fraction", 0.5),)), CART, "exploration_steps takes its place"),
        (SB3("PPO", options=(("ent_coef", "high"),)), CART, "no number"),
        (SB3("A2C", options=(("n_steps", 0),)), CART, "give 1 or more"),
        (SB3("PPO", options=(("batch_size", 1),)), CART, "makes no PPO of agent.options"),
    ],
)
def test_what_cannot_be_made_is_refused(part, environment, sentence):
    with pytest.raises(ValueError, match=sentence):
        part.check(environment)


def test_activations_are_taken():
    agent = SB3("DQN", hidden=(8,), activation="tanh").make(CART, CART.nominal(), seed=0)
    assert any(isinstance(layer, torch.nn.Tanh) for layer in agent.model.q_net.modules())


@pytest.mark.slow
def test_ppo_learns_to_balance():
    environment = CartPole()
    agent = SB3("PPO", options=(("n_steps", 512),)).make(environment, environment.nominal(), seed=0)
    returns = [agent.learn(1024)["return"]]
    while returns[-1] < 100 and len(returns) < 20:
        returns.append(agent.learn(1024)["return"])
    assert returns[0] < 50
    assert returns[-1] >= 100, returns
