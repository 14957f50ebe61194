"""Masks that environments of Gymnasium publish in their three ways, and what is wrong with some."""

import dataclasses

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces

from polyfed.agents import A2C, DQN
from polyfed.agents.rollout import local_update
from polyfed.environments import Discrete
from polyfed.environments.gymnasium_world import Gymnasium, _worlds
from polyfed.environments.host_check import check_host
from polyfed.environments.host_recipe import Recipe, facts
from polyfed.environments.host_spaces import check_mask, check_some_allowed
from polyfed.environments.live_worlds import LiveWorlds, first_rows


class Strict(gymnasium.Env):
    """Of three choices some are allowed, and it fails where another is taken; shown is the step."""

    def __init__(self, way="info", flags=3):
        self.way, self.flags = way, flags
        seen = spaces.Box(0.0, 1.0, (1,))
        shown = spaces.Dict({"seen": seen, "action_mask": spaces.MultiBinary(flags)})
        self.observation_space = shown if way == "observation" else seen
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self._shown()

    def step(self, action):
        assert self.mask[action], "that is not allowed"
        self.time += 1
        return *(given := self._shown())[:1], 1.0, False, False, given[1]

    def action_masks(self):
        return self.mask > 0 if self.way == "method" else None

    def _shown(self):
        self.mask = np.zeros(self.flags, np.int8)
        if self.flags == 3 and not (self.way == "info" and self.time == 7):
            self.mask[self.np_random.permutation(3)[: 1 + self.time % 2]] = 1
        seen = np.array([self.time / 10], np.float32)
        if self.way == "observation":
            return {"seen": seen, "action_mask": self.mask}, {}
        return seen, ({"action_mask": self.mask} if self.way in ("info", "short") else {})


@pytest.fixture(scope="module", autouse=True)
def registered():
    gymnasium.register("Strict-v0", entry_point=Strict, max_episode_steps=6)
    yield
    del gymnasium.registry["Strict-v0"]


def world(way, **given):
    return Gymnasium("Strict-v0", (f"way={way}",), masks=way != "observation", **given)


@pytest.mark.parametrize("way", ["info", "method", "observation"])
def test_every_way_to_publish_a_mask_is_read(way):
    there = world(way)
    assert there.action_space == Discrete(3)
    assert there.observation_size == 4
    _, seen = there.reset(jax.random.key(0), there.nominal())
    assert np.asarray(there.allowed(seen)).tolist().count(True) == 1
    assert np.asarray(there.allowed(np.ones((2, 5, 4), np.float32))).shape == (2, 5, 3)


@pytest.mark.parametrize(
    ("agent", "way"),
    [
        (A2C(hidden=(8,), rollout_steps=10), "method"),
        (DQN(hidden=(8,), batch_size=8, replay_capacity=64, learning_starts=10), "observation"),
    ],
    ids=["A2C", "DQN"],
)
def test_learners_take_nothing_that_is_not_allowed(agent, way):
    there = world(way)
    params = jax.tree.map(lambda x: x[None], there.nominal())
    client = agent.init(jax.random.key(0), there, 1), there.start(jax.random.key(1), params), params
    _, _, metrics = jax.jit(lambda *c: local_update(there, agent, c, jax.random.key(2), num_steps=60))(*client)
    assert float(metrics["return"]) == 6.0
    assert not _worlds(there).failures


def test_random_walks_of_the_check_heed_a_mask_that_is_shown():
    gymnasium.register("Shown-v0", entry_point=lambda: Strict("observation"), max_episode_steps=6)
    try:
        assert all(finding.good for finding in check_host("Shown-v0") if finding.needed)
    finally:
        del gymnasium.registry["Shown-v0"]


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: world("nowhere").check(), "neither info\\['action_mask'\\] nor action_masks"),
        (lambda: facts(Recipe("Strict-v0", ("way=short", "flags=2"), masks=True)), "2 flags for 3 choices"),
        (lambda: facts(Recipe("Strict-v0", ("way=observation", "flags=4"))), "action_mask of 4 numbers"),
        (lambda: facts(Recipe("Pendulum-v1", masks=True)), "a flag for each choice"),
        (lambda: check_mask((0, 2), facts(Recipe("Pendulum-v1")).taken.space), "actions are no choices"),
        (lambda: check_some_allowed((1, 3), np.array([1.0, 0.0, 0.0])), "allows nothing although"),
    ],
    ids=["none", "short in info", "long in a Dict", "vectors", "a Dict over vectors", "nothing allowed"],
)
def test_bad_masks_are_one_sentence(ask, words):
    with pytest.raises(ValueError, match=words) as caught:
        ask()
    assert "\n" not in str(caught.value)


def test_a_world_that_allows_nothing_in_the_middle_of_an_episode_is_out():
    recipe = dataclasses.replace(world("info")._recipe, varied=(), time_limit=20)
    worlds = LiveWorlds(recipe)
    env = worlds._fresh(b"")
    env.reset(seed=0)
    with pytest.raises(AssertionError, match="not allowed"):
        env.step(int(np.argmin(env.unwrapped.mask)))
    worlds.begin(first_rows(np.zeros((1, 0)), [5]))
    assert not worlds.failures
    seen, floats = env.reset(seed=0)[0], np.zeros(worlds.size, np.float32)
    for _ in range(7):
        seen = env.step(int(np.argmax(seen["action_mask"])))[0]
    assert not seen["action_mask"].any()
    env.reset = lambda seed: (seen, {})
    worlds._guarded_begin(floats, b"", 5, env)
    assert "allows nothing" in worlds.failures[b""]
