import importlib.util

import numpy as np
import pytest

from polyfed.environments.host_worlds import make, make_world
from polyfed.environments.physics import PACKS, PHYSICS, described

BOX2D = importlib.util.find_spec("Box2D") is not None
HERE = [id_ for id_ in PHYSICS if id_ not in PACKS and (BOX2D or not id_.startswith("LunarLander"))]
EACH = [(id_, name) for id_ in HERE for name in PHYSICS[id_]]


@pytest.fixture(autouse=True)
def log_elsewhere(tmp_path, monkeypatch):
    """MuJoCo writes its log where it runs."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("id_", HERE)
def test_defaults_are_what_the_environment_has(id_):
    env = make(id_)
    for name, about in PHYSICS[id_].items():
        assert about.low <= about.default <= about.high, name
        for path in about.where:
            if not about.relative and not path.startswith("kwargs."):
                target = env.unwrapped
                for part in path.partition("[")[0].split("."):
                    target = getattr(target, part)
                index = int(path.partition("[")[2].rstrip("]"))
                assert float(np.asarray(target)[index]) == pytest.approx(about.default * about.factor)
    env.close()


@pytest.mark.parametrize(("id_", "name"), EACH)
def test_every_quantity_changes_what_happens_and_nothing_at_its_nominal_value(id_, name):
    about = PHYSICS[id_][name]
    other = about.high if about.default != about.high else about.low
    with_wind = {"wind": 10.0} if name == "turbulence" else {}

    def walk(values):
        env = make_world(id_, {**with_wind, **values})
        env.action_space.seed(0)
        seen = [env.reset(seed=0)[0]]
        for _ in range(30):
            observation, _, terminated, _, _ = env.step(env.action_space.sample())
            seen.append(observation)
            if terminated:
                break
        env.close()
        return np.concatenate(seen)

    as_made, nominal, changed = walk({}), walk({name: about.default}), walk({name: other})
    np.testing.assert_array_equal(as_made, nominal)
    assert changed.shape != nominal.shape or np.any(changed != nominal)


def troubles(env):
    """How often MuJoCo found a number that cannot be, and began anew; Box2D never says."""
    return sum(w.number for w in env.unwrapped.data.warning) if hasattr(env.unwrapped, "data") else 0


@pytest.mark.parametrize(("id_", "name"), EACH)
def test_both_ends_of_a_range_can_be_simulated(id_, name):
    for value in (PHYSICS[id_][name].low, PHYSICS[id_][name].high):
        env = make_world(id_, {name: value})
        env.action_space.seed(0)
        env.reset(seed=0)
        for _ in range(100):
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            assert np.isfinite(observation).all()
            assert np.isfinite(reward)
            assert troubles(env) == 0
            if terminated or truncated:
                env.reset()
        env.close()


def test_quantities_are_described_with_unit_range_and_what_follows():
    lines = described("Hopper-v5")
    assert lines[0].startswith("gravity [m/s^2], 0 to 30, nominally 9.81: ")
    assert len(lines) == len(PHYSICS["Hopper-v5"])
    assert described("Foo-v0") == []
