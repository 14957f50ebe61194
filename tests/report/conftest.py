import dataclasses
from pathlib import Path

import pytest
import synthetic_run

from polyfed.report import write_report


@dataclasses.dataclass(frozen=True)
class Written:
    """A report on disk."""

    path: Path
    figures: Path

    @property
    def html(self) -> str:
        return self.path.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def run():
    """3 clients and 2 held-out, 5 seeds: fedwb, fedavg, local_only, pooled."""
    return synthetic_run.standard()


@pytest.fixture(scope="session")
def report(run, tmp_path_factory) -> Written:
    """The report on `run`, written once."""
    folder = tmp_path_factory.mktemp("report")
    write_report([run], folder / "demo.html")
    return Written(folder / "demo.html", folder / "demo-figures")
