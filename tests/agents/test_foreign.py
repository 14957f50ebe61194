import math
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import foreign_tensors
from polyfed.agents.foreign import METHODS, ForeignAgent, Made, checked_agent, guarded
from polyfed.agents.foreign_sb3 import SB3
from polyfed.agents.foreign_torch import TorchAgent
from polyfed.aggregation.consensus import Consensus
from polyfed.environments import CartPole, Dataset, Pendulum, Uniform
from polyfed.environments.digits import Digits
from polyfed.environments.host_view import HostView
from polyfed.errors import MissingExtraError
from polyfed.record import from_data, to_data
from polyfed.types import Gaussians, Probabilities, Update

CART = CartPole(max_steps=200)
STATES = np.random.default_rng(0).normal(scale=[1.0, 1.0, 0.1, 1.0], size=(32, 4)).astype(np.float32)


class Climber:
    """A linear policy in plain NumPy: a random change of it is kept if its episode went at least as well."""

    def __init__(self, environment, params, seed):
        self.view, self.random = HostView(environment, params), np.random.default_rng(seed)
        self.weight, self.best, self.seed = np.zeros((2, 4)), -math.inf, seed
        self.change, self.observation, self.total = np.zeros((2, 4)), None, 0.0

    def act(self, observations, greedy):
        return np.argmax(observations @ self.weight.T, axis=-1)

    def predict(self, observations):
        logits = observations @ self.weight.T
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return Probabilities(odds / odds.sum(axis=-1, keepdims=True))

    def learn(self, num_steps):
        for _ in range(num_steps):
            if self.observation is None:
                self.observation, self.total = self.view.reset(seed=self.seed)[0], 0.0
                self.seed, self.change = None, self.random.normal(size=(2, 4))
            action = np.argmax((self.weight + self.change) @ self.observation)
            self.observation, reward, terminated, truncated, _ = self.view.step(action)
            self.total += reward
            if terminated or truncated:
                self.observation = None
                if self.total >= self.best:
                    self.weight, self.best = self.weight + self.change, self.total
        returns = self.view.take_returns()
        mean = np.mean(returns) if returns else math.nan
        return {"return": mean, "episodes": len(returns), "steps": num_steps}

    def imitate(self, observations, target, num_steps, weight):
        for _ in range(num_steps):
            error = self.predict(observations).probabilities - target.probabilities
            self.weight -= weight * error.T @ observations / len(observations)

    def save(self):
        return {"weight": self.weight, "best": np.asarray(self.best)}

    def load(self, arrays):
        self.weight, self.best = arrays["weight"], float(arrays["best"])


class Silent(ForeignAgent):
    """Does only what it has to."""

    def act(self, observations, greedy):
        return np.zeros(len(observations), np.int64)

    def predict(self, observations):
        return Probabilities(np.tile([1.0, 0.0], (len(observations), 1)))

    def learn(self, num_steps):
        return {"return": math.nan, "episodes": 0, "steps": num_steps}

    def imitate(self, observations, target, num_steps, weight):
        pass


class Answers:
    """Gives what it was told to give, or raises it."""

    def __init__(self, answer):
        self.answer = answer

    def give(self, *arguments):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    act = predict = learn = imitate = save = load = give


def climbers(num_clients):
    params = Uniform("half_length", rho=0.5, seed=1).params(CART, num_clients)
    made = Made(Climber)
    made.check(CART)
    return [made.make(CART, jax.tree.map(lambda x, i=i: x[i], params), seed=i) for i in range(num_clients)]


def divergence(target, own):
    return float(np.mean(np.sum(target * (np.log(target) - np.log(own)), axis=-1)))


def exchange(agents, observations, num_steps):
    """A round of FedHPD on the host, by hand; the reasons of those who are absent, and the consensus."""
    answers = [guarded(agent, "predict", CART, observations) for agent in agents]
    blank = np.full((len(observations), 2), np.nan, np.float32)
    stacked = np.stack([blank if reason else answer.probabilities for answer, reason in answers])
    weight = jnp.array([0.0 if reason else 1.0 for _, reason in answers])
    consensus, _, _ = Consensus().aggregate((), Update(payload=Probabilities(jnp.asarray(stacked)), weight=weight))
    for agent, (_, reason) in zip(agents, answers, strict=True):
        if reason is None:
            assert guarded(agent, "imitate", CART, observations, consensus, num_steps, 1.0) == (None, None)
    return [reason for _, reason in answers], np.asarray(consensus.probabilities)


def test_plain_python_takes_part():
    agents = climbers(3)
    for agent in agents:
        metrics, reason = guarded(agent, "learn", CART, 400)
        assert reason is None
        assert metrics["steps"] == 400
        assert metrics["episodes"] >= 2
    before = [agent.predict(STATES).probabilities for agent in agents]
    reasons, consensus = exchange(agents, STATES, num_steps=200)
    assert reasons == [None] * 3
    np.testing.assert_allclose(consensus, np.mean(before, axis=0), atol=1e-6)
    for agent, old in zip(agents, before, strict=True):
        assert divergence(consensus, agent.predict(STATES).probabilities) < 0.5 * divergence(consensus, old)


def test_an_agent_that_fails_is_absent_and_the_others_go_on():
    agents = climbers(2)
    for agent in agents:
        agent.weight = agent.random.normal(size=(2, 4))
    expected = np.mean([agent.predict(STATES).probabilities for agent in agents], axis=0)
    broken = [Answers(RuntimeError("no battery")), Answers(Probabilities(np.full((32, 2), np.nan)))]
    reasons, consensus = exchange([*agents, *broken], STATES, num_steps=1)
    assert reasons[:2] == [None, None]
    assert reasons[2].startswith("Answers.predict raised RuntimeError: no battery (test_foreign.py, line ")
    assert "not finite" in reasons[3]
    np.testing.assert_allclose(consensus, expected, atol=1e-6)


