"""The report says where clients lived."""

from __future__ import annotations

import pytest
import synthetic_run

from polyfed.report.arms import entries
from polyfed.report.opening import tiles


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"engine": {"name": "ray", "actors": 2}}, "all arms and seeds, Ray, 2 actors"),
        ({"engine": {"name": "process"}}, "all arms and seeds, in one process"),
        ({}, "all arms and seeds"),
    ],
    ids=["ray", "process", "an older run"],
)
def test_the_tile_of_the_run_time_names_the_engine(record: dict[str, object], words: str) -> None:
    tile = tiles(entries([synthetic_run.standard(points=5, **record)])).replace("\N{NO-BREAK SPACE}", " ")
    assert f"{words}</dd>" in tile
