"""Distillation against NumPy, step by step, and the promises that it keeps around any learner."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyfed.agents.adam import adam
from polyfed.agents.agent import Agent
from polyfed.agents.distillation import Distillation, Distilled
from polyfed.agents.divergence import divergence
from polyfed.agents.dqn import DQN
from polyfed.agents.reinforce import REINFORCE
from polyfed.environments import CartPole, Pendulum
from polyfed.leaves import stacked
from polyfed.testing.compare import assert_same, form, rows, same_bits
from polyfed.types import ActionValues, Gaussians, Logits, Probabilities, Trajectory

KINDS = {
    "probabilities": lambda z: Probabilities(jax.nn.softmax(z)),
    "logits": Logits,
    "values": ActionValues,
    "normal": lambda z: Gaussians(mean=z[..., :1], scale=jax.nn.softplus(z[..., 1:])),
}
PUBLIC = np.random.default_rng(5).normal(size=(6, 4)).astype(np.float32)


class LinearState(eqx.Module):
    """Weights of a linear map, and Adam's moments."""

    weights: Any
    moments: Any


class Linear(Agent):
    """A linear policy, or one of values or normal distributions, that shrinks its weights as it learns."""

    kind: str = eqx.field(default="probabilities", static=True)
    learning_rate: float = 0.05
    optimizer: str = eqx.field(default="adam", static=True)

    def check(self, environment):
        """Anything goes."""

    def init(self, key, environment, num_envs):
        """Random weights."""
        weights = {"w": jax.random.normal(key, (4, 2)), "b": jnp.zeros(2)}
        return LinearState(weights, self.student_optimizer(None).init(weights))

    def predict(self, state, observation, params=None):
        """Of the kind asked for."""
        weights = state.weights if params is None else params
        return KINDS[self.kind](observation @ weights["w"] + weights["b"])

    def student(self, state):
        """All of it."""
        return state.weights, state.moments

    def taught(self, state, params, moments):
        """Other weights."""
        return LinearState(params, moments)

    def student_optimizer(self, state):
        """Adam, or what shows a gradient as it is."""
        return adam(self.learning_rate) if self.optimizer == "adam" else optax.sgd(self.learning_rate)

    def policy(self, state, observation):
        """The first action, if the first output is larger."""
        return jnp.argmax(observation @ state.weights["w"], axis=-1).astype(jnp.int32)

    def act(self, state, observation, key):
        """The same."""
        return self.policy(state, observation)

    def learn(self, state, trajectory, key, penalty=None):
        """A step down the sum of squares and the penalty."""

        def loss(weights):
            term = 0.0 if penalty is None else penalty(lambda x: self.predict(state, x, weights))
            return 0.5 * jnp.sum(weights["w"] ** 2) + term

        value, gradient = jax.value_and_grad(loss)(state.weights)
        updates, moments = self.student_optimizer(state).update(gradient, state.moments)
        return LinearState(jax.tree.map(jnp.add, state.weights, updates), moments), {"loss": value}

    def share(self, state):
        """Weights, which must never leave a distilled learner."""
        raise AssertionError("parameters left the client")

    def absorb(self, state, broadcast):
        """Weights, which never come."""
        raise AssertionError("parameters came to the client")


class Stubborn(Linear):
    """Knows of no penalty."""

    def learn(self, state, trajectory, key):
        """As the other one."""
        return super().learn(state, trajectory, key)


def distilled(kind="probabilities", public=PUBLIC, learner=None, **settings):
    return stacked_around(Distilled(learner or Linear(kind), Distillation(**settings), jnp.asarray(public)))


def stacked_around(agent):
    """Numbers as arrays, the public states as they are."""
    learner, given = stacked((agent.learner, agent.distillation), None)
    return Distilled(learner, given, agent.public)


def begun(agent, seed=0):
    return BEGIN(agent, jax.random.key(seed))


