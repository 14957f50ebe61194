import perturbed_run
from perturbed_run import arm, run

from polyfed.report.arms import entries
from polyfed.report.front_words import about_front, front_sentences
from polyfed.report.robust_scores import benches


def bench_of(made):
    (bench,) = benches(entries([made]))
    return bench


def test_what_is_not_there_is_not_explained():
    assert "order of ω" in about_front(bench_of(perturbed_run.sweep()))
    text = about_front(bench_of(run([arm("a", 450, 50), arm("b", 480, 300)])))
    assert "ω" not in text
    assert "Baselines" not in text
    assert "flatters" not in text


def test_the_front_of_a_sweep_is_told():
    told = front_sentences(bench_of(perturbed_run.sweep()))
    assert told[0].startswith("On average ω = 0 is highest, ")
    assert "; in the worst case ω = 0.5, " in told[0]
    assert told[0].endswith(" and ω = 0.5.")
    assert (
        told[1] == "The intervals of ω = 0 and ω = 0.5 do not overlap on average and do not overlap in the worst case."
    )
    assert told[2].startswith("Paired by seed, ω = 0 minus ω = 0.5: average +")
    assert "(ω = 0 is better); worst case −" in told[2]
    assert told[2].endswith("(ω = 0.5 is better).")


def test_one_seed_tells_nothing_of_intervals():
    told = front_sentences(bench_of(perturbed_run.sweep(seeds=1)))
    assert len(told) == 2
    assert told[1].count("(one seed cannot tell)") == 2


def test_a_front_of_one_arm_is_told():
    told = front_sentences(bench_of(run([arm("good", 450, 50), arm("bad", 300, 100), arm("local_only", 999)])))
    assert told[0].startswith("good is highest both on average, ")
    assert told[1] == "Its interval overlaps that of 0 of 1 other method on average, and of 0 in the worst case."
    told = front_sentences(bench_of(run([arm("good"), arm("local_only", 100)])))
    assert len(told) == 1
    assert told[0].startswith("good is the only method: ")
