"""The run folder of a study: what was asked, and what was found once it was.

runs/<study>/<time>-<hash>/
  run.json               the study as data, seeds, command, versions, machine
  findings.json          tables, curves, facts and verdict, and how long they took; there once the study is complete
  report.html, figures/  made from the above

A study that is killed starts anew: it leaves no checkpoint.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from pathlib import Path
from typing import Any

from polyfed.errors import DamagedError
from polyfed.record import digest, to_data
from polyfed.runs.files import write_json
from polyfed.runs.store import locked, new_folder, read_record
from polyfed.runs.versions import machine, versions
from polyfed.study import Findings, Study, Watch, check_name, findings_from_data, findings_to_data


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """A complete study as it is read from its folder."""

    name: str
    title: str  # the first docstring line of its file, or its name
    record: dict[str, Any]  # `run.json`
    findings: Findings
    seconds: float  # s, compiling included


def create(root: Path, study: Study, seeds: tuple[int, ...], command: str = "", title: str = "") -> Path:
    """Make the folder of a new run, written beside and renamed; nothing is written if the study cannot be made.

    Args:
      root: Where run folders live.
      study: What to compute.
      seeds: One independent repetition each.
      command: What to type to make the run again; recorded.
      title: What the study is, in a line; recorded.
    """
    check_name(study.name)
    study.check()
    record = {
        "format": 1,
        "study": to_data(study),
        "title": title or study.name,
        "seeds": list(seeds),
        "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "machine": machine(),
    }
    return new_folder(root / study.name, record, digest([record["study"], record["seeds"]]))


def go(folder: Path, study: Study, seeds: tuple[int, ...], watch: Watch) -> Findings:
    """Compute what was asked and write it into the folder that `create` made."""
    with locked(folder):
        began = time.perf_counter()
        findings = study.answer(seeds, watch)
        body = {"findings": findings_to_data(findings), "seconds": time.perf_counter() - began}
        write_json(folder / "findings.json", {**body, "findings_sha256": digest(body)})
    return findings


def is_study(folder: Path) -> bool:
    """Whether a run folder is that of a study; raises as `read_record` does if it is none at all."""
    return "study" in read_record(folder)


def refuse_study(folder: Path, purpose: str) -> None:
    """Raise `ValueError` if a folder that exists is that of a study, of which nothing can be resumed or filmed."""
    if (folder / "run.json").is_file() and is_study(folder):
        raise ValueError(
            f"{folder} is the folder of a study, which computes in one go and cannot be {purpose}: "
            "run the study again, or render it with `polyfed report`."
        )


def load_study(folder: Path) -> StudyResult:
    """Read a complete study; raises `ValueError` if it is not, `DamagedError` if a file was edited."""
    record = read_record(folder)
    path = folder / "findings.json"
    if "study" not in record:
        raise ValueError(f"{folder} is the folder of an experiment, not of a study: read it with `load_run`.")
    if not path.is_file():
        raise ValueError(f"{folder} holds no findings, for the study was not completed: run it again.")
    try:
        data = json.loads(path.read_text())
        whole = data.pop("findings_sha256") == digest(data)
        findings = findings_from_data(data["findings"]) if whole else None
        seconds = float(data["seconds"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} cannot be read: it was cut or edited.") from error
    if findings is None:
        raise DamagedError(f"{path} was edited: its checksum is not the recorded one.")
    return StudyResult(str(record["study"]["name"]), str(record["title"]), record, findings, seconds)
