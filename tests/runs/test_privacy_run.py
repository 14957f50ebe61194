"""What a run spends of its clients' privacy: kept through a power cut, held to a budget, said everywhere."""

import dataclasses
import json

import numpy as np
import pytest

from polyfed.console import privacy
from polyfed.errors import ResumeMismatchError
from polyfed.exchange import CentralNoise
from polyfed.experiment import Variant
from polyfed.runs import run, store
from polyfed.runs.checkpoint import checkpoints, read_manifest
from polyfed.simulation.simulate import Simulation

NOISE = CentralNoise(4.0, max_norm=0.5)


def quiet(progress):
    """Watch and say nothing."""


@pytest.fixture(scope="module")
def experiment(tiny):
    """An arm with a budget for three of six rounds, one without noise and one with noise for all."""
    stops = Variant("stops", transforms=(dataclasses.replace(NOISE, epsilon=1.8),))
    return tiny(transforms=(NOISE,), variants=(stops,), compare=("stops",))


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def finished(experiment, tmp_path_factory, told):
    folder = run.create(tmp_path_factory.mktemp("private"), experiment, (0,), "polyfed run private.py --seeds 0")
    run.go_on(folder, told.append, checkpoint_seconds=0)
    return folder


def test_a_budget_ends_an_arm_before_the_round_that_would_exceed_it(finished, told, experiment):
    result = store.load_run(finished)
    spent, whole = result.arms["stops"].privacy, result.arms["fedavg"].privacy
    last = spent.rounds
    assert 1 <= last < experiment.num_rounds == whole.rounds
    assert spent.epsilon <= 1.8 < dataclasses.replace(experiment, transforms=(NOISE,)).guarantee(last + 1).epsilon
    assert result.arms["stops"].rounds[-1] == last
    said = [progress.message for progress in told if progress.message]
    assert len(said) == 1
    assert said[0].startswith(f"stops: Stopped after {last} of 6 rounds: one more would spend epsilon = ")
    assert said[0].endswith("beyond the budget of 1.8 at delta = 1e-05. What was run is kept.")
    assert (finished / "arms" / "stops" / "weights" / "seed-0" / "global.safetensors").is_file()


def test_rounds_up_to_there_are_those_of_a_run_without_a_budget(finished):
    result = store.load_run(finished)
    short, whole = result.arms["stops"], result.arms["fedavg"]
    shared = np.isin(whole.rounds, short.rounds)
    np.testing.assert_array_equal(whole.returns[shared], short.returns[np.isin(short.rounds, whole.rounds)])


def test_what_was_spent_is_written_down_everywhere(finished):
    record = store.read_record(finished)
    done = store.read_done(finished / "arms" / "stops")["privacy"]
    assert done == record["privacy"]["stops"]  # as was planned
    assert (done["unit"], done["delta"], done["noise"], done["sampling"]) == ("client", 1e-5, "central", 1.0)
    lines = [json.loads(line) for line in (finished / "arms" / "stops" / "metrics.jsonl").read_text().splitlines()]
    assert [line["server"]["epsilon"] for line in lines] == sorted(line["server"]["epsilon"] for line in lines)
    assert lines[-1]["server"]["epsilon"] == pytest.approx(done["epsilon"], rel=1e-6)


def test_a_run_without_noise_is_recorded_as_before(tmp_path, tiny):
    folder = run.create(tmp_path, tiny(), (0,), "")
    assert "privacy" not in store.read_record(folder)


class PowerCut(BaseException):
    """The end of a process."""


def test_after_a_power_cut_the_same_was_spent_and_released(finished, experiment, tmp_path):
    """Rounds that are done again release the same to the last bit, so they count once."""
    folder = run.create(tmp_path, experiment, (0,), "polyfed run private.py --seeds 0")

    def cut(progress):
        if progress.round == 4:
            raise PowerCut

    with pytest.raises(PowerCut):
        run.go_on(folder, cut, checkpoint_seconds=1e9)  # no checkpoint: four rounds are done again
    run.go_on(folder, quiet, checkpoint_seconds=1e9)
    for arm in ("fedavg", "stops"):
        once, again = (store.read_done(path / "arms" / arm) for path in (finished, folder))
        assert again["privacy"] == once["privacy"]
        assert again["weights"] == once["weights"]
    checkpoint = read_manifest(checkpoints(folder / "arms" / "fedavg")[0])
    assert experiment.guarantee(checkpoint.round).record == recorded(folder, "fedavg")


def recorded(folder, arm):
    """What an arm has spent, as it wrote down when it was done."""
    return store.read_done(folder / "arms" / arm)["privacy"]


def test_other_versions_do_not_meet_the_same_noise(finished, monkeypatch):
    """Even with --force: other bits under the noise of rounds that were released would show what it hides."""
    monkeypatch.setattr(run, "differences", lambda record: ["jax 0.1, now 0.2"])
    with pytest.raises(ResumeMismatchError, match=r"rounds of fedavg that are done again .* under the same noise"):
        run.go_on(finished, quiet, force=True)


def test_nobody_runs_beyond_the_budget_by_another_door(experiment):
    arm = experiment.variants[0](dataclasses.replace(experiment, compare=(), variants=()))
    simulation = Simulation(arm, (0,))
    with pytest.raises(ValueError, match=r"Round 6 would bring epsilon to 2\.502, beyond .* ends with round 3: "):
        simulation.advance(simulation.init(), 6)


def test_the_console_says_what_was_spent_when_an_arm_is_done(told):
    last = [progress for progress in told if progress.arm == "fedavg"][-1]
    assert privacy(last).startswith("fedavg: (epsilon = 2.502")
    assert "With 3 clients every number of the mean has noise of 1.33 times the clip" in privacy(last)
    assert privacy(dataclasses.replace(last, round=3)) == ""
