import dataclasses
import re

import numpy as np
import pytest
import synthetic_run
from reader import Reader, check_page

from polyfed.evaluation import statistics
from polyfed.evaluation.statistics import Estimate
from polyfed.report import write_report
from polyfed.report.arms import entries
from polyfed.report.blocks import Story
from polyfed.report.fleet import agent_labels, fleet
from polyfed.report.improvement import improvement_section
from polyfed.report.welfare import levels, welfare_section
from polyfed.report.welfare_scores import (
    improvement,
    last_tenth,
    per_agent,
    rounds_until,
    smoothed,
    welfare,
    who_gains,
)

ALONE = (480.0, 300.0, 90.0)  # what three agents earn in the end; in a federation 482, 300 and 390
TOGETHER = (482.0, 300.0, 390.0)


def training(finals, seeds=5, rounds=400, noise=3.0, seed=0):
    """`[R, S, C]`: returns that rise to `finals` within a quarter of the rounds."""
    generator = np.random.default_rng(seed)
    rise = np.minimum(1.0, np.arange(1, rounds + 1) / (rounds / 4))
    drift = generator.normal(size=(1, seeds, len(finals))) + generator.normal(size=(rounds, seeds, len(finals)))
    return rise[:, None, None] * np.array(finals) + noise * drift


def arm(name, finals, *, seeds=5, personal=True, episodes=None, agent=None, **options):
    made = synthetic_run.arm(name, finals, seeds=seeds, points=5, personal=personal)
    metrics = {"return": training(finals, seeds, seed=len(name), **options)}
    if episodes:
        metrics["episodes"] = np.full(metrics["return"].shape, float(episodes))
    experiment = {**made.experiment, **({"agent": agent} if agent else {})}
    return dataclasses.replace(made, metrics=metrics, experiment=experiment)


def run(seeds=5, **options):
    return synthetic_run.run(
        [arm("fedhpd", TOGETHER, seeds=seeds, **options), arm("local_only", ALONE, seeds=seeds, **options)]
    )


def story(*runs):
    return Story.of(entries(runs))


def words(section):
    return Reader(section.body).words.replace("\u00a0", " ")


def estimates(*bounds, num_seeds=5):
    low, high = np.array(bounds, float).T
    return Estimate((low + high) / 2, low, high, num_seeds)


# Arrays in, numbers out


def test_means_are_those_of_a_naive_loop():
    returns = training(ALONE, seeds=2, rounds=20)
    returns[::3, 0, 1] = np.nan
    for seed in range(2):
        own = [[x for x in returns[-5:, seed, c] if x == x] for c in range(3)]
        assert per_agent(returns, 5)[seed] == pytest.approx([sum(x) / len(x) for x in own])
        assert welfare(returns, 5)[seed] == pytest.approx(np.mean([sum(x) / len(x) for x in own]))
        for last in (4, 11, 20):
            rows = [[x for x in returns[last - 4 : last, seed, c] if x == x] for c in range(3)]
            assert smoothed(returns, 4)[last - 4, seed] == pytest.approx(np.mean([sum(x) / len(x) for x in rows]))


def test_an_agent_that_ended_no_episode_has_no_welfare():
    returns = np.ones((4, 2, 3))
    returns[-2:, 1, 2] = np.nan
    assert welfare(returns).tolist() == [1.0, 1.0]
    assert np.isnan(welfare(returns, 2)).tolist() == [False, True]
    assert np.isnan(smoothed(returns, 2)[-1]).tolist() == [False, True]


def test_a_level_is_reached_by_whole_windows_only():
    returns = np.zeros((10, 2, 1))
    returns[0] = 100.0  # a lucky first round
    returns[6:, 0] = 50.0
    assert rounds_until(returns, 40.0, window=2).tolist() == [2.0, 2.0]
    assert rounds_until(returns, 40.0, window=3).tolist() == [9.0, np.inf]
    assert rounds_until(returns, 0.0, window=3).tolist() == [3.0, 3.0]
    assert rounds_until(returns.mean(axis=1, keepdims=True), 20.0, window=4).tolist() == [4.0]
    for window in (0, 11):
        with pytest.raises(ValueError, match=f"window = {window} does not fit into 10 rounds"):
            smoothed(returns, window)


