import math

import jax
import numpy as np
import pytest

from polyfed.agents.divergence import divergence
from polyfed.agents.foreign import Made, guarded
from polyfed.agents.foreign_tensors import Chance, as_prediction, kl_from, load_torch
from polyfed.agents.foreign_torch import TorchAgent
from polyfed.environments import CartPole, Pendulum
from polyfed.types import ActionValues, Gaussians, Logits, Probabilities

torch = pytest.importorskip("torch")

CART, ROD = CartPole(max_steps=40), Pendulum(max_steps=40)


class Normal(torch.nn.Module):
    """Mean and scale of a torque."""

    def __init__(self, size=1):
        super().__init__()
        self.body, self.log_scale = torch.nn.Linear(3, size), torch.nn.Parameter(torch.zeros(size))

    def forward(self, states):
        mean = self.body(states)
        return mean, self.log_scale.exp().expand_as(mean)


def perceptron(units=16):
    return torch.nn.Sequential(torch.nn.Linear(4, units), torch.nn.Tanh(), torch.nn.Linear(units, 2))


def choosing(environment, params, seed):
    torch.manual_seed(seed)
    return TorchAgent(perceptron(), environment, params, seed)


def turning(environment, params, seed):
    torch.manual_seed(seed)
    return TorchAgent(Normal(), environment, params, seed)


EACH = pytest.mark.parametrize(("factory", "environment"), [(choosing, CART), (turning, ROD)], ids=["discrete", "box"])


def states(environment, count=16):
    size = environment.observation_space.size
    return np.random.default_rng(0).normal(scale=0.3, size=(count, size)).astype(np.float32)


def target_for(environment, count=16):
    if environment is CART:
        return Probabilities(np.tile(np.float32([0.8, 0.2]), (count, 1)))
    return Gaussians(np.full((count, 1), 0.5, np.float32), np.full((count, 1), 0.7, np.float32))


def equal(first, second):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True))


@EACH
def test_it_lives_and_learns(factory, environment):
    made = Made(factory)
    made.check(environment)
    agent = made.make(environment, environment.nominal(), seed=0)
    observations = states(environment)
    before, reason = guarded(agent, "predict", environment, observations)
    assert reason is None
    assert equal(before, agent.predict(observations))
    first, reason = guarded(agent, "learn", environment, 5)
    assert reason is None
    assert math.isnan(first["return"])
    assert first["episodes"] == 0
    second, _ = guarded(agent, "learn", environment, 75)
    assert second["episodes"] >= 2  # the first of them began in the call before
    assert second["steps"] == 75
    assert not equal(before, agent.predict(observations))
    drawn, reason = guarded(agent, "act", environment, observations, False)
    assert reason is None
    best, _ = guarded(agent, "act", environment, observations, True)
    assert drawn.shape == best.shape == ((16,) if environment is CART else (16, 1))
    assert not np.array_equal(drawn, best)


@EACH
def test_it_imitates(factory, environment):
    agent = factory(environment, environment.nominal(), seed=0)
    observations, target = states(environment), target_for(environment)
    apart = []
    for _ in range(3):
        with torch.no_grad():
            apart.append(float(kl_from(target, agent.policy(torch.tensor(observations)))))
        assert guarded(agent, "imitate", environment, observations, target, 200, 1.0) == (None, None)
    assert apart[2] < apart[1] < apart[0]
    fresh = factory(environment, environment.nominal(), seed=0)
    weights = fresh.save()
    fresh.imitate(observations, fresh.predict(observations), num_steps=3, weight=1.0)
    fresh.imitate(observations, target, num_steps=3, weight=0.0)
    assert all(np.array_equal(value, fresh.save()[name]) for name, value in weights.items())


@EACH
def test_weights_travel_as_arrays(factory, environment):
    agent, other = (factory(environment, environment.nominal(), seed) for seed in (0, 1))
    agent.learn(90)
    arrays, reason = guarded(agent, "save", environment)
    assert reason is None
    assert guarded(other, "load", environment, arrays) == (None, None)
    assert equal(agent.predict(states(environment)), other.predict(states(environment)))
    assert {name: value.tolist() for name, value in other.save().items()} == {k: v.tolist() for k, v in arrays.items()}
    assert guarded(other, "learn", environment, 50)[1] is None
    wider = TorchAgent(perceptron(17), CART, CART.nominal(), seed=0)
    assert "load it into an equal one" in guarded(wider, "load", CART, arrays)[1]


def test_it_depends_on_its_own_seed_alone():
    outside = torch.random.get_rng_state()
    with Chance(5).inside():
        first, second, third = (choosing(CART, CART.nominal(), seed) for seed in (0, 1, 0))
    assert torch.equal(outside, torch.random.get_rng_state())
    for agent in (first, second, first, third, third):
        agent.learn(60)
    assert torch.equal(outside, torch.random.get_rng_state())
    assert equal(first.predict(states(CART)), third.predict(states(CART)))
    assert not equal(first.predict(states(CART)), second.predict(states(CART)))
    assert torch.get_num_threads() == 1


