import dataclasses

import numpy as np
import perturbed_run
import pytest
import synthetic_run
from perturbed_run import TEST, arm, run
from reader import Reader, check_page

from polyfed.environments import Perturbed
from polyfed.report import write_report
from polyfed.report.arms import entries
from polyfed.report.blocks import Story
from polyfed.report.robust_scores import benches, differences
from polyfed.report.robustness import _tables, findings, robust_table, robustness_section


def bench_of(made):
    (bench,) = benches(entries([made]))
    return bench


def section_of(*runs):
    return robustness_section(Story.of(entries(runs)))


@pytest.fixture(scope="module")
def plain():
    return bench_of(perturbed_run.plain())


def test_a_run_without_the_test_has_no_section():
    assert section_of(synthetic_run.standard(points=3)) is None


@pytest.mark.usefixtures("drawing")
def test_the_page_with_the_section_is_whole(tmp_path):
    write_report([perturbed_run.plain()], tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    page = check_page(html)
    assert page.ids.index("curves") < page.ids.index("robustness") < page.ids.index("matrix")
    for text in ("16 test worlds: half length and mass pole + mass cart (one at a time)", "nominal world (x\xa0=\xa00)",
                 "from −50\xa0% to +50\xa0%", "6 worlds in which all are drawn at once",
                 "2 of the test worlds are also the world of a client"):  # fmt: skip
        assert text in page.words, text
    names = {path.stem for path in (tmp_path / "page-figures").iterdir()}
    assert {"front", "robust-half-length", "robust-mass-pole-mass-cart"} <= names


def test_differences_are_paired_by_seed(plain):
    first, other = plain.arms[:2]
    average, worst = differences(first, other, TEST.joint)
    gaps = first.worst_cases(TEST.joint) - other.worst_cases(TEST.joint)
    assert float(worst.value) == pytest.approx(np.sort(gaps)[1:-1].mean())
    assert average.num_seeds == 5


def test_findings_say_better_only_where_intervals_exclude_zero(plain):
    (title, clauses), (alone, _) = findings(plain)
    assert title == "fedrdqn against dqnavg"
    assert alone == "fedrdqn against local_only"
    said = {result: text for result, text in clauses if text.startswith("worst case")}
    assert said["helped"].startswith("worst case, better: all test worlds +")
    assert "joint +" in said["helped"]
    few = findings(bench_of(perturbed_run.plain(seeds=3)))
    assert all(result == "undecided" for _, clauses in few for result, _ in clauses)
    assert "average, 3 seeds are too few to tell: all test worlds" in few[0][1][0][1]


def test_many_arms_are_summed_up():
    found = findings(bench_of(perturbed_run.sweep()))
    assert [title for title, _ in found] == [
        f"omega_00 against the others, {kind} over all test worlds" for kind in ("average", "worst case")
    ]
    assert any(text.startswith("worse than omega_02 −") for _, text in found[1][1])


def test_the_table_has_a_row_per_set_and_arm_and_a_sign_where_it_is_sure(plain):
    html = robust_table(plain, list(plain.sets))
    words = Reader(html).words
    assert html.count('<th scope="row">') == 4 * 3
    assert "half length · dqnavg" in words
    assert "Nominal" in words
    assert "fedrdqn −\xa0arm: average" in words
    assert "▲" in html
    row = html[html.index("all test worlds · fedrdqn") : html.index("all test worlds · dqnavg")]
    assert row.count("<td>–</td>") == 2  # it is not compared with itself
    joint = html[html.index("joint · fedrdqn") :]
    assert joint.index("<td>–</td>") < joint.index("<b>")  # no nominal world among the joint ones
    assert "▲" not in robust_table(bench_of(perturbed_run.plain(seeds=4)), ["joint"])


def test_a_long_table_of_single_quantities_waits_until_asked_for(plain):
    assert "<details><summary>Half length and mass pole + mass cart</summary>" in _tables(
        bench_of(perturbed_run.sweep())
    )
    assert "<details>" not in _tables(plain)


@pytest.mark.usefixtures("drawing")
def test_scores_that_are_no_numbers_are_left_out():
    made = perturbed_run.plain()
    arms = {name: dataclasses.replace(one, returns=one.returns * np.nan) for name, one in made.arms.items()}
    section = section_of(dataclasses.replace(made, arms=arms))
    assert "No method has numbers in all test worlds" in section.body
    assert "nan" not in section.body


def test_runs_with_the_same_test_stand_on_one_bench():
    of = entries([perturbed_run.plain(), run([arm("fedavg", 410, 150)], name="again")])
    (bench,) = benches(of)
    html = robust_table(bench, ["joint"])
    assert "joint · again/fedavg" in html
    assert html.count("<td>–</td>") == 4 + 2  # no nominal world among the joint ones; the first is not its own rival
    assert "again/fedavg" in findings(bench)[2][0]
    longer = run([arm("fedavg", seeds=6)], name="again")
    (bench,) = benches(entries([perturbed_run.plain(), longer]))
    assert robust_table(bench, ["joint"]).count("<td>–</td>") == 4 + 2 + 2  # other seeds cannot be paired
    assert len(findings(bench)) == 2


@pytest.mark.usefixtures("drawing")
def test_runs_with_other_tests_stand_apart_and_names_are_escaped(tmp_path):
    test = Perturbed("half_length", points=3, num_joint=2)
    runs = [run([arm("<script>a</script>"), arm("local_only")]), run([arm("fedavg", test=test)], test, name="<b>")]
    section = section_of(*runs)
    names = [drawing.name for drawing in section.drawings]
    assert names == ["front-fedrdqn-cartpole", "robust-half-length-fedrdqn-cartpole",
                     "robust-mass-pole-mass-cart-fedrdqn-cartpole", "front-b", "robust-half-length-b"]  # fmt: skip
    assert "<h3>&lt;b&gt;</h3>" in section.body
    write_report(runs, tmp_path / "evil.html")
    check_page((tmp_path / "evil.html").read_text())
