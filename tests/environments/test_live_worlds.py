import gymnasium
import numpy as np
import pytest

from polyfed.environments import live_worlds
from polyfed.environments.host_recipe import Recipe
from polyfed.environments.live_worlds import NEVER, LiveWorlds

CARTPOLE = Recipe("CartPole-v1", varied=("length",))
NOMINAL = np.full((1, 1), 0.5, np.float32)


def test_an_episode_is_gymnasiums(walker_in):
    env, walker = gymnasium.make("CartPole-v1"), walker_in(LiveWorlds(CARTPOLE))
    first, _ = env.reset(seed=3)
    np.testing.assert_array_equal(walker.seen, first)
    for action in (0, 1, 1, 0) * 3:
        observation, reward, terminated, truncated, _ = env.step(action)
        got = walker.step(action)
        np.testing.assert_array_equal(got[0], observation)
        assert got[1:] == (reward, terminated, truncated)


def test_the_next_episode_begins_where_one_ends(walker_in):
    walker, env = walker_in(LiveWorlds(CARTPOLE)), gymnasium.make("CartPole-v1")
    while not any(walker.step(0, after=11)[2:]):
        pass
    first, _ = env.reset(seed=11)
    np.testing.assert_array_equal(walker.seen, first)
    np.testing.assert_array_equal(walker.step(1)[0], env.step(1)[0])


def test_after_the_end_nothing_happens_and_the_environment_is_used_again(walker_in):
    worlds = LiveWorlds(CARTPOLE)
    walker = walker_in(worlds)
    while not any(walker.step(0)[2:]):
        pass
    assert walker.trace.tolist() == [NEVER, NEVER]
    assert walker.step(0)[1:] == (0.0, True, False)
    walker_in(worlds, seed=4)
    assert worlds._count == 1


def test_the_next_episode_may_be_in_another_world_and_the_old_one_is_left(walker_in):
    worlds, env = LiveWorlds(CARTPOLE), gymnasium.make("CartPole-v1")
    walker = walker_in(worlds)
    env.unwrapped.length = 0.5
    walker.following = (0.9,)
    env.reset(seed=3)
    over = False
    while not over:  # to its end in the world in which it began
        observation, _, terminated, truncated, _ = env.step(0)
        got, _, *ends = walker.step(0, after=11)
        np.testing.assert_array_equal(got, observation)
        over = any(ends)
        assert over == (terminated or truncated)
    other = walker_in(LiveWorlds(CARTPOLE), values=(0.9,), seed=11)
    np.testing.assert_array_equal(walker.seen, other.seen)
    for action in (0, 1, 1):
        np.testing.assert_array_equal(walker.step(action)[0], other.step(action)[0])
    assert worlds._count == 1  # nothing rests in a world where nobody lives


def test_what_is_not_at_hand_is_played_again(walker_in):
    """As after a resume; and a state that is stepped twice, with different actions, leads to two futures."""
    worlds = LiveWorlds(CARTPOLE)
    walker = walker_in(worlds)
    for action in (0, 1, 1):
        walker.step(action)
    again = [LiveWorlds(CARTPOLE).advance(walker.row(a), walker.past) for a in (0, 1)]
    once = [worlds.advance(walker.row(a), walker.past) for a in (0, 1)]
    np.testing.assert_array_equal(again, once)
    assert not np.array_equal(once[0], once[1])


def test_more_than_fit_make_room_and_are_played_again(monkeypatch, walker_in):
    monkeypatch.setattr(live_worlds, "MOST_ALIVE", 2)
    worlds, alone = LiveWorlds(CARTPOLE), LiveWorlds(CARTPOLE)
    walkers = [walker_in(worlds, seed=s) for s in range(4)]
    wanted = [walker_in(alone, seed=s) for s in range(4)]
    for action in (0, 1, 0):
        for one, other in zip(walkers, wanted, strict=True):
            np.testing.assert_array_equal(one.step(action)[0], other.step(action)[0])


def test_quantities_make_another_world(walker_in):
    worlds = LiveWorlds(CARTPOLE)
    far, near = walker_in(worlds, (1.0,)), walker_in(worlds, (0.5,))
    assert not np.array_equal(far.step(1)[0], near.step(1)[0])


def test_a_world_of_other_spaces_is_out(walker_in):
    class Sized(gymnasium.Env):
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self, size=2.0):
            self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (int(size),))

        def reset(self, *, seed=None, options=None):
            return np.zeros(self.observation_space.shape, np.float32), {}

        def step(self, action):
            return np.zeros(self.observation_space.shape, np.float32), 1.0, False, False, {}

    gymnasium.register("Sized-v0", entry_point=Sized, max_episode_steps=20)
    try:
        worlds = LiveWorlds(Recipe("Sized-v0", varied=("kwargs.size",)))
        assert walker_in(worlds, (2.0,)).step(0)[1] == 1.0
        assert np.isnan(walker_in(worlds, (3.0,)).step(0)[1])
        (reason,) = worlds.failures.values()
        assert "the clients of a fleet need the spaces of the nominal one" in reason
    finally:
        del gymnasium.registry["Sized-v0"]


@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_world_that_fails_is_out_and_the_others_go_on(how, walker_in):
    class Bad(gymnasium.Wrapper):
        def step(self, action):
            observation, reward, *rest = self.env.step(action)
            bad = self.env.unwrapped.length > 0.6
            if how == "raises" and bad:
                raise RuntimeError("the motor\nburnt")
            return observation, np.nan if how == "nan" and bad else reward, *rest

    def entry():
        return Bad(gymnasium.make("CartPole-v1"))

    gymnasium.register("Bad-v0", entry_point=entry, max_episode_steps=20)
    try:
        recipe = Recipe("Bad-v0", varied=("length",))
        worlds = LiveWorlds(recipe)
        said = {"raises": "RuntimeError: the motor burnt", "nan": "an observation or a reward is not finite"}[how]
        walker, other = walker_in(worlds, (1.0,)), walker_in(worlds, (0.5,))
        observation, reward, terminated, _ = walker.step(1)
        assert not observation.any()
        assert np.isnan(reward)  # where it is judged
        assert terminated
        learning = walker_in(worlds, (1.0,))
        assert learning.step(1, after=9)[1:] == (0.0, False, False)  # where it would learn
        assert other.step(1)[1:] == (1.0, False, False)
        (reason,) = worlds.failures.values()
        assert said in reason
        assert worlds.there(np.float32([[1.0], [0.5]]).view(np.uint32)).tolist() == [[0.0], [1.0]]
    finally:
        del gymnasium.registry["Bad-v0"]
