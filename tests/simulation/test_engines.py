"""Which engine a run has: asked for, refused in a sentence, and recorded."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from polyfed import cli
from polyfed.errors import MissingExtraError
from polyfed.experiment import Experiment
from polyfed.options import Run
from polyfed.runs import run
from polyfed.runs.store import read_record
from polyfed.simulation.engines import PROCESS, engine_of
from polyfed.simulation.ray_crew import RayCrew, crew


def test_a_run_is_one_process_unless_asked_otherwise(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    folder = run.create(tmp_path, tiny(), (0,))
    assert read_record(folder)["engine"] == PROCESS
    assert engine_of(read_record(folder)) == "process"


def test_options_of_another_engine_are_refused(tiny: Callable[..., Experiment], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="add --engine ray"), cli._engine(Run(actors=2), tiny()):
        pass
    resumed = Run(engine="ray", resume=str(run.create(tmp_path, tiny(), (0,))))
    with pytest.raises(ValueError, match=r"was started in one process.*leave --engine out"), cli._engine(resumed, None):
        pass


def test_without_ray_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "polyfed\[ray\]", or leave --engine out'), crew(2):
        pass


@pytest.mark.parametrize(
    ("actors", "machines", "gpus", "expected"),
    [(0, [8], 0, (1, 8, 0)), (0, [4, 8], 2, (2, 4, 1)), (3, [4, 4], 1, (3, 2, 0)), (5, [2], 0, (5, 1, 0))],
)
def test_cores_are_shared_between_actors(
    actors: int, machines: list[int], gpus: int, expected: tuple[int, int, int]
) -> None:
    found = RayCrew(actors, machines, gpus)
    assert (found.num_actors, found.cores, found.num_gpus) == expected
