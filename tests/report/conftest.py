import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def without_drawing(kinds: tuple[str, ...], savefig: Callable[..., None]) -> Callable[..., None]:
    """matplotlib's `savefig`, that leaves files of some kinds empty; figures are made all the same."""

    def save(figure: Any, file: Any, **how: Any) -> None:
        if how["format"] not in kinds:
            savefig(figure, file, **how)
        else:
            file.write(b"" if how["format"] == "png" else '<svg viewBox="0 0 1 1"></svg>')

    return save


@pytest.fixture(autouse=True)
def pixels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels are drawn for the tests that compare them, which ask for `report`; a third of the time goes there."""
    if not {"report", "page"} & set(request.fixturenames):
        from matplotlib.figure import Figure

        monkeypatch.setattr(Figure, "savefig", without_drawing(("png",), Figure.savefig))


@pytest.fixture(params=["in words", pytest.param("drawn", marks=pytest.mark.slow)])
def drawing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the figures of a page that is judged by its words are drawn, too."""
    if request.param == "in words":
        from matplotlib.figure import Figure

        monkeypatch.setattr(Figure, "savefig", without_drawing(("png", "svg"), Figure.savefig))


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
