from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from polyfed.agents import DDPG
from polyfed.environments import Battery, Explicit, Uniform
from polyfed.errors import DamagedError
from polyfed.experiment import Evaluation, Experiment
from polyfed.recipes import fedavg
from polyfed.runs import run, store
from polyfed.runs.kept_yardstick import NAME, read_yardstick, write_yardstick

HOMES = fedavg(
    Experiment(
        name="homes",
        environment=Battery(max_steps=24),
        variation=Explicit({"capacity": (4.0, 8.0)}),
        num_clients=2,
        agent=DDPG(hidden=(4,)),
        num_rounds=2,
        local_steps=4,
        evaluation=Evaluation(every=1, episodes=2, seed=3, held_out=Explicit({"solar_peak": (1.0,)}), num_held_out=1),
    )
)


def test_it_is_that_of_the_episodes_of_the_evaluation_written_once_and_comes_back(tmp_path: Path) -> None:
    write_yardstick(tmp_path, HOMES, (0, 1))
    found = read_yardstick(tmp_path)
    assert found is not None
    assert found.optimum.shape == (1, 3)
    home = HOMES.environment
    worlds = [Explicit({"capacity": (4.0, 8.0)}), Explicit({"solar_peak": (1.0,)})]
    for m, (of, place) in enumerate([(0, 0), (0, 1), (1, 0)]):
        world = jax.tree.map(lambda x, i=place: x[i], worlds[of].params(home, 2 - of))
        optima = [home.optimum(world, key) for key in jax.random.split(jax.random.key(3), 2)]
        assert found.optimum[0, m] == np.mean(optima)
    before = (tmp_path / NAME).stat().st_mtime_ns
    write_yardstick(tmp_path, HOMES, (0, 1))  # as when a run is resumed
    assert (tmp_path / NAME).stat().st_mtime_ns == before


def test_where_every_seed_has_a_fleet_every_seed_has_a_row(tmp_path: Path) -> None:
    drawn = dataclasses.replace(HOMES, variation=Uniform(["capacity"], each_seed=True))
    write_yardstick(tmp_path, drawn, (4, 7))
    found = read_yardstick(tmp_path)
    assert found is not None
    assert found.optimum.shape == (2, 3)
    assert (found.optimum[0, :2] != found.optimum[1, :2]).all()
    assert found.optimum[0, 2] == found.optimum[1, 2]  # the held-out world is common
    other = tmp_path / "other"
    other.mkdir()
    write_yardstick(other, drawn, (7,))
    alone = read_yardstick(other)
    assert alone is not None
    assert alone.optimum[0].tolist() == found.optimum[1].tolist()


def test_where_no_optimum_is_known_nothing_is_written(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    write_yardstick(tmp_path, tiny(), (0,))
    assert not list(tmp_path.iterdir())
    assert read_yardstick(tmp_path) is None


@pytest.mark.parametrize("edit", [lambda text: text[:-9], lambda text: text.replace("-", "", 1), lambda text: "[]"])
def test_a_file_that_was_edited_is_noticed(edit: Callable[[str], str], tmp_path: Path) -> None:
    write_yardstick(tmp_path, HOMES, (0,))
    (tmp_path / NAME).write_text(edit((tmp_path / NAME).read_text()))
    with pytest.raises(DamagedError, match="edited"):
        read_yardstick(tmp_path)


def evaluated(folder: Path) -> Path:
    """A run that trained nothing, but was evaluated once."""
    (arm,) = (folder / "arms").iterdir()
    store.log_evaluation(arm, 0, np.full((2, 1, 3), -9.0))
    (arm / "metrics.jsonl").write_bytes(b"")
    return folder


def test_a_run_begins_with_it_and_its_report_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Any] = []
    monkeypatch.setattr(run, "_run_arm", lambda path, *rest: order.append((path.parents[1] / NAME).is_file()))
    folder = run.create(tmp_path, HOMES, (0, 1))
    run.go_on(folder, lambda progress: None)
    assert order == [True]
    found = store.load_run(evaluated(folder))
    assert found.yardstick is not None
    assert found.yardstick.optimum.tolist() == json.loads((folder / NAME).read_text())["optimum"]


def test_who_is_interrupted_before_it_is_found_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run.create(tmp_path, HOMES, (0, 1))

    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Battery, "baselines", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run.go_on(folder, lambda progress: None)
    assert not (folder / NAME).exists()
    monkeypatch.setattr(run, "_run_arm", lambda *args: None)
    run.go_on(folder, lambda progress: None)
    assert (folder / NAME).is_file()


def test_a_folder_of_before_is_reported_without(tmp_path: Path) -> None:
    assert store.load_run(evaluated(run.create(tmp_path, HOMES, (0, 1)))).yardstick is None
