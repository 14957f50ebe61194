import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from polyfed.environments.packs.rooms import COMFORT, PENALTY, Rooms

pyRDDLGym = pytest.importorskip("pyRDDLGym")


@pytest.mark.filterwarnings("ignore:.*precision lowered")
def test_it_is_the_domain_with_its_reward_in_units_of_the_penalty():
    rooms, domain = Rooms(), pyRDDLGym.make("HVAC", "0", vectorized=True)
    rooms.reset(seed=1)
    domain.reset(seed=int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(1))).integers(2**31)))
    for air in np.random.default_rng(0).uniform(0, 10, (40, 3)):
        seen, reward, _, truncated, _ = rooms.step(air / 5 - 1)
        theirs, paid, _, _, _ = domain.step({"air": air})
        np.testing.assert_allclose(10 * seen + COMFORT, theirs["temp"], rtol=1e-5)
        assert reward == pytest.approx(paid / PENALTY)
    assert truncated


def test_a_world_changes_no_other():
    cold, nominal, again = Rooms(outside=-20.0), Rooms(), Rooms()
    for rooms in (cold, nominal, again):
        rooms.reset(seed=1)
    seen = [[rooms.step(-np.ones(3))[0] for _ in range(40)][-1] for rooms in (cold, nominal, again)]
    np.testing.assert_array_equal(seen[1], seen[2])
    assert (seen[0] <= seen[1]).all()
    assert (seen[0] < seen[1] - 0.05).any()


def test_a_thermostat_keeps_all_rooms_comfortable():
    rooms = Rooms(outside=-10.0, insulation=8.0)
    seen, _ = rooms.reset(seed=0)
    rewards = []
    for _ in range(40):
        seen, reward, *_ = rooms.step(np.clip(-0.75 - 8 * seen, -1, 1))
        rewards.append(reward)
    assert min(rewards[5:]) > -0.01
    assert sum(rewards) > -13


def test_making_worlds_in_many_threads_leaves_the_output_where_it_was():
    before = sys.stdout, sys.stderr
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda outside: Rooms(outside=outside), range(8)))
    assert (sys.stdout, sys.stderr) == before
    assert len(made) == 8
