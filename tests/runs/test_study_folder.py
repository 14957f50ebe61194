"""The folder of a study: whole or not there, and refused where it was edited."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from polyfed.errors import BusyError, DamagedError
from polyfed.runs import store, study_folder
from polyfed.study import silent

COINS = Path(__file__).parents[1] / "studies" / "coins.py"


@pytest.fixture(scope="module")
def study() -> Any:
    from polyfed.experiments import load_file

    return load_file(COINS)


@pytest.fixture(scope="module")
def made(study: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = study_folder.create(tmp_path_factory.mktemp("runs"), study, (0, 1, 2), "polyfed run coins", "Coins.")
    study_folder.go(folder, study, (0, 1, 2), silent)
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_what_was_written_is_read(made: Path, study: Any) -> None:
    result = study_folder.load_study(made)
    assert (result.name, result.title) == ("coins", "Coins.")
    assert result.findings == study.answer((0, 1, 2), silent)
    assert result.record["seeds"] == [0, 1, 2]
    assert result.record["study"]["throws"] == 100
    assert result.seconds > 0
    assert sorted(path.name for path in made.iterdir()) == ["findings.json", "lock", "run.json"]
    assert made.parent.name == "coins"


def test_the_record_names_no_host_and_no_folder(made: Path) -> None:
    text = (made / "run.json").read_text()
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text


def test_two_in_one_second_have_two_folders(study: Any, tmp_path: Path) -> None:
    assert len({study_folder.create(tmp_path, study, (0,)) for _ in range(3)}) == 3
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("name", ["run.json", "findings.json"])
@pytest.mark.parametrize("edit", [lambda text: text[:-20], lambda text: text.replace("0", "1", 1)], ids=["cut", "edit"])
def test_an_edited_file_is_refused(name: str, edit: Any, copy: Path) -> None:
    (copy / name).write_text(edit((copy / name).read_text()))
    with pytest.raises(DamagedError, match=name):
        study_folder.load_study(copy)


def test_findings_without_their_parts_are_refused(copy: Path) -> None:
    from polyfed.record import digest

    body = {"findings": {"verdict": []}, "seconds": 1.0}
    (copy / "findings.json").write_text(json.dumps({**body, "findings_sha256": digest(body)}))
    with pytest.raises(DamagedError, match="cut or edited"):
        study_folder.load_study(copy)


def test_a_study_that_was_not_completed_is_said(study: Any, tmp_path: Path) -> None:
    folder = study_folder.create(tmp_path, study, (0,))
    with pytest.raises(ValueError, match="was not completed: run it again"):
        study_folder.load_study(folder)


def test_a_folder_in_use_is_busy(study: Any, copy: Path) -> None:
    with store.locked(copy), pytest.raises(BusyError):
        study_folder.go(copy, study, (0,), silent)


def test_a_wrong_study_writes_nothing(study: Any, tmp_path: Path) -> None:
    import dataclasses

    with pytest.raises(ValueError, match="throws = 0"):
        study_folder.create(tmp_path, dataclasses.replace(study, throws=0), (0,))
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_study_is_not_resumed(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be resumed: run the study again"):
        study_folder.refuse_study(made, "resumed")
    study_folder.refuse_study(tmp_path, "resumed")  # no run at all: others say so
