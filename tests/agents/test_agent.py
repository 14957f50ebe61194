"""Every learner of the folder keeps the contract, and the check of the contract catches those that do not."""

import ctypes

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from polyfed.agents import AGENTS, DDPG, DQN, SAC, Agent, QLearning
from polyfed.agents.classifier import Classifier
from polyfed.checks import in_range
from polyfed.environments import CONTINUOUS_PROBES, CartPole, Pendulum, TabularMDP
from polyfed.environments.dataset import Dataset
from polyfed.environments.digits import Digits
from polyfed.testing import check_agent

# where a learner lives that cannot live in CartPole
WORLDS = {Classifier: Dataset(Digits()), DDPG: Pendulum(), SAC: Pendulum(), QLearning: TabularMDP()}


@pytest.mark.parametrize("agent", AGENTS, ids=repr)
def test_keeps_the_contract(agent):
    check_agent(agent, WORLDS.get(type(agent), CartPole()))


def test_there_is_a_learner_for_data_sets():
    check_agent(Classifier(), Dataset(Digits()), num_envs=3, num_steps=33)


class Nudge(Agent):
    """Moves its two weights by the rewards that it sees; `flaw` breaks one promise."""

    flaw: str = eqx.field(default="none", static=True)
    rate: float = 0.1

    def check(self, environment):
        """Refuse a rate out of range."""
        del environment
        in_range("agent.rate", self.rate, 0.0, 1.0)

    def init(self, key, environment, num_envs):
        """Random weights."""
        del environment, num_envs
        key = jax.random.key(0) if self.flaw == "one beginning" else key
        return {"w": jax.random.normal(key, (2,)), "steps": jnp.int32(0)}

    def act(self, state, observation, key):
        """Anything."""
        num, last = len(observation), 2 if self.flaw == "no such action" else 1
        drawn = jax.random.randint(key, (num,), 0, last + 1, jnp.int32)
        return drawn[:, None] if self.flaw == "wrong shape" else drawn

    def policy(self, state, observation):
        """By the sign of a weight."""
        chosen = jnp.full(len(observation), state["w"][0] > 0)
        return chosen.astype(jnp.float32 if self.flaw == "wrong type" else jnp.int32)

    def learn(self, state, trajectory, key):
        """One step."""
        rate = 0.0 if self.flaw == "idle" else self.rate
        if self.flaw == "decides" and rate > 0.05:
            rate = 0.05
        w = state["w"] + rate * jnp.mean(trajectory.reward)
        if self.flaw == "diverges":
            w = w / 0.0
        steps = state["steps"] + 1
        if self.flaw == "form":
            steps = steps.astype(jnp.float32)
        return {"w": w, "steps": steps}, {"reward": trajectory.reward if self.flaw == "metrics" else jnp.mean(w)}

    def share(self, state):
        """The weights."""
        return state["w"]

    def absorb(self, state, broadcast):
        """Take them."""
        if self.flaw == "in place" and not isinstance(broadcast, jax.core.Tracer):
            ctypes.memset(broadcast.unsafe_buffer_pointer(), 0, 4)  # as a learner of another library might
        new = broadcast + 1.0 if self.flaw == "own way" else broadcast
        return {"w": new, "steps": jnp.float32(0) if self.flaw == "absorbed form" else state["steps"]}


def test_accepts_a_learner_made_elsewhere():
    check_agent(Nudge(), CartPole(), num_steps=4)


@pytest.mark.parametrize(
    ("flaw", "sentence"),
    [
        ("one beginning", "begins the same for every key"),
        ("in place", "trains the broadcast in place"),
        ("own way", "does not share what it has just absorbed"),
        ("absorbed form", "as it absorbs"),
        ("idle", "has learned nothing in 4 steps"),
        ("diverges", "finite arrays"),
        ("decides", "needs to know a number before it can be compiled"),
        ("form", "as it learns"),
        ("no such action", "outside Discrete"),
        ("wrong shape", r"chose int32\[2, 1\]"),
        ("wrong type", r"chose float32\[2\]"),
        ("metrics", r"metrics \['reward'\] that are not scalars"),
    ],
)
def test_catches(flaw, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_agent(Nudge(flaw), CartPole(), num_steps=4)


def test_refusals_of_the_learner_come_first():
    with pytest.raises(ValueError, match=r"agent\.rate = 2 is out of range"):
        check_agent(Nudge(rate=2.0), CartPole())
    with pytest.raises(ValueError, match="finite set of actions"):
        check_agent(DQN(), CONTINUOUS_PROBES[0])
