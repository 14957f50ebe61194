"""SAC against NumPy and finite differences, on problems of known values, and what a merge leaves of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.agents.actor_critic import critic_values
from polyfed.agents.local_terms import Proximal
from polyfed.agents.rollout import local_update
from polyfed.agents.sac import PARTS, SAC
from polyfed.agents.soft_actor_critic import squashed_sample
from polyfed.agents.survival import Survival
from polyfed.agents.target import SoftUpdate
from polyfed.environments import CONTINUOUS_PROBES, FAMILIES, PROBES, Box, Discrete, Explicit, Pendulum
from polyfed.experiment import Evaluation, Experiment
from polyfed.leaves import stacked
from polyfed.simulation.simulate import Simulation
from polyfed.testing import check_agent
from polyfed.types import Gaussians, Trajectory

SMALL = SAC(
    hidden=(8,), activation="tanh", batch_size=16, replay_capacity=90, learning_starts=10, target_update=SoftUpdate(0.1)
)
WORLD = Pendulum()  # observations of 3 numbers, one action in [-2, 2]


def made_up(seed, num_steps, num_envs=1):
    """Transitions of Pendulum's shape that nobody lived through, `[T, E]`, with both kinds of ends."""
    random = np.random.default_rng(seed)
    shape = (num_steps, num_envs)
    return Trajectory(
        observation=random.normal(size=(*shape, 3)).astype(np.float32),
        action=random.uniform(-2, 2, (*shape, 1)).astype(np.float32),
        reward=random.normal(size=shape).astype(np.float32),
        next_observation=random.normal(size=(*shape, 3)).astype(np.float32),
        terminated=random.random(shape) < 0.2,
        truncated=random.random(shape) < 0.2,
    )


@jax.jit
def begun(agent, key):
    return agent.init(key, WORLD, 1)


@functools.cache
def begin(agent, seed):
    return begun(stacked(agent, None), jax.random.key(seed))


@jax.jit
def learn(agent, state, trajectory, key):
    return agent.learn(state, trajectory, key)


@jax.jit
def drawn(agent, state, transition, key):
    """What the learner draws for one gradient step after one more transition: a batch, and noise of two kinds."""
    k_batch, *k_noise = jax.random.split(key, 3)
    batch = state.replay.add(transition).sample(k_batch, agent.batch_size, agent.discount, 1)
    return batch, [jax.random.normal(k, (agent.batch_size, 1)) for k in k_noise]


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in leaves)


# ---- one step by hand ----


def weights(network):
    return [np.asarray(x, np.float64) for layer in network.layers for x in (layer.weight, layer.bias)]


def forward(params, x):
    w1, b1, w2, b2 = params
    return np.tanh(x @ w1.T + b1) @ w2.T + b2


def slopes(loss, params, width=1e-5):
    """Central differences of `loss(params)`, weight by weight; `params` is left as it was."""
    found = [np.zeros_like(w) for w in params]
    for w, slope in zip(params, found, strict=True):
        for i in np.ndindex(w.shape):
            kept, ends = w[i], []
            for side in (width, -width):
                w[i] = kept + side
                ends.append(loss(params))
            w[i], slope[i] = kept, (ends[0] - ends[1]) / (2 * width)
    return found