def a_trajectory():
    x, n = jnp.ones((1, 1, 4)), jnp.zeros((1, 1))
    return Trajectory(x, n.astype(jnp.int32), n, x, n > 0, n > 0)


def learned(agent, state, steps):
    for _ in range(steps):
        state = LEARN(agent, state)[0]
    return state


BEGIN = jax.jit(lambda agent, key: agent.init(key, CartPole(), 1))
SHARE = jax.jit(lambda agent, state: agent.share(state))
ABSORB = jax.jit(lambda agent, state, broadcast: agent.absorb(state, broadcast))
LEARN = jax.jit(lambda agent, state: agent.learn(state, a_trajectory(), jax.random.key(0)))
APART = jax.jit(divergence, static_argnames="direction")


def mean(payloads):
    return jax.tree.map(lambda *x: jnp.mean(jnp.stack(x), axis=0), *payloads)


class InNumpy:
    """A linear softmax policy with Adam in float64, written out."""

    def __init__(self, state, rate=0.05):
        self.w, self.b = (np.asarray(state.weights[name], np.float64) for name in "wb")
        moments = state.moments
        self.m = [np.asarray(moments.mean[name], np.float64) for name in "wb"]
        self.v = [np.asarray(moments.square[name], np.float64) for name in "wb"]
        self.t, self.rate = int(moments.steps), rate

    def act(self, x):
        z = np.exp(x @ self.w + self.b)
        return z / z.sum(axis=1, keepdims=True)

    def step(self, x, consensus, direction="forward"):
        p = self.act(x)
        if direction == "forward":
            dz = p - consensus
        else:
            log = np.log(p / consensus)
            dz = p * (log - (p * log).sum(axis=1, keepdims=True))
        dz = dz / len(x)
        self.t += 1
        for i, gradient in enumerate((x.T @ dz, dz.sum(axis=0))):
            self.m[i] = 0.9 * self.m[i] + 0.1 * gradient
            self.v[i] = 0.999 * self.v[i] + 0.001 * gradient**2
            m, v = self.m[i] / (1 - 0.9**self.t), self.v[i] / (1 - 0.999**self.t)
            move = self.rate * m / (np.sqrt(v) + 1e-8)
            if i == 0:
                self.w = self.w - move
            else:
                self.b = self.b - move


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_an_event_as_released(direction):
    """2 chunks, 5 times: everybody predicts, the mean comes back, one step of the own Adam; three agents."""
    agent = distilled(direction=direction)
    assert agent.exchanges == 10
    states = [learned(agent, begun(agent, seed), 2) for seed in range(3)]
    naive = [InNumpy(state.learner) for state in states]
    for exchange in range(10):
        x = np.asarray(PUBLIC, np.float64).reshape(2, 3, 4)[exchange % 2]
        consensus = np.mean([one.act(x) for one in naive], axis=0)
        shared = [SHARE(agent, state) for state in states]
        np.testing.assert_allclose(mean(shared).probabilities, consensus, atol=1e-5)
        states = [ABSORB(agent, state, mean(shared)) for state in states]
        for one in naive:
            one.step(x, consensus, direction)
    for state, one in zip(states, naive, strict=True):
        np.testing.assert_allclose(state.learner.weights["w"], one.w, atol=2e-5)
        np.testing.assert_allclose(state.learner.weights["b"], one.b, atol=2e-5)
        np.testing.assert_allclose(state.learner.moments.square["w"], one.v[0], rtol=1e-4, atol=1e-9)
        assert int(state.learner.moments.steps) == 12


