import re

import pytest
import synthetic_run
from reader import check_page

from polyfed.report import write_report

SECTIONS = [
    "verdict", "summary", "target", "curves", "split", "matrix", "worst", "gains", "fusion", "communication", "notes",
    "settings", "again",
]  # fmt: skip


@pytest.mark.slow
def test_a_run_on_a_data_set_is_told_in_accuracies(tmp_path):
    write_report([synthetic_run.presets()], tmp_path / "digits.html")
    html = (tmp_path / "digits.html").read_text()
    page = check_page(html)
    assert [i for i in page.ids if i in SECTIONS] == SECTIONS
    words = page.words.replace("\u00a0", " ")
    for text in (
        "10 clients and 1 test set",
        "Differences in final accuracy in percentage points",
        "Average accuracy",
        "95.2 %",
        "Test set (%)",
        "Accuracy on the common test set (%)",
        "samples per client",
        "run time of a seed (s)",
        "Model × test set",
        "accuracy (points) over learning alone",
        "A client has 800 samples",
        "of 5 seeds",
        "not reached in 25",
        "What the fusion did",
        "classifies as labelled",
    ):
        assert text in words, text
    assert not re.search(r"\breturns?\b|greedy|policy|policies|held-out|environment|\bnan\b", words)
    assert sorted(path.stem for path in (tmp_path / "digits-figures").glob("*.svg")) == [
        "average-and-worst",
        "average-steps",
        *[f"displacement-{name}" for name in ("fedwb", "fedwb-lp", "fedwb-paper", "fedwb-paper-exact", "fedwb-value")],
        "displacement-geometric-mean",
        "displacement-hybrid-stalled",
        "gains",
        "held-out-bytes",
        "held-out-seconds",
        "held-out-steps",
        "matrix",
        "split",
        "worst-steps",
    ]


def test_returns_and_accuracies_do_not_share_a_page(run, tmp_path):
    with pytest.raises(ValueError, match="measure return and accuracy, which cannot stand on one axis"):
        write_report([run, synthetic_run.presets()], tmp_path / "both.html")