class ByHand:
    """The learner in float64, with gradients by finite differences and Adam as in its paper."""

    def __init__(self, agent, learner):
        self.agent, self.t = agent, 0
        self.actor = weights(learner.actor)
        self.critics, self.targets = [[weights(q) for q in c] for c in (learner.critic, learner.critic_target)]
        self.log_temperature = [np.zeros(())]
        trained = (self.actor, *self.critics, self.log_temperature)
        self.moments = [[[np.zeros_like(w) for w in p] for _ in range(2)] for p in trained]

    @property
    def temperature(self):
        fixed = self.agent.temperature
        return float(np.exp(self.log_temperature[0])) if fixed is None else fixed

    def draw(self, actor, seen, noise):
        """Squashed actions and their log-densities, by the change of variables."""
        mean, log_scale = np.split(forward(actor, seen), 2, axis=1)
        action = np.tanh(mean + np.exp(log_scale) * noise)
        normal = -0.5 * noise**2 - log_scale - 0.5 * np.log(2 * np.pi)
        return action, (normal - np.log(1 - action**2))[:, 0]

    def least(self, critics, seen, action):
        return np.min([forward(q, np.append(seen, action, axis=1))[:, 0] for q in critics], axis=0)

    def soft(self, actor, critics, seen, noise):
        action, logs = self.draw(actor, seen, noise)
        return self.least(critics, seen, action) - self.temperature * logs

    def adam(self, which, params, loss, rate):
        """One step of Adam (Kingma and Ba 2015, algorithm 1); `params` is left as it was."""
        new = []
        for i, (w, g) in enumerate(zip(params, slopes(loss, params), strict=True)):
            first, second = self.moments[which]
            first[i], second[i] = 0.9 * first[i] + 0.1 * g, 0.999 * second[i] + 0.001 * g**2
            corrected = first[i] / (1 - 0.9**self.t), second[i] / (1 - 0.999**self.t)
            new.append(np.asarray(w - rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)))
        return new

    def step(self, batch, noise):
        """Critics, actor, temperature, targets; the loss of the critics and the entropy."""
        self.t += 1
        seen, after = (np.asarray(x, np.float64) for x in (batch.observation, batch.next_observation))
        action = np.asarray(batch.action, np.float64) / 2
        alive = np.asarray(batch.bootstrap) > 0
        y = batch.reward + 0.99 * alive * self.soft(self.actor, self.targets, after, noise[0])
        error = lambda q: np.mean((forward(q, np.append(seen, action, axis=1))[:, 0] - y) ** 2)  # noqa: E731
        loss, rates = sum(map(error, self.critics)), self.agent
        self.critics = [self.adam(1 + k, q, error, rates.critic_learning_rate) for k, q in enumerate(self.critics)]
        entropy = -self.draw(self.actor, seen, noise[1])[1].mean()
        objective = lambda actor: -self.soft(actor, self.critics, seen, noise[1]).mean()  # noqa: E731
        self.actor = self.adam(0, self.actor, objective, rates.actor_learning_rate)
        gap = entropy - (-1.0 if rates.target_entropy is None else rates.target_entropy)
        warmth = lambda log: float(np.exp(log[0]) * gap)  # noqa: E731
        self.log_temperature = self.adam(-1, self.log_temperature, warmth, rates.temperature_learning_rate)
        follow = lambda target, new: [0.9 * t + 0.1 * n for t, n in zip(target, new, strict=True)]  # noqa: E731
        self.targets = [follow(*pair) for pair in zip(self.targets, self.critics, strict=True)]
        return loss, entropy


def close(network, mine):
    for theirs, expected in zip(weights(network), mine, strict=True):
        np.testing.assert_allclose(theirs, expected, rtol=2e-3, atol=2e-4)


VARIANTS = {"learned": {}, "fixed": {"temperature": 0.3}, "own target": {"target_entropy": 0.5}}


@pytest.mark.parametrize("variant", ["learned", *(pytest.param(v, marks=pytest.mark.slow) for v in list(VARIANTS)[1:])])
def test_gradient_steps_are_the_algorithm_by_hand(variant):
    rates = {"actor_learning_rate": 0.003, "critic_learning_rate": 0.01, "temperature_learning_rate": 0.03}
    plain = dataclasses.replace(SMALL, learning_starts=1, **rates, **VARIANTS[variant])
    agent, state, other = stacked(plain, None), begin(plain, 0), begin(plain, 1)
    learner = dataclasses.replace(state.learner, critic_target=other.learner.critic)  # not the networks
    state = dataclasses.replace(state, learner=learner, replay=state.replay.add(made_up(0, 40)))
    mine = ByHand(plain, learner)
    for t in range(1, 5):
        transition, key = made_up(t, 1), jax.random.key(t)
        batch, noise = jax.tree.map(np.asarray, drawn(agent, state, transition, key))
        warmth = mine.temperature
        loss, entropy = mine.step(batch, noise)
        state, metrics = learn(agent, state, transition, key)
        said = [float(metrics[name]) for name in ("loss", "entropy", "temperature")]
        assert said == pytest.approx([loss, entropy, warmth], rel=2e-3)
        new = state.learner
        close(new.actor, mine.actor)
        for k in range(2):
            close(new.critic[k], mine.critics[k])
            close(new.critic_target[k], mine.targets[k])
        if plain.temperature is None:
            assert float(new.log_temperature) == pytest.approx(float(mine.log_temperature[0]), abs=1e-4)
    assert int(state.learner.steps) == 4


