import numpy as np
import pytest

from polyfed.environments.packs.junctions import JUNCTIONS, MOST_LANES, MOST_PHASES, Junction, spread

SEEN = MOST_PHASES + 1 + 2 * MOST_LANES


def test_what_is_seen_has_one_place_for_all_junctions():
    for plan in JUNCTIONS:
        size = plan.phases + 1 + 2 * plan.lanes
        whole = spread(np.arange(1.0, size + 1), plan)
        assert whole.shape == (SEEN,)
        assert np.sort(whole[whole > 0]).tolist() == list(range(1, size + 1))
        assert whole[MOST_PHASES] == plan.phases + 1


@pytest.mark.parametrize("nth", [0, 3])
def test_it_is_the_package_without_its_second_of_waiting(nth, monkeypatch):
    sumo = pytest.importorskip("sumo")
    pytest.importorskip("sumo_rl")
    from pathlib import Path

    monkeypatch.setenv("SUMO_HOME", sumo.SUMO_HOME)
    import sumo_rl

    ours, plan, nets = Junction(nth), JUNCTIONS[nth], Path(sumo_rl.__file__).parent / "nets"
    files = str(nets / f"{plan.network}.net.xml"), str(nets / f"{plan.routes}.rou.xml")
    facts = {"begin_time": plan.begin, "num_seconds": 1800, "min_green": 5, "reward_fn": "queue"}
    theirs = sumo_rl.SumoEnvironment(*files, single_agent=True, sumo_warnings=False, **facts)
    assert theirs.action_space.n == plan.phases
    assert len(theirs.traffic_signals[theirs.ts_ids[0]].lanes) == plan.lanes
    seen, _ = ours.reset(seed=1)
    number = int(np.random.Generator(np.random.PCG64(np.random.SeedSequence(1))).integers(2**31))
    np.testing.assert_array_equal(seen, spread(theirs.reset(seed=number)[0], plan))
    for action in np.random.default_rng(0).integers(plan.phases, size=120):
        one, other = ours.step(action), theirs.step(action)
        np.testing.assert_array_equal(one[0], spread(other[0], plan))
        assert one[1] == pytest.approx(other[1] / 10)
    theirs.close()
    ours.close()


def test_a_fixed_programme_does_not_listen():
    pytest.importorskip("sumo_rl")
    queues = []
    for action in (0, 1):
        env = Junction(0, fixed=True)
        env.reset(seed=2)
        queues.append([env.step(action)[1] for _ in range(60)])
        env.close()
    assert queues[0] == queues[1]
    assert min(queues[0]) < 0
    open_ = Junction(0)
    open_.reset(seed=2)
    assert [open_.step(1)[1] for _ in range(60)] != queues[0]
    open_.close()
