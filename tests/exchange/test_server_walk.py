"""DPA-FedRL in the engine against a naive loop, and what does not fit it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyfed.agents import DQN, PPO, REINFORCE, Distillation, Group, Made, Mixed
from polyfed.agents.agent import Agent
from polyfed.aggregation import Consensus, LocalOnly, ServerMomentum
from polyfed.aggregation.shared_walk import SharedWalk
from polyfed.environments import CartPole, Explicit, Pendulum
from polyfed.environments.walk import begin, go_on
from polyfed.exchange import Nothing, Predictions
from polyfed.exchange.server_walk import ServerStates
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import dpa_fedrl, fedhpd, local_only
from polyfed.simulation.simulate import Simulation
from polyfed.types import Probabilities

RATE = 0.5


class Linear(Agent):
    """A linear policy that learns nothing at home; gradients show as they are."""

    def check(self, environment):
        """Anything goes."""

    def init(self, key, environment, num_envs):
        """Random weights."""
        return jax.random.normal(key, (4, 2))

    def predict(self, state, observation, params=None):
        """Probabilities."""
        return Probabilities(jax.nn.softmax(observation @ (state if params is None else params)))

    def student(self, state):
        """All of it."""
        return state, self.student_optimizer(state).init(state)

    def taught(self, state, params, moments):
        """Other weights."""
        return params

    def student_optimizer(self, state):
        """Plain descent."""
        return optax.sgd(RATE)

    def policy(self, state, observation):
        """The likelier action."""
        return jnp.argmax(observation @ state, axis=-1).astype(jnp.int32)

    def act(self, state, observation, key):
        """The same."""
        return self.policy(state, observation)

    def learn(self, state, trajectory, key):
        """Nothing."""
        return state, {"loss": jnp.zeros(())}

    def share(self, state):
        """Not asked for."""
        return state

    def absorb(self, state, broadcast):
        """Not asked for."""
        return state


BASE = Experiment(
    name="walk",
    environment=CartPole(max_steps=30),
    variation=Explicit(),
    num_clients=2,
    agent=REINFORCE(hidden=(8,)),
    num_rounds=4,
    local_steps=1,
    evaluation=Evaluation(every=2, episodes=2),
)


def softmax(z: Any) -> Any:
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


@pytest.mark.slow
def test_three_rounds_are_those_of_a_naive_loop():
    simulation = Simulation(dpa_fedrl(dataclasses.replace(BASE, agent=Linear())), (3,))
    federation = simulation.init()
    weights = [np.asarray(w, np.float64) for w in federation.clients[0].agent.distilled.learner]
    assert np.abs(weights[0] - weights[1]).max() > 0.1  # each begins with its own
    place, last = begin(BASE.environment), None
    for turn in range(3):
        federation, metrics = simulation.advance(federation, 1)
        if last is not None:  # a step at the state of the last round, towards the consensus there
            seen, consensus = last
            for client, w in enumerate(weights):
                p = softmax(seen @ w)
                np.testing.assert_allclose(metrics["divergence"][0, 0, client], np.sum((consensus - p) ** 2), rtol=1e-4)
                by_p = -2 * (consensus - p)
                weights[client] = w - RATE * np.outer(seen, p * (by_p - np.sum(p * by_p)))
        seen = np.asarray(place.observation, np.float64)
        consensus = np.mean([softmax(seen @ w) for w in weights], axis=0)
        k_act, k_step = jax.random.split(jax.random.fold_in(jax.random.key(0), turn))
        action = np.argmax(np.log(consensus) + np.asarray(jax.random.gumbel(k_act, (2,))))
        place, last = go_on(BASE.environment, place, jnp.int32(action), k_step), (seen, consensus)
        broadcast = federation.server.broadcast
        np.testing.assert_allclose(broadcast.at[0], seen, rtol=1e-5)
        np.testing.assert_allclose(broadcast.prediction.probabilities[0, 0], consensus, rtol=1e-5)
        np.testing.assert_allclose(broadcast.following[0], place.observation, rtol=1e-5)
    assert simulation.traffic.up == 4 * (4 + 2 + 4)


def test_the_recipe_is_its_parts():
    made = dpa_fedrl(BASE)
    assert (made.payload, made.rule) == (ServerStates(), SharedWalk(BASE.environment))
    assert made.personal
    made.check()
    assert dpa_fedrl(fedhpd(BASE)) == made
    assert fedhpd(made) == fedhpd(BASE)
    assert local_only(made).payload == Nothing()
    dpa_fedrl(dataclasses.replace(BASE, agent=DQN(hidden=(8,), replay_capacity=100, learning_starts=1))).check()


def changed(**fields: Any) -> Experiment:
    return dataclasses.replace(dpa_fedrl(BASE), **fields)


GAUSSIAN = ServerStates(Distillation(refresh="event", chunks=1, repetitions=1))


@pytest.mark.parametrize(
    ("experiment", "sentence"),
    [
        (changed(rule=Consensus()), "Consensus does not tell clients where to predict next"),
        (changed(payload=Predictions()), "SharedWalk tells clients where to predict next, which does not fit"),
        (changed(rule=LocalOnly()), "disagree on whether clients send anything"),
        (changed(server_optimizer=ServerMomentum()), "would move the state at which SharedWalk stands"),
        (changed(rule=SharedWalk(Pendulum())), "a state is 4 numbers"),
        (changed(payload=ServerStates(Distillation())), "one state per round, but distillation has chunks = 2"),
        (
            changed(environment=Pendulum(), agent=REINFORCE.continuous()),
            "without a probability for each",
        ),
        (changed(agent=Mixed((Group(Made(print)), Group(REINFORCE())))), "ServerStates change every round"),
        (changed(common_start=True), "give common_start=False"),
    ],
)
def test_what_does_not_fit_is_refused(experiment, sentence):
    with pytest.raises(ValueError, match=sentence):
        experiment.check()


def test_policies_of_numbers_meet_by_their_divergence():
    pendulum = dataclasses.replace(
        BASE, environment=Pendulum(), agent=PPO(rollout_steps=4, minibatches=1), local_steps=4, payload=GAUSSIAN
    )
    dpa_fedrl(pendulum).check()