def test_a_step_of_reinforce_is_the_one_by_hand():
    agent = TorchAgent(torch.nn.Linear(4, 2), CART, CART.nominal(), seed=0, discount=0.9)
    agent.optimizer = torch.optim.SGD(agent.module.parameters(), lr=0.1)
    seen, chosen, rewards = states(CART, 3), [0, 1, 1], [1.0, 2.0, 4.0]
    weight, bias = (p.detach().numpy().astype(float).copy() for p in agent.module.parameters())
    agent._episode = [(s, torch.tensor(a), r) for s, a, r in zip(seen, chosen, rewards, strict=True)]
    agent._improve()
    togo = np.array([1 + 0.9 * (2 + 0.9 * 4), 2 + 0.9 * 4, 4])
    advantage = (togo - togo.mean()) / togo.std()
    odds = np.exp(seen @ weight.T + bias)
    error = np.eye(2)[chosen] - odds / odds.sum(axis=1, keepdims=True)  # gradient of log pi by the logits
    np.testing.assert_allclose(
        agent.module.weight.detach(), weight + 0.1 * (advantage[:, None] * error).T @ seen / 3, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        agent.module.bias.detach(), bias + 0.1 * np.mean(advantage[:, None] * error, axis=0), rtol=1e-5, atol=1e-6
    )


def test_learning_may_be_ones_own():
    def stand_still(agent, num_steps):
        agent.view.reset(seed=0)
        for t in range(num_steps):
            agent.view.step(t % 2)
        return {"return": float(np.mean(agent.view.take_returns())), "episodes": 1, "steps": num_steps}

    agent = TorchAgent(perceptron(), CART, CART.nominal(), seed=0, learn=stand_still)
    metrics, reason = guarded(agent, "learn", CART, 40)
    assert (metrics, reason) == ({"return": 40.0, "episodes": 1.0, "steps": 40.0}, None)


def test_drawn_numbers_are_clipped_to_their_bounds():
    module = Normal()
    with torch.no_grad():
        module.body.bias.fill_(50.0)
    agent = TorchAgent(module, ROD, ROD.nominal(), seed=0)
    assert (agent.act(states(ROD), False) == 2.0).all()
    assert agent.predict(states(ROD)).mean.min() > 10.0
    assert guarded(agent, "learn", ROD, 45)[1] is None


@pytest.mark.parametrize(
    ("module", "environment", "sentence"),
    [
        (perceptron, ROD, "a pair of mean and scale"),
        (Normal, CART, r"\[N, 2\]"),
        (lambda: torch.nn.Linear(4, 3), CART, r"gives \[2, 3\] for 2 observations"),
        (lambda: Normal(size=2), ROD, r"each \[N, 1\]"),
    ],
)
def test_a_module_of_another_shape_is_refused(module, environment, sentence):
    size = environment.observation_space.size
    made = module()
    first = next(layer for layer in made.modules() if isinstance(layer, torch.nn.Linear))
    if first.in_features != size:
        first.weight = torch.nn.Parameter(torch.zeros(first.out_features, size))
    with pytest.raises(ValueError, match=sentence):
        TorchAgent(made, environment, environment.nominal(), seed=0)


def test_divergences_are_those_of_the_library():
    draw = np.random.default_rng(0)
    logits, other = (draw.normal(size=(8, 3)).astype(np.float32) for _ in range(2))
    own = as_prediction(torch.tensor(logits))
    pairs = (Logits(other), Logits(logits)), (Probabilities(np.asarray(jax.nn.softmax(other))), own)
    for target, given in pairs:
        expected = divergence(target, given)
        np.testing.assert_allclose(float(kl_from(target, torch.tensor(logits))), expected, rtol=1e-5)
    assert float(kl_from(own, torch.tensor(logits))) == 0.0
    means, scales = draw.normal(size=(2, 8, 3)).astype(np.float32), draw.uniform(0.5, 2, (2, 8, 3)).astype(np.float32)
    target, given = (Gaussians(means[i], scales[i]) for i in (0, 1))
    mine = kl_from(target, (torch.tensor(means[1]), torch.tensor(scales[1])))
    np.testing.assert_allclose(float(mine), divergence(target, given), rtol=1e-5)
    with pytest.raises(ValueError, match="ActionValues: let all agents share one kind"):
        kl_from(ActionValues(logits), torch.tensor(logits))


def test_a_world_gone_wrong_is_told_in_a_sentence():
    agent = choosing(CART, CART.nominal(), 0)
    with torch.no_grad():
        agent.module[2].bias.fill_(math.nan)
    assert "is not finite" in guarded(agent, "predict", CART, states(CART))[1]
    assert "raised RuntimeError" in guarded(agent, "learn", CART, 10)[1]
    assert "is not finite" in guarded(agent, "imitate", CART, states(CART), target_for(CART), 1, 1.0)[1]
    assert load_torch() is torch


@pytest.mark.slow
def test_reinforce_learns_to_balance():
    environment = CartPole()
    torch.manual_seed(0)
    module = perceptron(64)
    adam = torch.optim.Adam(module.parameters(), lr=5e-3)
    agent = TorchAgent(module, environment, environment.nominal(), seed=0, optimizer=adam)
    returns = [agent.learn(1000)["return"]]
    while returns[-1] < 100 and len(returns) < 25:
        returns.append(agent.learn(1000)["return"])
    assert returns[0] < 50
    assert returns[-1] >= 100, returns