def test_terminated_steps_have_no_next_value_and_truncated_ones_have():
    agent, fresh = stacked(SMALL, None), begin(SMALL, 0)
    critic = [weights(q) for q in fresh.learner.critic]
    seen = made_up(3, 1)
    for terminated, truncated in ((True, False), (True, True), (False, True), (False, False)):
        flags = {"terminated": np.full((1, 1), terminated), "truncated": np.full((1, 1), truncated)}
        step = dataclasses.replace(seen, **flags)
        filled = fresh.replay.add(jax.tree.map(lambda x: x.repeat(90, 0), step))
        state, key = dataclasses.replace(fresh, replay=filled), jax.random.key(0)
        _, metrics = learn(agent, state, step, key)
        noise = np.asarray(drawn(agent, state, step, key)[1][0])
        values = [forward(q, np.append(step.observation[0, 0], step.action[0, 0] / 2))[0] for q in critic]
        hand = ByHand(SMALL, fresh.learner)
        ahead = hand.soft(hand.actor, critic, step.next_observation[0].repeat(16, 0), noise)
        y = step.reward[0, 0] + (0.0 if terminated else 0.99 * ahead)
        assert float(metrics["loss"]) == pytest.approx(sum(np.mean((v - y) ** 2) for v in values), rel=1e-3)


# ---- acting and predicting ----


def test_acts_uniformly_at_first_and_then_draws_from_what_it_predicts():
    agent, state = stacked(SMALL, None), begin(SMALL, 0)
    act, policy, predict = (jax.jit(lambda a, *g, f=f: getattr(a, f)(*g)) for f in ("act", "policy", "predict"))
    seen = np.float32([0.6, 0.8, 0.5])[None].repeat(4000, 0)
    early = np.asarray(act(agent, state, seen, jax.random.key(2)))[:, 0]
    assert np.histogram(early, bins=4, range=(-2, 2))[0] == pytest.approx([1000] * 4, abs=120)
    later = act(agent, dataclasses.replace(state, explore_steps=np.int32(10)), seen, jax.random.key(2))
    said = predict(agent, state, seen)
    assert isinstance(said, Gaussians)
    before = np.arctanh(np.clip(np.asarray(later, np.float64) / 2, -1 + 1e-7, 1 - 1e-7))
    away = (before - said.mean) / said.scale
    assert away.mean() == pytest.approx(0.0, abs=0.06)
    assert away.std() == pytest.approx(1.0, rel=0.06)
    np.testing.assert_allclose(policy(agent, state, seen), 2 * np.tanh(said.mean), rtol=1e-5)
    other = begin(SMALL, 1)
    assert same(predict(agent, state, seen, other.learner.actor), predict(agent, other, seen))


def test_what_imitation_changes_is_the_actor():
    agent, state, other = stacked(SMALL, None), begin(SMALL, 0), begin(SMALL, 1)
    params, moments = agent.student(state)
    assert params is state.learner.actor
    assert same(agent.student_optimizer(state).init(params), moments)
    new = agent.taught(state, other.learner.actor, moments)
    assert new.learner.actor is other.learner.actor
    back = agent.taught(new, *agent.student(state))
    assert same(back, state)


def test_waits_and_then_learns_at_every_step():
    agent, state = stacked(SMALL, None), begin(SMALL, 0)
    fresh, steps = state, made_up(0, 12)
    for t in range(12):
        state, _ = learn(agent, state, jax.tree.map(lambda x, t=t: x[t : t + 1], steps), jax.random.key(t))
        assert same(state.learner.actor, fresh.learner.actor) == (t + 1 < 10)
        assert int(state.learner.steps) == max(t + 1 - 9, 0)


@pytest.mark.slow
def test_takes_several_gradient_steps_per_local_step():
    agent = dataclasses.replace(SMALL, updates_per_step=3, learning_starts=1)
    state, metrics = learn(stacked(agent, None), begin(agent, 0), made_up(0, 1), jax.random.key(0))
    assert int(state.learner.steps) == 3
    assert float(metrics["temperature"]) == pytest.approx(1.0, abs=0.01)


# ---- what a merge leaves ----


@functools.cache
def lived(agent, seed=0):
    """A learner that has learned for a while."""
    state = begin(agent, seed)
    for t in range(12):
        state, _ = learn(stacked(agent, None), state, made_up(t, 1), jax.random.key(t))
    return state


