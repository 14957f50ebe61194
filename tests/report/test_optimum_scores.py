import dataclasses

import numpy as np
import optimum_run
import pytest
import synthetic_run

from polyfed.evaluation import statistics
from polyfed.report.arms import entries
from polyfed.report.optimum_scores import in_words, standing
from polyfed.report.summary import summary
from polyfed.report.verdict import verdict


def test_scores_are_those_of_a_naive_loop():
    of = entries([optimum_run.run()])
    found, yardstick = standing(of), of[0].run.yardstick
    for entry, scores in found.arms:
        final = statistics.final_window(entry.arm.rounds, entry.arm.deployed())
        for s in range(5):
            for m in range(5):
                floor, best = yardstick.baselines["nothing"][0, m], yardstick.optimum[0, m]
                assert scores[s, m] == pytest.approx(100 * (final[s, m] - floor) / (best - floor))
        means = np.sort([np.mean([scores[s, m] for m in range(3)]) for s in range(5)])
        worst = np.sort([min(scores[s, m] for m in range(3)) for s in range(5)])
        assert float(found.average(scores).value) == pytest.approx(means[1:-1].mean())
        assert float(found.worst_case(scores).value) == pytest.approx(worst[1:-1].mean())
        held_out = np.sort(scores[:, 3:].mean(axis=1))
        assert float(found.on_held_out(scores).value) == pytest.approx(held_out[1:-1].mean())
    assert list(found.rules) == ["LRU", "Belady"]
    assert float(found.average(found.rules["LRU"]).value) == 50.0
    assert not found.average(found.rules["LRU"]).has_interval


def test_rules_vary_with_the_seed_where_the_fleets_do():
    found = standing(entries([optimum_run.run(fleets=5)]))
    assert found.rules["LRU"].shape == (5, 5)
    assert found.average(found.rules["LRU"]).has_interval


def test_a_client_with_nothing_to_gain_is_in_no_average():
    run = optimum_run.run()
    optimum = run.yardstick.optimum.copy()
    optimum[0, [1, 4]] = run.yardstick.baselines["nothing"][0, [1, 4]]
    run = dataclasses.replace(run, yardstick=dataclasses.replace(run.yardstick, optimum=optimum))
    found = standing(entries([run]))
    assert (found.clients, found.held_out, found.idle) == ([0, 2], [3], 2)
    assert all(np.isfinite(found.average(scores).value) for _, scores in found.arms)
    flat = dataclasses.replace(run.yardstick, optimum=run.yardstick.baselines["nothing"])
    assert standing(entries([dataclasses.replace(run, yardstick=flat)])) is None


def test_without_held_out_environments_there_is_no_such_number():
    run = optimum_run.run(held_out=0)
    found = standing(entries([run]))
    assert found.on_held_out(found.arms[0][1]) is None


def test_one_sentence_says_where_all_stand():
    run = optimum_run.run()
    sentence = in_words(standing(entries([run])))
    assert sentence.startswith(
        "On the way from nothing (0 %) to the optimum of the same episodes (100 %), the average "
    )
    for text in ("fedavg 93.0 % [", "local_only 86.5 % [", "known rules: LRU 50.0 % and Belady 95.0 %."):
        assert text in sentence
    assert verdict(entries([run])).standing == sentence
    assert sentence in summary([run])
    alone = synthetic_run.run([run.arms["local_only"]])
    assert "known rules" in verdict(entries([dataclasses.replace(alone, yardstick=run.yardstick)])).standing


def test_runs_without_an_optimum_say_nothing_of_it():
    plain = synthetic_run.standard(points=3)
    assert standing(entries([plain])) is None
    assert verdict(entries([plain])).standing == ""
    assert "optimum" not in summary([plain])
