"""A run that nothing disturbed, and what of a run folder must be the same in one that was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from polyfed.experiment import Experiment
from polyfed.runs import run


def ignore(progress: Any) -> None:
    """Watch a run and say nothing."""


@pytest.fixture(scope="session")
def experiment(tiny: Callable[..., Experiment]) -> Experiment:
    """Two arms of three blocks of two rounds; three clients of one seed leave a place empty on two devices."""
    return tiny(compare=("local_only",))


@pytest.fixture(scope="session")
def finished(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was never interrupted; look, but do not touch."""
    folder = run.create(tmp_path_factory.mktemp("finished"), experiment, (0,), "polyfed run tiny.py --seeds 0")
    run.go_on(folder, ignore, checkpoint_seconds=0)
    return folder


class PowerCut(BaseException):
    """The end of a process, without a chance to tidy up."""


@pytest.fixture(scope="session")
def halfway(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that ended after four of six rounds of its first arm; copy it with `copied`."""
    folder = run.create(tmp_path_factory.mktemp("halfway"), experiment, (0,), "polyfed run tiny.py --seeds 0")

    def cut(progress: Any) -> None:
        if progress.round == 4:
            raise PowerCut

    with pytest.raises(PowerCut):
        run.go_on(folder, cut, checkpoint_seconds=0)
    return folder


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[Path], Path]:
    """`copied(folder)`: the same run in a folder of this test."""

    def copy(folder: Path) -> Path:
        return Path(shutil.copytree(folder, tmp_path / folder.name))

    return copy


@pytest.fixture(scope="session")
def results() -> Callable[[Path], dict[str, Any]]:
    """`results(folder)`: all that must not depend on interruptions, by path."""

    def read(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for path in sorted(folder.glob("arms/*/**/*")):
            name = str(path.relative_to(folder))
            if path.parent.name.startswith("round-") and path.parent != max(path.parent.parent.glob("round-*")):
                continue  # an older checkpoint may be left
            if path.is_file() and path.suffix in (".safetensors", ".jsonl"):
                found[name] = path.read_bytes()
            elif path.name == "done.json":
                done = json.loads(path.read_text())
                found[name] = {"weights": done["weights"], "logs": done["logs"]}
            elif path.name == "manifest.json":
                found[name] = json.loads(path.read_text())
        return found

    return read