@pytest.mark.parametrize("survival", [Survival(), Survival.everything(), Survival.nothing()], ids=repr)
@pytest.mark.parametrize("shared", [("actor",), PARTS], ids=len)
def test_a_merge_takes_what_is_shared_and_leaves_what_survives(survival, shared):
    agent, state = dataclasses.replace(SMALL, survival=survival, shared=shared), lived(SMALL)
    sent = agent.share(lived(SMALL, seed=1))
    assert set(sent) == set(shared)
    new, old = agent.absorb(state, sent), state.learner
    assert same(agent.share(new), sent)
    critic = sent.get("critic", old.critic)
    assert same(new.learner.critic, critic)
    assert same(new.learner.critic_target, sent.get("critic_target", old.critic_target if survival.target else critic))
    assert same(new.learner.log_temperature, sent.get("temperature", old.log_temperature))
    for name in ("actor_optimizer", "critic_optimizer", "temperature_optimizer"):
        fresh = jax.tree.map(np.zeros_like, getattr(old, name))
        assert same(getattr(new.learner, name), getattr(old, name) if survival.optimizer else fresh)
    assert (int(new.replay.count) > 0) == survival.replay
    assert (int(new.explore_steps) > 0) == survival.exploration


@pytest.mark.slow
def test_a_proximal_term_pulls_actor_and_critic_to_the_broadcast():
    base = dataclasses.replace(SMALL, actor_learning_rate=0.01, critic_learning_rate=0.01)
    distances = []
    for terms in ((), (Proximal(100.0),)):
        agent = dataclasses.replace(base, local_terms=terms)
        agent, state = stacked(agent, None), lived(agent)
        state = agent.absorb(state, sent := agent.share(state))
        assert set(state.anchor) == ({"actor", "critic"} if terms else set())
        for t in range(20):
            state, _ = learn(agent, state, made_up(t, 1), jax.random.key(t))
        far = jax.tree.map(lambda a, b: np.sum((a - b) ** 2), agent.share(state), sent)
        distances.append([sum(map(float, jax.tree.leaves(far[name]))) for name in ("actor", "critic")])
    assert all(near < 0.5 * far for far, near in zip(*distances, strict=True))


def test_derived_learners():
    agent = dataclasses.replace(SMALL, local_terms=(Proximal(),))
    assert agent.plain() == SMALL
    assert agent.alone().survival == Survival.everything()
    assert (agent.pooled(3).updates_per_step, agent.pooled(3).replay_capacity) == (3, 270)


@pytest.mark.slow
@pytest.mark.parametrize("agent", [SAC(shared=PARTS), SAC(temperature=0.2)], ids=["learned", "fixed"])
def test_keeps_the_contract(agent):
    small = {"hidden": (8,), "batch_size": 8, "learning_starts": 5, "replay_capacity": 100}
    check_agent(dataclasses.replace(agent, **small), WORLD, num_steps=20)


# ---- problems with known values ----


AWAY = np.float32([-0.3, 0.0, 0.3])  # from the best action
LEARNABLE = [pytest.param(CONTINUOUS_PROBES[0], marks=pytest.mark.slow), CONTINUOUS_PROBES[1]]


@pytest.mark.parametrize("probe", LEARNABLE, ids=lambda probe: probe.name)
def test_learns_what_to_do_what_it_is_worth_and_how_warm_to_be(probe):
    """The reward of an action is `2 (1 - (a - best)^2)` and the episode ends: so is the value, and `best` is best."""
    rates = {"critic_learning_rate": 5e-3, "actor_learning_rate": 3e-3, "temperature_learning_rate": 1e-2}
    agent = stacked(SAC(hidden=(32,), batch_size=32, replay_capacity=800, learning_starts=400, **rates), None)
    params = jax.tree.map(lambda x: jnp.full(2, 2 * x), probe.nominal())
    seen, best = jnp.asarray(probe.observations), np.asarray(probe.best)

    @jax.jit
    def live():
        client = agent.init(jax.random.key(3), probe, 2), probe.start(jax.random.key(4), params), params
        state, _, _ = local_update(probe, agent, client, jax.random.key(5), num_steps=2500)
        noise = jax.random.normal(jax.random.key(6), (500, len(best), 1))
        _, log_prob = squashed_sample(agent.predict(state, seen), noise)
        values = [critic_values(state.learner.critic, seen, best[:, None] + away)[0] for away in AWAY]
        return agent.policy(state, seen)[:, 0], jnp.stack(values), -jnp.mean(log_prob)

    policy, values, entropy = live()
    np.testing.assert_allclose(policy, best, atol=0.1)
    np.testing.assert_allclose(values, (2 * (1 - AWAY**2))[:, None].repeat(len(best), 1), atol=0.15)
    assert float(entropy) == pytest.approx(-1.0, abs=0.2)


