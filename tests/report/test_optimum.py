import dataclasses
import re

import numpy as np
import optimum_run
import pytest
import synthetic_run
from reader import Reader, check_page
from test_figures import texts

from polyfed.report import write_report
from polyfed.report.arms import entries
from polyfed.report.blocks import Story
from polyfed.report.optimum import environments_table, optimum_section, optimum_table
from polyfed.report.optimum_scores import standing


def story(*runs):
    return Story.of(entries(runs))


def words(html):
    return Reader(html).words.replace("\u00a0", " ")


def rows(html):
    return [re.sub(r"<[^>]+>", "|", row) for row in re.findall(r"<tr>(.*?)</tr>", html, re.DOTALL)]


def test_arms_and_rules_have_a_row_each():
    found = standing(entries([optimum_run.run()]))
    html = optimum_table(found)
    head, *body = rows(html)
    for text in ("Average (%)", "Worst client (%)", "Held-out (%)", "Average beyond learning alone"):
        assert text in head
    assert [next(x for x in row.split("|") if x) for row in body] == ["fedavg", "local_only ", "LRU ", "Belady "]
    assert "▲" in body[0]
    assert "50" in body[2]
    assert "[" not in body[2]  # the same in every seed
    each = rows(environments_table(found))
    for word, place in (("Belady", 0), ("client-0", 1), ("held-out-1", 5)):
        assert word in each[place]


def test_without_learning_alone_or_held_out_environments_there_are_no_such_columns():
    run = optimum_run.run(held_out=0)
    only = dataclasses.replace(run, arms={"fedavg": run.arms["fedavg"]})
    (head, *_) = rows(optimum_table(standing(entries([only]))))
    assert "Held-out" not in head
    assert "alone" not in head


def test_the_figure_has_a_row_per_client_points_for_arms_and_lines_for_rules():
    section = optimum_section(story(optimum_run.run()))
    (drawing,) = section.drawings
    shown = texts(drawing)
    for text in ("client-0 (half length 0.25 m)", "average over clients", "worst client", "fedavg", "LRU", "Belady"):
        assert text in shown
    assert "per cent of the optimum" in shown
    assert "average over clients: fedavg 93.0 % [" in drawing.description
    assert "LRU 50 %, Belady 95 %" in drawing.description


def test_many_arms_are_drawn_over_all_clients_only():
    run = optimum_run.run(seeds=2)
    arms = {f"m{i}": dataclasses.replace(run.arms["fedavg"], name=f"m{i}") for i in range(9)}
    (drawing,) = optimum_section(story(dataclasses.replace(run, arms=arms))).drawings
    assert "client-0 (half length 0.25 m)" not in texts(drawing)
    assert "worst client" in texts(drawing)


@pytest.mark.usefixtures("drawing")
def test_the_page_with_the_section_is_whole(tmp_path):
    run = optimum_run.run(seeds=1)
    rules = {**run.yardstick.baselines, "<script>x": run.yardstick.baselines["LRU"]}
    evil = dataclasses.replace(run.yardstick, floor="<b>", baselines={**rules, "<b>": rules["nothing"]})
    write_report([dataclasses.replace(run, yardstick=evil)], tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    page = check_page(html)
    order = [page.ids.index(name) for name in ("verdict", "summary", "optimum", "curves")]
    assert order == sorted(order)
    assert "<script>x" not in html
    assert "<b>”" not in html
    assert "On the way from <b> (0 %) to the optimum" in page.words.replace("\u00a0", " ")
    assert {"optimum.svg", "optimum.png"} <= {path.name for path in (tmp_path / "page-figures").iterdir()}


def test_only_runs_with_an_optimum_have_it():
    assert optimum_section(story(synthetic_run.standard(seeds=1, points=3))) is None
    of = story(optimum_run.run(seeds=1), synthetic_run.standard(seeds=1, points=3), optimum_run.run(seeds=1))
    section = optimum_section(of)
    assert [one.name for one in section.drawings] == ["optimum-cartpole-poles-1", "optimum-cartpole-poles-3"]
    assert section.body.count("<h3>") == 2


def test_what_is_left_out_is_told():
    run = optimum_run.run(seeds=2)
    optimum = run.yardstick.optimum.copy()
    optimum[0, 1] = run.yardstick.baselines["nothing"][0, 1]
    yardstick = dataclasses.replace(run.yardstick, optimum=optimum)
    section = optimum_section(story(dataclasses.replace(run, yardstick=yardstick)))
    assert "Left out: 1 environment in which there is nothing to gain" in words(section.body)
    assert "client-1" not in words(section.body)


def test_an_arm_that_diverged_has_no_numbers_and_the_others_have():
    run = optimum_run.run()
    run.arms["fedavg"].returns[-1, 0] = np.nan
    section = optimum_section(story(run))
    assert not re.search(r"\bnan\b", words(section.body))
    (row,) = [row for row in rows(section.body) if "|fedavg|" in row and "–" in row][:1]
    assert "▲" not in row
