"""What outlives a merge, part by part, and that a merge takes nothing from the server."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from polyfed.agents import DQN, Proximal, Survival
from polyfed.agents.rollout import local_update
from polyfed.environments import CartPole

ENVIRONMENT = CartPole()
PARTS = ("optimizer", "replay", "target", "exploration")


def learner(survival, **fields):
    return DQN(hidden=(8,), batch_size=8, replay_capacity=64, learning_starts=5, survival=survival, **fields)


@functools.cache
def program(terms, donate):
    """A round of a client as a compiled function: it takes in a broadcast and lives 40 local steps."""
    agent = learner(Survival.everything(), local_terms=terms)
    params = jax.tree.map(lambda x: jnp.full(2, x), ENVIRONMENT.nominal())

    def run(state, broadcast, key):
        state = agent.absorb(state, broadcast)
        worlds = ENVIRONMENT.start(key, params)
        return local_update(ENVIRONMENT, agent, (state, worlds, params), key, num_steps=40)[0]

    return jax.jit(lambda key: agent.init(key, ENVIRONMENT, 2)), jax.jit(run, donate_argnums=donate), agent


@pytest.fixture(scope="module")
def trained():
    """The state of a learner after 40 local steps, in which target and online network differ."""
    begin, run, agent = program((), ())
    state = begin(jax.random.key(0))
    return run(state, agent.share(state), jax.random.key(2))


def same(one, other):
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in leaves)


@pytest.mark.parametrize("kept", list(itertools.product([False, True], repeat=4)), ids=str)
def test_each_part_is_kept_or_begins_anew(trained, kept):
    keep = dict(zip(PARTS, kept, strict=True))
    broadcast = jax.tree.map(lambda x: x - 0.5, trained.online)
    after = learner(Survival(**keep)).absorb(trained, broadcast)
    assert same(after.online, broadcast)
    assert same(after.target, trained.target if keep["target"] else broadcast)
    fresh = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1.0)).init(broadcast)
    assert same(after.optimizer, trained.optimizer if keep["optimizer"] else fresh)
    assert int(after.explore_steps) == (40 if keep["exploration"] else 0)
    assert int(after.replay.size) == (32 if keep["replay"] else 0)  # time steps: 64 transitions of two environments
    assert same(after.replay.rows, trained.replay.rows)  # nothing is copied or cleared; what is forgotten is not read
    assert int(after.learn_steps) == int(trained.learn_steps) == 36
    assert jax.tree.structure(after) == jax.tree.structure(trained)


def test_the_parts_of_this_learner_can_tell_kept_from_new(trained):
    assert not same(trained.target, trained.online)
    assert any(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(trained.optimizer))


def test_named_policies():
    assert Survival() == Survival(optimizer=True, replay=True, target=False, exploration=True)
    assert Survival.everything() == Survival(*[True] * 4)
    assert Survival.nothing() == Survival(*[False] * 4)


@pytest.mark.parametrize(("donate", "terms"), [((), ()), ((0,), (Proximal(),))], ids=["kept", "donated"])
def test_training_leaves_the_broadcast_as_it_was(donate, terms):
    """A client may share memory with the server's arrays, and hand its own state's memory on: the bytes must stay."""
    begin, run, agent = program(terms, donate)
    memory = jax.tree.map(np.array, agent.share(begin(jax.random.key(5))))
    before = [leaf.tobytes() for leaf in jax.tree.leaves(memory)]
    broadcast = jax.tree.map(jnp.asarray, memory)
    for client in range(2):  # both start from the same broadcast
        state = jax.tree.map(jnp.copy, begin(jax.random.key(client)))
        after = run(state, broadcast, jax.random.key(client))
        assert not same(agent.share(after), memory)
        assert [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(broadcast)] == before
        assert [leaf.tobytes() for leaf in jax.tree.leaves(memory)] == before