def test_improvement_is_paired_by_seed_over_the_last_tenth():
    together, alone = training(TOGETHER, rounds=35, seed=1), training(ALONE, rounds=35, seed=2)
    found = improvement(together, alone)
    assert last_tenth(35) == 4
    gaps = (together[-4:] - alone[-4:]).mean(axis=0)
    assert found.value == pytest.approx(np.sort(gaps, axis=0)[1:-1].mean(axis=0))
    expected = statistics.paired_difference(together[-4:].mean(axis=0).T, alone[-4:].mean(axis=0).T)
    assert (found.low == expected.low).all()
    with pytest.raises(ValueError, match="give both the same seeds"):
        improvement(together[:, :4], alone)


def test_nobody_loses_is_said_only_without_an_interval_below_zero_and_with_the_widths():
    found = dict(who_gains(["a", "b", "c"], estimates((10, 20), (-35, 40), (0.5, 8))))
    assert found["helped"].startswith("2 of 3 agents gain: a +15 [10, 20] and c +4.2 [0.5, 8.0]")
    assert found[""] == (
        "nobody loses: no interval lies below zero; the intervals are 8 to 75 wide, "
        "and the lowest reaches down to −35 (b)"
    )
    assert found["undecided"] == "not to be told apart from learning alone: b +2 [−35, 40]"
    lost = who_gains(["a", "b"], estimates((10, 20), (-9, -1)))
    assert [key for key, _ in lost] == ["helped", "hurt"]
    assert lost[1][1] == "1 of 2 agents loses: b −5.0 [−9.0, −1.0]"
    assert who_gains(["a"], estimates((-9, 1)))[0] == ("", "nobody gains for sure")


def test_nothing_is_claimed_of_few_seeds_or_of_what_is_no_number():
    few = who_gains(["a", "b"], estimates((10, 20), (-9, -1), num_seeds=4))
    assert few == (("undecided", "4 seeds are too few to tell: a +15 [10, 20] and b −5.0 [−9.0, −1.0]"),)
    one = who_gains(["a"], Estimate(np.array([3.0]), np.array([np.nan]), np.array([np.nan]), 1))
    assert one == (("undecided", "one seed cannot tell: a +3.00"),)
    unknown = who_gains(["a", "b"], estimates((10, 20), (np.nan, np.nan)))
    assert [key for key, _ in unknown] == ["helped", "unknown"]
    assert "nobody" not in " ".join(text for _, text in unknown)


# The sections


def test_the_sections_say_who_gains_and_that_nobody_loses():
    of = story(run())
    found = words(improvement_section(of))
    assert "client-2 (half length 0.5 m) +" in found
    assert "nobody loses: no interval lies below zero; the intervals are" in found
    assert "Average over agents" in found
    together = words(welfare_section(of))
    for text in ("All rounds", "Last 100 rounds", "Last tenth", "Beyond learning alone", "of 5 seeds", "50 %: 196"):
        assert text in together, text
    assert "not reached in 400 (0 of 5)" in together  # learning alone ends at 289 of 391


def test_a_loss_is_named():
    made = run()
    made.arms["fedhpd"].metrics["return"][:, :, 1] -= 60
    found = words(improvement_section(story(made)))
    assert "1 of 3 agents loses: client-1 (half length 0.35 m) −" in found
    assert "nobody loses" not in found


def test_episodes_are_counted_where_every_round_has_as_many():
    (of,) = story(run(episodes=5)).by_run
    found = fleet(of)
    assert found.unit == "episodes"
    assert {arm.window for arm in found.arms} == {10}
    assert "Last 100 episodes" in words(welfare_section(story(run(episodes=5))))
    made = run(episodes=5)
    made.arms["local_only"].metrics["episodes"][3, 0, 0] = 4.0
    assert fleet(story(made).entries).unit == "rounds"