def test_what_is_right_comes_back_in_numpy():
    agent, environment = climbers(1)[0], CART
    actions, _ = guarded(agent, "act", environment, jnp.asarray(STATES), True)
    assert (actions.shape, actions.dtype) == ((32,), np.int32)
    prediction, _ = guarded(agent, "predict", environment, jnp.asarray(STATES))
    assert prediction.probabilities.dtype == np.float32
    arrays, _ = guarded(agent, "save", environment)
    assert guarded(agent, "load", environment, arrays) == (None, None)
    torques, _ = guarded(Answers([[0.5], [1]]), "act", Pendulum(), np.zeros((2, 3)), True)
    assert (torques.shape, torques.dtype) == ((2, 1), np.float32)


@pytest.mark.parametrize(
    ("method", "environment", "answer", "reason"),
    [
        ("act", CART, [0, 1], "shape"),
        ("act", CART, np.zeros((32, 1)), "shape"),
        ("act", CART, np.full(32, 2), "none of 0 to 1"),
        ("act", CART, np.full(32, 0.5), "none of 0 to 1"),
        ("act", CART, ["left"] * 32, "no finite numbers"),
        ("act", CART, None, "shape"),
        ("act", Pendulum(), np.full((32, 1), np.inf), "no finite numbers"),
        ("predict", CART, np.full((32, 2), 0.5), "does not say what an agent would do"),
        ("predict", CART, Probabilities(np.full((31, 2), 0.5)), "shape"),
        ("predict", CART, Probabilities(np.full((32, 2), 0.7)), "sum to 1.4"),
        ("predict", CART, Probabilities(None), "no numbers"),
        ("predict", Pendulum(), Gaussians(np.zeros((32, 1)), np.zeros((32, 1))), "standard deviation"),
        ("learn", CART, None, "NoneType rather than a dictionary"),
        ("learn", CART, {"return": 1.0}, "without episodes, steps"),
        ("learn", CART, {"return": 1.0, "episodes": 1, "steps": math.nan}, "count nothing"),
        ("learn", CART, {"return": "good", "episodes": 1, "steps": 1}, "could not convert"),
        ("save", CART, {"weight": np.array([object()])}, "weight holds no numbers"),
        ("imitate", CART, ZeroDivisionError(), "ZeroDivisionError: without a message"),
        ("learn", CART, ValueError("x" * 1000), r"x\.\.\. \("),
    ],
)
def test_what_cannot_be_right_is_refused_in_a_sentence(method, environment, answer, reason):
    given, why = guarded(Answers(answer), method, environment, np.zeros((32, 4)), True)
    assert given is None
    assert why.endswith(".")
    assert "\n" not in why
    assert len(why) < 500
    assert re.search(reason, why), why


def test_being_interrupted_is_no_failure_of_an_agent():
    with pytest.raises(KeyboardInterrupt):
        guarded(Answers(KeyboardInterrupt()), "learn", CART, 10)


def test_what_others_see_cannot_be_written_into():
    class Scribbler(Silent):
        def imitate(self, observations, target, num_steps, weight):
            observations[:] = 7.0
            target.probabilities[:] = 7.0

    states, target = STATES.copy(), Probabilities(np.full((32, 2), 0.5))
    assert guarded(Scribbler(), "imitate", CART, states, target, 1, 1.0) == (None, None)
    np.testing.assert_array_equal(states, STATES)
    np.testing.assert_array_equal(target.probabilities, 0.5)


def test_saving_may_be_left_out():
    assert "Silent does not save its weights" in guarded(checked_agent(Silent()), "save", CART)[1]
    assert "Silent does not load weights" in guarded(Silent(), "load", CART, {})[1]
    with pytest.raises(TypeError, match="abstract"):
        ForeignAgent()


def test_made_is_checked():
    Made(Climber).check(CART)
    with pytest.raises(ValueError, match="makes no agents"):
        Made("Climber").check(CART)
    with pytest.raises(ValueError, match="use a Classifier"):
        Made(Climber).check(Dataset(Digits()))
    with pytest.raises(ValueError, match=f"dict has no {', '.join(METHODS)}"):
        Made(lambda environment, params, seed: {}).make(CART, CART.nominal(), 0)


def test_code_is_not_recorded_but_configurations_are():
    part = SB3("DQN", hidden=(32, 16), learning_rate=1e-3, options=(("batch_size", 16), ("gamma", 0.9)))
    assert from_data(to_data(part)) == part
    assert hash(part) == hash(from_data(to_data(part)))
    with pytest.raises(ValueError, match="record"):
        to_data(Made(Climber))


def test_a_missing_package_is_named(monkeypatch):
    foreign_tensors.load_torch.cache_clear()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"polyfed\[sb3\]"):
        SB3("PPO").check(CART)
    with pytest.raises(MissingExtraError, match=r"polyfed\[torch\]"):
        TorchAgent(None, CART, CART.nominal(), seed=0)
    foreign_tensors.load_torch.cache_clear()


@pytest.mark.slow
def test_plain_python_learns():
    (agent,) = climbers(1)
    returns = [agent.learn(2000)["return"] for _ in range(10)]
    view, total = HostView(CART, CART.nominal()), 0.0
    observation, _ = view.reset(seed=0)
    while not any((given := view.step(agent.act(observation[None], True)[0]))[2:4]):
        observation, total = given[0], total + given[1]
    assert total > 100, returns
