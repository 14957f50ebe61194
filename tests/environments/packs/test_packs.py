import importlib.util
import subprocess
import sys

import gymnasium
import numpy as np
import pytest

from polyfed.environments import Explicit, packs
from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.environments.host_check import check_host
from polyfed.environments.host_worlds import make, make_world
from polyfed.environments.physics import PACKS
from polyfed.errors import MissingExtraError
from polyfed.experiments import load

PACKAGES = {
    "polyfed/PointMaze-v0": "gymnasium_robotics",
    "polyfed/Crossing-v0": "minigrid",
    "polyfed/Rooms-v0": "pyRDDLGym",
    "polyfed/RadioCell-v0": "mobile_env",
    "polyfed/Junction-v0": "sumo",
}
EXPERIMENTS = {
    "maze-robots": "polyfed/PointMaze-v0",
    "grid-robots": "polyfed/Crossing-v0",
    "hvac": "polyfed/Rooms-v0",
    "oran-access": "polyfed/RadioCell-v0",
    "junctions": "polyfed/Junction-v0",
}


def here(id_):
    return importlib.util.find_spec(PACKAGES[id_]) is not None


def needs(id_):
    if not here(id_):
        pytest.skip(f"{PACKAGES[id_]} is not installed")


def walk(env, seed, steps=60):
    env.action_space.seed(0)
    seen = [env.reset(seed=seed)[0]]
    rewards = []
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        seen.append(observation)
        rewards.append(reward)
        if terminated or truncated:
            break
    env.close()
    flat = [gymnasium.spaces.flatten(env.observation_space, x) for x in seen]
    return np.concatenate([np.ravel(flat), rewards])


def test_every_world_has_quantities_and_a_package_that_an_extra_brings():
    assert packs.WORLDS.keys() == PACKS.keys() == PACKAGES.keys()
    assert set(PACKAGES.values()) <= packs.EXTRAS.keys()


def test_no_package_is_imported_before_its_world_is_made():
    code = f"import sys, polyfed.environments.host_worlds; print(sorted({set(packs.EXTRAS)!r} & sys.modules.keys()))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("id_", PACKAGES)
def test_a_missing_package_names_its_extra(id_, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[id_], None)  # as if it were not installed
    for name in [name for name in sys.modules if name.startswith(f"{PACKAGES[id_]}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf'pip install "polyfed\[{packs.EXTRAS[PACKAGES[id_]]}\]"'):
        make(id_)


def test_a_quantity_that_counts_takes_whole_numbers():
    needs("polyfed/Crossing-v0")
    with pytest.raises(ValueError, match=r"walls = 1.5 lies between two worlds of .*: give a whole number"):
        make_world("polyfed/Crossing-v0", {"walls": 1.5})


@pytest.mark.parametrize("id_", PACKAGES)
def test_a_fleet_can_live_there(id_):
    needs(id_)
    bad = [finding for finding in check_host(id_) if not finding.good and finding.needed]
    assert not bad


@pytest.mark.parametrize(("id_", "name"), [(id_, name) for id_ in PACKS for name in PACKS[id_]])
def test_every_quantity_changes_what_happens_and_nothing_at_its_nominal_value(id_, name):
    needs(id_)
    about = PACKS[id_][name]
    as_made, nominal = walk(make_world(id_, {}), 11), walk(make_world(id_, {name: about.default}), 11)
    np.testing.assert_array_equal(as_made, nominal)
    for value in {about.low, about.high} - {about.default}:
        changed = walk(make_world(id_, {name: value}), 11)
        assert np.isfinite(changed).all()
        assert changed.shape != nominal.shape or np.any(changed != nominal)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_its_experiment_is_whole_or_names_the_extra(name):
    experiment, id_ = load(name), EXPERIMENTS[name]
    assert experiment.environment.id == id_
    if here(id_):
        experiment.check()
        return
    with pytest.raises(MissingExtraError, match=rf'pip install "polyfed\[{packs.EXTRAS[PACKAGES[id_]]}\]"'):
        experiment.check()


@pytest.mark.parametrize("name", ["cheetah-bodies", "hopper-friction"])
def test_the_experiments_of_bodies_are_whole(name):
    load(name).check()


def test_clients_may_live_in_other_mazes():
    needs("polyfed/PointMaze-v0")
    world = Gymnasium("polyfed/PointMaze-v0")
    params = Explicit({"maze": (0.0, 1.0, 3.0)}).params(world, 3)
    assert params.values[:, 0].tolist() == [0.0, 1.0, 3.0]
