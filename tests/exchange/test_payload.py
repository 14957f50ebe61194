"""What clients send: their parameters, what they would do, or nothing; and what cannot be sent."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents import DQN, REINFORCE, Distillation
from polyfed.agents.distillation import Distilled
from polyfed.environments import CartPole, Dataset, Digits, Pendulum
from polyfed.environments.public_states import FileStates, NeutralStates, UniformStates
from polyfed.exchange import Nothing, Parameters, Predictions
from polyfed.exchange.payload import Silent
from polyfed.record import from_data, to_data
from polyfed.testing.compare import same_bits
from polyfed.types import ActionValues

CART = CartPole(max_steps=20)
AGENT = DQN(hidden=(4,), batch_size=4, replay_capacity=20, learning_starts=4)
SMALL = Predictions(UniformStates(num=8), Distillation(chunks=2, repetitions=3))


@pytest.mark.parametrize(
    ("payload", "facts"),
    [(Parameters(), (True, 1)), (Nothing(), (False, 1)), (SMALL, (False, 6))],
    ids=["parameters", "nothing", "predictions"],
)
def test_facts_of_a_payload(payload, facts):
    assert (payload.global_policy, payload.exchanges) == facts
    assert payload.fingerprint() == ""
    assert from_data(to_data(payload)) == payload
    payload.check(CART)


def test_parameters_are_the_learners_own():
    assert Parameters().of(AGENT, ()) is AGENT


def test_a_silenced_learner_is_the_learner_but_for_its_messages():
    silent = Nothing().of(AGENT, ())
    assert isinstance(silent, Silent)
    silent.check(CART)
    state = AGENT.init(jax.random.key(0), CART, 1)
    assert silent.share(state) == ()
    assert silent.absorb(state, ()) is state
    assert same_bits(silent.parameters(state), AGENT.share(state))
    assert same_bits(silent.init(jax.random.key(0), CART, 1), state)
    observation = np.ones((3, 4), np.float32)
    key = jax.random.key(1)
    assert same_bits(silent.act(state, observation[:1], key), AGENT.act(state, observation[:1], key))
    assert same_bits(silent.settle(state, key), AGENT.settle(state, key))
    assert same_bits(silent.policy(state, observation), AGENT.policy(state, observation))
    assert same_bits(silent.predict(state, observation), AGENT.predict(state, observation))


def test_a_silenced_learner_lives_as_the_learner_does():
    episodes = Nothing().of(REINFORCE(hidden=(4,)), ())
    assert episodes.episodic
    assert episodes.rollout_length == 1
    assert not Nothing().of(AGENT, ()).episodic


def test_predictions_are_those_of_the_learner_on_public_states():
    public = jnp.asarray(SMALL.public.states(CART))
    agent = SMALL.of(AGENT, public)
    assert isinstance(agent, Distilled)
    state = agent.init(jax.random.key(0), CART, 1)
    sent = agent.share(state)
    assert isinstance(sent, ActionValues)
    np.testing.assert_array_equal(sent.values, AGENT.predict(state.learner, public[:4]).values)


def test_the_digest_of_public_states_is_that_of_their_file(tmp_path):
    path = tmp_path / "states.npy"
    np.save(path, np.zeros((8, 4), np.float32))
    payload = Predictions(FileStates(str(path)), SMALL.distillation)
    payload.check(CART)
    before = payload.fingerprint()
    np.save(path, np.ones((8, 4), np.float32))
    assert len(before) == 64
    assert payload.fingerprint() != before


@pytest.mark.parametrize(
    ("public", "world", "sentence"),
    [
        (UniformStates(num=9), CART, "9 public states cannot be cut into distillation.chunks = 2 equal parts: "),
        (NeutralStates(num=5), CART, "5 public states cannot be cut into distillation.chunks = 2 equal parts: "),
        (UniformStates(num=0), CART, "public_states.num = 0 states is out of range: "),
        (NeutralStates(num=8), Dataset(Digits()), "Nobody acts in Dataset, whose samples are the clients' own: "),
    ],
    ids=["no equal parts", "drawn", "none", "no actions"],
)
def test_public_states_that_do_not_fit_are_refused_in_a_sentence(public, world, sentence):
    with pytest.raises(ValueError, match=r"\.$") as refusal:
        dataclasses.replace(SMALL, public=public).check(world)
    assert str(refusal.value).startswith(sentence)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((7, 4), "7 public states cannot be cut into distillation.chunks = 2 equal parts: "),
        ((0, 4), r"Public states of shape [0, 4] give nothing to predict on: "),
        ((8, 3), "Public states of 3 numbers are no observations of CartPole, which shows 4: "),
    ],
    ids=["no equal parts", "none", "of another world"],
)
def test_public_states_of_a_file_that_do_not_fit_are_refused_in_a_sentence(tmp_path, shape, sentence):
    np.save(tmp_path / "states.npy", np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"\.$") as refusal:
        dataclasses.replace(SMALL, public=FileStates(str(tmp_path / "states.npy"))).check(CART)
    assert str(refusal.value).startswith(sentence)


def test_the_same_file_fits_another_world(tmp_path):
    np.save(tmp_path / "states.npy", np.zeros((8, 3), np.float32))
    dataclasses.replace(SMALL, public=FileStates(str(tmp_path / "states.npy"))).check(Pendulum())
