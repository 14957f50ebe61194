import os
import signal

import numpy as np
import pytest

from polyfed.environments.host_recipe import Recipe
from polyfed.environments.live_worlds import NEVER, LiveWorlds
from polyfed.environments.worker_worlds import WorkerWorlds

CARTPOLE = Recipe("CartPole-v1", varied=("length",))

FRAGILE = """
import gymnasium, os, time
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

class Fragile(CartPoleEnv):
    def step(self, action):
        if self.length > 0.9:
            os._exit(3)
        if self.length > 0.7:
            time.sleep(600)
        return super().step(action)

gymnasium.register("Fragile-v0", entry_point=Fragile, max_episode_steps=20)
"""


@pytest.fixture(scope="module")
def two():
    worlds = WorkerWorlds(CARTPOLE, number=2, patience=60.0)
    yield worlds
    worlds.close()


def test_processes_answer_as_this_one_does(two, walker_in):
    here = LiveWorlds(CARTPOLE)
    pairs = [
        (walker_in(two, (length,), seed), walker_in(here, (length,), seed)) for length in (0.5, 1.0) for seed in (1, 2)
    ]
    for t in range(30):
        for there, own in pairs:
            got, wanted = there.step(t % 3 == 0, after=100 + t), own.step(t % 3 == 0, after=100 + t)
            np.testing.assert_array_equal(got[0], wanted[0])
            assert got[1:] == wanted[1:]
            np.testing.assert_array_equal(there.trace, own.trace)
    assert len({two._where[key] for key in two._where}) == 2  # both are at work


def test_an_episode_may_be_followed_by_one_in_another_world(two, walker_in):
    walkers = [walker_in(worlds) for worlds in (two, LiveWorlds(two.recipe))]
    for walker in walkers:
        walker.following = (0.9,)
    for action in [0] * 30:
        there, here = (walker.step(action, after=11) for walker in walkers)
        np.testing.assert_array_equal(there[0], here[0])
        assert there[1:] == here[1:]
        np.testing.assert_array_equal(*(walker.seen for walker in walkers))
    assert walkers[0].values == (0.9,)


def test_a_process_that_is_killed_is_started_again_and_nothing_is_lost(two, walker_in):
    walker, own = walker_in(two, seed=5), walker_in(LiveWorlds(CARTPOLE), seed=5)
    for action in (0, 1, 1):
        walker.step(action), own.step(action)
    for process in two._processes:
        os.kill(process._child.pid, signal.SIGKILL)
    for action in (0, 1):
        np.testing.assert_array_equal(walker.step(action)[0], own.step(action)[0])
    assert not two.failures


def test_after_the_end_nothing_happens(two, walker_in):
    walker = walker_in(two, seed=6)
    while not any(walker.step(0)[2:]):
        pass
    assert walker.step(0)[1:] == (0.0, True, False)


@pytest.mark.slow
def test_worlds_that_end_or_hold_up_their_process_are_out(tmp_path, monkeypatch, walker_in):
    (tmp_path / "fragile_worlds.py").write_text(FRAGILE)
    monkeypatch.syspath_prepend(tmp_path)
    worlds = WorkerWorlds(Recipe("fragile_worlds:Fragile-v0", varied=("length",), modules=True), 1, patience=2.0)
    try:
        good, deadly, slow = (walker_in(worlds, (length,), limit=20) for length in (0.5, 1.0, 0.8))
        assert np.isnan(deadly.step(1)[1])
        assert slow.step(1, after=7)[1] == 0.0
        assert good.step(1)[1:] == (1.0, False, False)
        assert good.step(1, after=NEVER)[1:] == (1.0, False, False)
        reasons = list(worlds.failures.values())
        assert reasons == [
            "its process died, and again after it was started anew",
            "its process did not answer within 2 s, and again after it was started anew",
        ]
    finally:
        worlds.close()