@pytest.mark.slow
def test_swings_the_pendulum_up():
    """10,000 steps; a policy that balances earns about -150, a random one about -1200."""
    experiment = Experiment(
        name="pendulum", environment=Pendulum(), variation=Explicit(), num_clients=1, agent=SAC(), num_rounds=100,
        evaluation=Evaluation(every=100, episodes=20),
    )  # fmt: skip
    simulation = Simulation(experiment, seeds=(0, 1, 2))
    state, _ = simulation.advance(simulation.init(), 100)
    assert np.all(simulation.evaluate(state)[:, 0, 0] > -200)


@pytest.mark.slow
def test_a_federation_shares_everything_it_can():
    """Two pendulums, temperatures averaged too; after a merge both clients hold the same."""
    agent = dataclasses.replace(SMALL, shared=PARTS)
    experiment = Experiment(
        name="pendulums", environment=Pendulum(), variation=Explicit({"mass": (0.8, 1.2)}), num_clients=2, agent=agent,
        num_rounds=3, local_steps=40, evaluation=Evaluation(every=3, episodes=1),
    )  # fmt: skip
    simulation = Simulation(experiment, seeds=(0,))
    state, metrics = simulation.advance(simulation.init(), 3)
    assert np.isfinite(metrics["loss"]).all()
    assert set(state.server.broadcast) == set(PARTS)
    assert float(np.ravel(state.server.broadcast["temperature"])[0]) != 0.0


# ---- what it refuses ----


@pytest.mark.parametrize("environment", [*FAMILIES, *PROBES, *CONTINUOUS_PROBES], ids=repr)
def test_fits_worlds_with_bounded_continuous_actions(environment):
    if isinstance(environment.action_space, Box):
        return SAC().check(environment)
    assert isinstance(environment.action_space, Discrete)
    with pytest.raises(ValueError, match="SAC moves actions by small amounts, but"):
        SAC().check(environment)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"activation": "rleu"}, r"agent\.activation = 'rleu' is not known: did you mean 'relu'\?"),
        ({"hidden": ()}, r"agent\.hidden = \(\) leaves no hidden layer"),
        ({"hidden": (64, 0)}, r"agent\.hidden = 0 units is out of range"),
        ({"actor_learning_rate": -1e-3}, r"agent\.actor_learning_rate = -0\.001 is out of range"),
        ({"critic_learning_rate": (1e-3, 11.0)}, r"agent\.critic_learning_rate = 11 is out of range"),
        ({"temperature_learning_rate": 11.0}, r"agent\.temperature_learning_rate = 11 is out of range"),
        ({"temperature": -0.1}, r"agent\.temperature = -0\.1 is out of range"),
        ({"target_entropy": 0.7}, r"agent\.target_entropy = 0\.7 nats is out of range: .* to 0\.693147 nats"),
        ({"temperature": 0.2, "target_entropy": -1.0}, r"agent\.temperature = 0\.2 is fixed: leave one of them out"),
        ({"discount": 1.5}, r"agent\.discount = 1\.5 is out of range"),
        ({"batch_size": 0}, r"agent\.batch_size = 0 transitions is out of range"),
        ({"replay_capacity": 0}, r"agent\.replay_capacity = 0 transitions is out of range"),
        ({"learning_starts": 0}, r"agent\.learning_starts = 0 local steps is out of range"),
        ({"updates_per_step": 0}, r"agent\.updates_per_step = 0 is out of range"),
        ({"target_update": SoftUpdate(0.0)}, r"target_update\.rate = 0 is out of range"),
        ({"local_terms": (Proximal(-1.0),)}, r"local_terms\.strength = -1 is out of range"),
        ({"shared": ("actor", "critics")}, r"agent\.shared = 'critics' is not known: did you mean 'critic'\?"),
        ({"shared": ("critic",)}, r"agent\.shared = \('critic',\) must name actor, and nothing twice"),
        ({"shared": PARTS, "temperature": 0.2}, r"agent\.shared names temperature, but agent\.temperature = 0\.2 is"),
    ],
)  # fmt: skip
def test_refuses_fields_in_a_sentence(fields, sentence):
    with pytest.raises(ValueError, match=sentence) as refusal:
        dataclasses.replace(SAC(), **fields).check(Pendulum())
    assert str(refusal.value).replace("e.g. ", "").count(". ") == 0
