import dataclasses

import numpy as np
import synthetic_run

from polyfed.evaluation import statistics
from polyfed.report import summary, tables, wording
from polyfed.report.arms import comparable, entries, environment_label


def test_summary_shows_the_estimates():
    arms = entries([synthetic_run.standard(points=5)])
    html = tables.summary(arms)
    for entry in arms:
        final = statistics.final_window(entry.arm.rounds, entry.arm.deployed())
        average = float(statistics.interquartile_mean(final[:, :3]))
        worst = float(statistics.interquartile_mean(final[:, :3].min(axis=1)))
        held_out = float(statistics.interquartile_mean(final[:, 3:].mean(axis=1)))
        assert [float(e.value) for e in (entry.average, entry.worst_case, entry.held_out)] == [average, worst, held_out]
        assert f"<b>{wording.number(worst, wording.places(e.worst_case for e in arms))}</b>" in html
    assert html.count(">baseline<") == 2
    assert "168 MB" in html


def test_bytes_per_client_are_means_over_rounds_and_seeds():
    arm = synthetic_run.arm("fedwb", [1, 2, 3], points=3)
    up = np.zeros((400, 5, 3))
    up[::2] = [2000, 4000, 6000]
    arm = dataclasses.replace(arm, metrics={**arm.metrics, "bytes_up": up})
    (entry,) = entries([synthetic_run.run([arm])])
    assert "1 kB to 3 kB" in tables.communication([entry])
    assert "<td>2 kB</td><td>70 kB</td>" in tables.communication_per_client([entry])


def test_settings_that_differ_are_set_apart():
    run = synthetic_run.standard(points=3)
    html = tables.differences(entries([run]))
    assert "rule.name" in html
    assert "learning_rate" not in html
    assert tables.differences(entries([run])[:1]) == ""


def test_settings_are_grouped_by_branch():
    html = tables.settings(
        {"rounds": 3, "agent": {"name": "DQN", "survives": {"replay": True}}, "none": {}}, "Settings"
    )
    assert '<th scope="rowgroup" colspan="2">agent</th>' in html
    assert '<th scope="row">survives.replay</th><td>yes</td>' in html
    assert '<th scope="row">none</th><td>none</td>' in html


def test_nothing_says_who_ran_it():
    record = {"machine": {"Hostname": "h", "cores": 2, "cwd": "/home/me"}, "user": "me", "seeds": [0, 1]}
    assert tables.public(record) == {"machine": {"cores": 2}, "seeds": [0, 1]}


def test_environments_are_named_with_their_values():
    run = synthetic_run.standard(points=3)
    assert environment_label(run, run.arms["fedwb"], 3) == "held-out-0 (half length 0.71 m)"
    many = dataclasses.replace(run, worlds={key: [1.0] * 5 for key in "abc"})
    assert environment_label(many, run.arms["fedwb"], 0) == "client-0"


def test_runs_are_paired_only_with_the_same_seeds_and_worlds():
    first, second = synthetic_run.standard(points=3), synthetic_run.standard(points=3)
    other_seeds = synthetic_run.standard(points=3, seeds_=None)
    other_seeds = dataclasses.replace(other_seeds, record={**other_seeds.record, "seeds": [7, 8, 9, 10, 11]})
    other_worlds = dataclasses.replace(second, worlds={"half_length": [9.0] * 5})
    head = entries([first])[0]
    assert comparable(head, entries([second])[0])
    assert not comparable(head, entries([other_seeds])[0])
    assert not comparable(head, entries([other_worlds])[0])


def test_accuracies_are_shown_in_per_cent():
    run = synthetic_run.presets(clients=3)
    of = entries([run])
    assert run.arms["fedavg"].returns.max() <= 1  # what was given stays as it is
    html = tables.summary(of)
    assert '<th scope="col">Average (%)</th>' in html
    final = 100 * run.arms["fedavg"].deployed()[-7:, :, :3].mean(axis=0)
    assert f"<b>{statistics.interquartile_mean(final):.1f}</b>" in html
    assert of[0].run.worlds == {}  # all clients have 800 samples: no fact sets one apart
    few = dataclasses.replace(run, worlds={"size": [800.0, 400.0, 800.0, 0.0]})
    (first, *_) = entries([few])
    assert environment_label(first.run, first.arm, 1) == "client-1 (size 400 samples)"


def test_the_terminal_says_accuracies_too():
    text = summary([synthetic_run.presets(clients=3)])
    assert text.splitlines()[0].split("  ")[-1].strip() == "test set"
    assert "average accuracy" in text
    assert " % [" in text.splitlines()[1]
    assert "return" not in text
    assert len(text.splitlines()) < 30
