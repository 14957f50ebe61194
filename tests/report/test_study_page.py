"""The page on a study is whole, self-contained, and made of the findings."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from reader import check_page

from polyfed.experiments import load_file
from polyfed.report.study_figures import draw
from polyfed.report.study_page import cell, write_study_report
from polyfed.runs.study_folder import StudyResult
from polyfed.study import Curves, Findings, Line, Table, Value, silent

COINS = Path(__file__).parents[1] / "studies" / "coins.py"
RECORD: dict[str, Any] = {"seeds": [0, 1, 2], "command": "polyfed run coins", "created": "2026-01-01T00:00:00+00:00"}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study: Any = load_file(COINS)
    folder = tmp_path_factory.mktemp("page")
    result = StudyResult("coins", "Coins <of> mine.", RECORD, study.answer((0, 1, 2), silent), 12.3)
    write_study_report(result, folder / "report.html", folder / "figures")
    return folder


def test_the_page_is_well_formed_and_holds_everything(page: Path) -> None:
    words = check_page((page / "report.html").read_text()).words
    for text in ("Coins <of> mine.", "Coins fell <as> they should in 100 throws.", "The second sentence.", "12 s",
                 "Heads & tails", "Share of heads.", "Goes down.", "All of it is ours.", "polyfed run coins", "3 seeds",
                 "9.0e−10", "±"):  # fmt: skip
        assert text in words, text
    assert not re.search(r"\bnan\b|\binf\b", words)


def test_figures_are_files_and_the_same_each_time(page: Path, tmp_path: Path) -> None:
    names = {path.name for path in (page / "figures").iterdir()}
    assert names == {f"{name}.{kind}" for name in ("share-log", "share-plain", "nothing") for kind in ("svg", "png")}
    study: Any = load_file(COINS)
    drawing = draw(study.answer((0, 1, 2), silent).curves[0])
    assert drawing.svg == (page / "figures" / "share-log.svg").read_text()


@pytest.mark.parametrize(
    "line",
    [
        Line("zero", (1.0, 2.0), (0.0, 0.0)),
        Line("negative", (1.0, 2.0), (-1.0, -2.0), (-2.0, -3.0), (0.0, 0.0)),
        Line("not a number", (1.0, 2.0), (math.nan, 1.0), (math.nan, 0.5), (math.nan, 2.0)),
        Line("from zero", (0.0, 10.0), (1.0, 1e-9)),
        Line("one point", (1.0,), (1.0,)),
        Line("empty", (), ()),
    ],
    ids=lambda line: line.label,
)
def test_odd_lines_are_drawn(line: Line, tmp_path: Path) -> None:
    curves = [Curves(f"odd-{log:d}", "up", "along", (line,), log_x=log, log_y=log) for log in (True, False)]
    result = StudyResult("odd", "Odd.", {"seeds": [0]}, Findings((), (), tuple(curves)), 0.0)
    write_study_report(result, tmp_path / "odd.html")
    check_page((tmp_path / "odd.html").read_text())


def test_many_lines_have_a_wide_figure() -> None:
    lines = tuple(Line(f"line {i}", (1.0, 2.0), (float(i), float(i))) for i in range(12))
    assert draw(Curves("many", "up", "along", lines)).width > draw(Curves("few", "up", "along", lines[:3])).width


def test_a_study_without_verdict_or_command_has_a_page(tmp_path: Path) -> None:
    table = Table("t", ("a", "b"), (("<x>", Value(math.nan)), ("y", Value(1e7))), section="Settings")
    result = StudyResult("bare", "Bare.", {"seeds": [0]}, Findings((), (table,)), 0.0)
    write_study_report(result, tmp_path / "bare.html")
    words = check_page((tmp_path / "bare.html").read_text()).words
    assert "This study came to no verdict." in words
    assert "<x>" in words


def test_cells() -> None:
    assert "[1.0, 2.0]" in cell(Value(1.5, low=1.0, high=2.0), 1)
    assert cell("a<b", None) == "a&lt;b"
