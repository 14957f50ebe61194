import base64
import dataclasses

import pytest
import synthetic_run

from polyfed.evaluation.results import FilmResult
from polyfed.report import films
from polyfed.report.arms import entries
from polyfed.report.blocks import Story
from polyfed.report.films import films_section


def film(client, policy="global", arm="fedavg"):
    return FilmResult(f"{arm}-{policy}-in-client-{client}.gif", arm, policy, client, 3, 101.25, 120)


def section(*runs):
    return films_section(Story.of(entries(list(runs))))


@pytest.fixture(scope="module")
def filmed():
    run = synthetic_run.standard(points=3)
    return dataclasses.replace(run, films=((film(0), b"GIF one"), (film(2, "client-2"), b"GIF of two")))


def test_a_run_without_films_has_no_such_section():
    assert section(synthetic_run.standard(points=3)) is None


def test_every_film_is_inside_the_page_and_closed_at_first(filmed):
    body = section(filmed).body
    assert body.count("<details>") == body.count('loading="lazy"') == 2
    assert "<details open" not in body
    for content in (b"GIF one", b"GIF of two"):
        assert f'src="data:image/gif;base64,{base64.b64encode(content).decode()}"' in body
    assert "fedavg, seed 3, global policy in the world of client 0: return 101.25 in 120 steps" in body
    assert "fedavg, seed 3, policy of client-2 in the world of client 2: return 101.25 in 120 steps" in body
    assert "An episode is an example, not a measurement." in body


def test_beyond_what_a_page_can_carry_films_are_named(filmed, monkeypatch):
    monkeypatch.setattr(films, "MOST_BYTES", len(b"GIF of two") + 2)
    body = section(filmed).body
    assert body.count("<img") == 1
    assert base64.b64encode(b"GIF one").decode() in body
    assert "<code>videos/fedavg-client-2-in-client-2.gif</code> in the folder of cartpole-poles, 0.0 MB." in body


def test_what_a_film_says_of_itself_cannot_break_out_of_the_page(filmed):
    odd = (film(0, arm='<script>"x"'), b"GIF")
    body = section(dataclasses.replace(filmed, films=(odd,))).body
    assert "<script>" not in body
    assert '"x"' not in body


def test_of_several_runs_each_has_its_own(filmed):
    silent = dataclasses.replace(synthetic_run.standard(points=3), name="silent")
    third = dataclasses.replace(filmed, name="third", films=((film(1), b"GIF three"),))
    body = section(filmed, silent, third).body
    assert "silent" not in body
    assert body.index("cartpole-poles") < body.index("third")
    assert body.count("<img") == 3