def test_one_consensus_for_a_whole_event():
    """The poster's form: one exchange, then all chunks five times, two steps on each."""
    agent = distilled(refresh="event", steps_per_chunk=2)
    assert agent.exchanges == 1
    states = [learned(agent, begun(agent, seed), 1) for seed in range(2)]
    naive = [InNumpy(state.learner) for state in states]
    x = np.asarray(PUBLIC, np.float64).reshape(2, 3, 4)
    consensus = np.mean([one.act(PUBLIC) for one in naive], axis=0).reshape(2, 3, 2)
    state = ABSORB(agent, states[0], mean([SHARE(agent, state) for state in states]))
    for i in range(20):
        naive[0].step(x[i // 2 % 2], consensus[i // 2 % 2])
    np.testing.assert_allclose(state.learner.weights["w"], naive[0].w, atol=2e-5)
    assert int(state.learner.moments.steps) == 21


def test_a_separate_adam_has_moments_of_its_own():
    agent = distilled(optimizer="separate", learning_rate=0.2)
    state = learned(agent, begun(agent), 3)
    taught = ABSORB(agent, state, SHARE(agent, begun(agent, 1)))
    assert same_bits(taught.learner.moments, state.learner.moments)
    assert int(taught.moments.steps) == 1
    moved = np.abs(taught.learner.weights["w"] - state.learner.weights["w"])
    np.testing.assert_allclose(moved, 0.2, rtol=1e-2)  # Adam's first step


@pytest.mark.parametrize("kind", ["probabilities", "normal", "values"])
def test_alone_there_is_nothing_to_learn(kind):
    """A consensus of one is its own prediction: the gradient is 0 up to rounding, and nothing becomes of it."""
    agent = distilled(learner=Linear(kind, 1.0, "sgd"))

    @jax.jit
    def event(key):
        before = agent.init(key, CartPole(), 1)
        step = lambda state, _: (agent.absorb(state, agent.share(state)), None)  # noqa: E731
        return before, jax.lax.scan(step, before, None, length=10)[0]

    before, after = event(jax.random.key(0))
    assert float(after.apart) < 1e-10
    np.testing.assert_allclose(after.learner.weights["w"], before.learner.weights["w"], atol=1e-6)


def test_the_own_optimizer_goes_on_along_its_momentum():
    """As released: an agent that has learned by itself moves even where all agree."""
    agent, separate = distilled(), distilled(optimizer="separate")
    state = learned(agent, begun(agent), 1)
    after = ABSORB(agent, state, SHARE(agent, state))
    assert np.all(np.abs(after.learner.weights["w"] - state.learner.weights["w"]) > 1e-3)
    state = learned(separate, begun(separate), 1)
    after = ABSORB(separate, state, SHARE(separate, state))
    assert not np.any(np.abs(after.moments.mean["w"]) > 1e-8)


@pytest.mark.parametrize(
    ("kind", "direction"),
    [
        ("logits", "reverse"),
        ("probabilities", "squared"),
        ("normal", "reverse"),
        ("values", "forward"),
    ],
)
def test_the_divergence_falls(kind, direction):
    agent = distilled(kind, direction=direction, refresh="event", repetitions=30)

    @jax.jit
    def learn_from_another(key, other):
        def event(state, _):
            after = agent.absorb(state, target)
            return after, (divergence(target, agent.share(state), direction), after.apart)

        target = agent.share(agent.init(other, CartPole(), 1))
        return jax.lax.scan(event, agent.init(key, CartPole(), 1), None, length=3)[1]

    falling, told = learn_from_another(jax.random.key(0), jax.random.key(1))
    assert falling[2] < falling[1] < 0.3 * falling[0]
    assert float(told[0]) == pytest.approx(float(falling[0]), rel=0.5)  # a chunk at a time, the second a step later


def test_values_and_policies_meet():
    """A learner of values is taught by policies: as the Boltzmann policy of its values."""
    settings = {"payload": "probabilities", "refresh": "event", "repetitions": 100, "boltzmann": 0.5}
    values, policy = distilled("values", **settings), distilled("logits", **settings)
    state = begun(values)
    target = SHARE(policy, begun(policy, 1))
    assert form(SHARE(values, state)) == form(target)
    for _ in range(3):
        state = ABSORB(values, state, target)
    assert float(APART(target, SHARE(values, state))) < 1e-3


def test_a_joint_loss_takes_no_steps_and_changes_the_next_ones():
    agent = distilled(form="joint", refresh="event", strength=3.0)
    assert agent.exchanges == 1
    state = begun(agent)
    w = np.asarray(state.learner.weights["w"], np.float64)
    alone, metrics = LEARN(agent, state)
    np.testing.assert_allclose(alone.learner.moments.mean["w"], 0.1 * w, rtol=1e-5)  # no consensus yet
    assert float(metrics["divergence"]) == 0.0
    target = SHARE(agent, begun(agent, 1))
    absorbed = ABSORB(agent, state, target)
    assert same_bits(absorbed.learner, state.learner)
    together, metrics = LEARN(agent, absorbed)
    wanted, own = np.asarray(target.probabilities, np.float64), InNumpy(state.learner).act(PUBLIC)
    gradient = w + 3.0 * PUBLIC.T @ (own - wanted) / len(PUBLIC)
    apart = np.mean(np.sum(wanted * np.log(wanted / own), axis=1))
    np.testing.assert_allclose(together.learner.moments.mean["w"], 0.1 * gradient, atol=1e-6)
    assert float(metrics["loss"]) == pytest.approx(0.5 * np.sum(w**2) + 3.0 * apart, rel=1e-5)
    assert float(metrics["divergence"]) == pytest.approx(apart, rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"form": "joint", "refresh": "event"},
        {"payload": "logits", "steps_per_chunk": 3, "temperature": 2.0, "optimizer": "separate"},
    ],
    ids=str,
)
def test_keeps_the_contract(settings):
    """The state keeps its form, the broadcast its bytes; alone and in a stack it is the same."""
    agent = distilled(**settings)
    state = begun(agent)
    broadcast = SHARE(agent, begun(agent, 1))
    before = jax.tree.map(lambda leaf: np.array(leaf), broadcast)

    def life(agent, state, broadcast):
        state, metrics = agent.learn(agent.absorb(state, broadcast), a_trajectory(), jax.random.key(0))
        return state, metrics, agent.share(state)

    after = jax.jit(life)(agent, state, broadcast)
    assert form(after[0]) == form(state)
    assert form(after[2]) == form(broadcast)
    two = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[(agent, state, broadcast)] * 2)
    assert_same(rows(jax.jit(jax.vmap(life))(*two), 1), after, "In a stack it is another.", 2e-5)
    assert same_bits(broadcast, before)