def test_levels_lie_on_the_way_to_the_best_arm_also_below_zero():
    assert [round(level) for _, level in levels(fleet(story(run()).entries))] == [196, 294, 352]
    made = run()
    for one in made.arms.values():
        one.metrics["return"] -= 600.0
    shares = [level for _, level in levels(fleet(story(made).entries))]
    assert all(-600 < level < -209 for level in shares)
    assert shares == sorted(shares)
    assert "counted from the lowest start" in words(welfare_section(story(made)))


@pytest.mark.parametrize(
    "made",
    [
        synthetic_run.standard(points=3),  # one policy for all
        synthetic_run.run([arm("fedhpd", TOGETHER)]),  # nothing to compare with
        synthetic_run.run([arm("fedhpd", TOGETHER), arm("local_only", ALONE, seeds=4)]),
        dataclasses.replace(run(), measure="accuracy"),
        synthetic_run.run([dataclasses.replace(one, metrics={}) for one in run().arms.values()]),
    ],
)
def test_other_runs_have_no_such_section(made):
    assert welfare_section(story(made)) is None
    assert improvement_section(story(made)) is None


def test_a_pooled_agent_is_no_fleet():
    made = run()
    pooled = arm("pooled", TOGETHER, personal=False)
    pooled.metrics["return"] = pooled.metrics["return"][:, :, :1]
    found = fleet(story(synthetic_run.run([*made.arms.values(), pooled])).entries)
    assert [one.entry.arm.name for one in found.arms] == ["fedhpd", "local_only"]


def test_agents_are_called_by_their_groups():
    groups = [{"name": "wide", "num_clients": 1}, {"name": "deep", "num_clients": 2}]
    (named,) = entries([synthetic_run.run([arm("fedhpd", TOGETHER, agent={"groups": groups})])])
    assert agent_labels(named) == ["wide", "deep-0", "deep-1"]
    partly = [{"name": "", "num_clients": 2}, {"name": "deep"}]
    (named,) = entries([synthetic_run.run([arm("fedhpd", TOGETHER, agent={"groups": partly})])])
    assert agent_labels(named) == ["client-0 (half length 0.25 m)", "client-1 (half length 0.35 m)", "deep"]
    (named,) = entries([synthetic_run.run([arm("fedhpd", TOGETHER, agent={"groups": groups[:1]})])])
    assert agent_labels(named)[0] == "client-0 (half length 0.25 m)"


@pytest.mark.usefixtures("drawing")
def test_the_page_with_the_sections_is_whole(tmp_path):
    evil = [{"name": "<script>x</script>"}, {"name": "b"}, {"name": "c"}]
    write_report([run(seeds=1, agent={"name": "mixed", "groups": evil})], tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    page = check_page(html)
    order = [page.ids.index(name) for name in ("curves", "welfare", "improvement", "matrix")]
    assert order == sorted(order)
    assert "<script>x" not in html
    assert {"welfare.svg", "improvement.png"} <= {path.name for path in (tmp_path / "page-figures").iterdir()}
    assert "one seed cannot tell" in page.words


def test_runs_stand_below_each_other():
    of = story(run(seeds=1), synthetic_run.standard(seeds=1, points=3), run(seeds=1))
    for section, name in ((welfare_section(of), "welfare"), (improvement_section(of), "improvement")):
        assert [one.name for one in section.drawings] == [f"{name}-cartpole-poles-{i}" for i in (1, 3)]
        assert section.body.count("<h3>") == 2


def test_a_fleet_that_diverged_is_reported_in_words():
    made = run()
    for one in made.arms.values():
        one.metrics["return"][300:, 0, 1] = np.nan
        one.metrics["return"][:, 1, 2] = np.inf
    found = words(improvement_section(story(made)))
    assert "not a number: client-1" in found
    assert "nobody loses" not in found
    assert not re.search(r"\bnan\b|\binf\b", found + words(welfare_section(story(made))))