def test_numbers_may_differ_and_do_not_compile_again():
    given, state = distilled(), begun(distilled())
    target = SHARE(given, begun(given, 1))
    ABSORB(given, state, target)
    traces = ABSORB._cache_size()
    for change in ({"strength": jnp.float32(0.0)}, {"temperature": jnp.float32(3.0)}):
        other = dataclasses.replace(given, distillation=dataclasses.replace(given.distillation, **change))
        after = ABSORB(other, state, target)
    assert ABSORB._cache_size() == traces
    idle = dataclasses.replace(given.distillation, strength=jnp.float32(0.0))
    after = ABSORB(dataclasses.replace(given, distillation=idle), state, target)
    assert same_bits(after.learner.weights, state.learner.weights)


def test_all_else_is_the_learners():
    agent, learner = distilled(), Linear()
    state, x = begun(agent), jnp.asarray(PUBLIC)
    assert same_bits(state.learner, begun(learner))
    assert same_bits(agent.policy(state, x), learner.policy(state.learner, x))
    assert same_bits(agent.act(state, x, jax.random.key(0)), learner.policy(state.learner, x))
    assert (agent.rollout_length, agent.episodic) == (1, False)
    assert agent.plain() is agent.alone() is agent.pooled(3) is agent.learner
    assert form(agent.whole().share(state)) == form(agent.share(state))
    assert same_bits(agent.settle(state, jax.random.key(1)), state)
    assert same_bits(agent.predict(state, x), learner.predict(state.learner, x))
    agent.caution(CartPole().nominal())
    with pytest.raises(AssertionError, match="parameters left the client"):
        agent.parameters(state)  # what a run keeps of it is what the learner would share


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"direction": "forwards"}, r"distillation\.direction = 'forwards' is not known: did you mean 'forward'"),
        ({"payload": "policies"}, r"distillation\.payload = 'policies' is not known"),
        ({"form": "both"}, r"distillation\.form = 'both' is not known"),
        ({"refresh": "never"}, r"distillation\.refresh = 'never' is not known"),
        ({"optimizer": "sgd"}, r"distillation\.optimizer = 'sgd' is not known"),
        ({"chunks": 0}, r"distillation\.chunks = 0 is out of range"),
        ({"repetitions": 1.5}, r"distillation\.repetitions = 1\.5 is not one whole number"),
        ({"steps_per_chunk": 0}, r"distillation\.steps_per_chunk = 0 gradient steps is out of range"),
        ({"strength": (1.0, -1.0)}, r"distillation\.strength = -1 is out of range"),
        ({"temperature": 0.0}, r"distillation\.temperature = 0 is out of range"),
        ({"boltzmann": 0.0}, r"distillation\.boltzmann = 0 is out of range"),
        ({"learning_rate": -1.0}, r"distillation\.learning_rate = -1 is out of range"),
        ({"form": "joint"}, r'form = "joint" needs a consensus on all public states at once'),
        ({"form": "joint", "refresh": "event", "optimizer": "separate"}, "a separate optimizer would do nothing"),
        ({"chunks": 4}, r"6 public states cannot be cut into distillation\.chunks = 4 equal parts"),
    ],
)
def test_settings_that_cannot_work(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Distilled(Linear(), Distillation(**settings), PUBLIC).check(CartPole())


def test_what_does_not_fit_together():
    def check(learner, world=CartPole(), public=PUBLIC, **settings):
        Distilled(learner, Distillation(**settings), public).check(world)

    check(Linear(learning_rate=(0.1, 0.2)), boltzmann=(1.0, 2.0))
    check(Linear("values"), payload="logits", direction="reverse", temperature=2.0)
    with pytest.raises(ValueError, match="Public states of 4 numbers are no observations of Pendulum, which shows 3"):
        check(Linear(), Pendulum())
    with pytest.raises(ValueError, match=r"Public states of shape \[0, 4\] give nothing to predict on"):
        check(Linear(), public=PUBLIC[:0])
    with pytest.raises(ValueError, match="which has no reverse"):
        check(Linear("values"), direction="reverse")
    with pytest.raises(ValueError, match="Normal distributions are not softened"):
        check(Linear("normal"), temperature=2.0)
    with pytest.raises(ValueError, match="Normal distributions have no logits"):
        check(Linear("normal"), payload="logits")
    with pytest.raises(ValueError, match="adds to the loss of a policy, but Stubborn learns values"):
        check(Stubborn(), form="joint", refresh="event")


def test_learners_of_the_library_can_be_distilled():
    joint = {"form": "joint", "refresh": "event"}
    for learner, world, settings in (
        (REINFORCE(), CartPole(), {}),
        (REINFORCE(), CartPole(), joint),
        (REINFORCE.continuous(), Pendulum(), {"direction": "reverse"}),
        (DQN(), CartPole(), {"payload": "probabilities", "optimizer": "separate"}),
    ):
        public = np.zeros((4, world.observation_space.size), np.float32)
        agent = Distilled(learner, Distillation(**settings), public)
        agent.check(world)
        assert agent.episodic == learner.episodic
    with pytest.raises(ValueError, match="adds to the loss of a policy, but DQN learns values"):
        Distilled(DQN(), Distillation(**joint), PUBLIC).check(CartPole())
