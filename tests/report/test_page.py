import dataclasses
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import synthetic_run
from reader import Reader, check_page

from polyfed.report import write_report

FIGURES = [
    "average-and-worst", "average-bytes", "average-steps", "displacement-fedwb", "gains", "held-out-bytes",
    "held-out-seconds", "held-out-steps", "matrix", "worst-bytes", "worst-steps",
]  # fmt: skip
SECTIONS = [
    "verdict", "summary", "target", "curves", "matrix", "worst", "gains", "fusion", "communication", "notes",
    "settings", "again",
]  # fmt: skip


def test_standard_report_is_whole_and_self_contained(report):
    page = check_page(report.html)
    assert [i for i in page.ids if i in SECTIONS] == SECTIONS
    assert "default-src 'none'" in report.html
    assert 'name="viewport"' in report.html
    assert '<html lang="en">' in report.html


def test_every_section_holds_what_it_promises(report):
    words = Reader(report.html).words
    for text in (
        "Three cart-poles of different lengths learn to balance together",
        "Federation (fedwb) helped 1 of 3",
        "client-2 (half length 0.5 m): +",
        "fedwb against fedavg",
        "Held-out",
        "environment steps per client",
        "MB on the wire, all clients",
        "half length (m)",
        "return over learning alone",
        "A bin is one weight’s place",
        "70 kB",
        "5 seeds",
        "learning_rate",
        "0.10.2",
        "polyfed run cartpole-poles --seeds 0-4",
        "Agarwal et al. 2021",
        "95\u00a0%",
    ):
        assert text in words, text
    assert "secret-host" not in words


def test_verdict_comes_before_every_number(report):
    html = report.html
    assert html.index('class="headline"') < html.index('class="tiles"') < html.index("<table") < html.index("<svg")


def test_figures_have_words_for_who_cannot_see_them(report):
    page = Reader(report.html)
    assert [value for tag, name, value in page.attributes if tag == "svg" and name == "role"] == ["img"] * len(FIGURES)
    assert report.html.count("<desc id=") == len(FIGURES)
    scrolling = [
        value for tag, name, value in page.attributes if tag == "div" and name == "class" and "scroll" in value
    ]
    assert report.html.count('class="scroll" role="region" tabindex="0" aria-label=') == len(scrolling)


def test_figures_are_written_as_svg_and_png(report):
    expected = sorted(f"{name}.{ending}" for name in FIGURES for ending in ("svg", "png"))
    assert sorted(path.name for path in report.figures.iterdir()) == expected
    for path in report.figures.glob("*.svg"):
        assert ET.parse(path).getroot().tag.endswith("svg")
        assert "dc:date" not in path.read_text()
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in report.figures.glob("*.png"))


@pytest.mark.slow
def test_the_same_run_gives_the_same_bytes(run, report, tmp_path):
    write_report([run], tmp_path / "demo.html")
    assert (tmp_path / "demo.html").read_bytes() == report.path.read_bytes()
    for path in report.figures.iterdir():
        assert (tmp_path / "demo-figures" / path.name).read_bytes() == path.read_bytes(), path.name


def test_names_from_data_are_escaped(tmp_path):
    evil = ["client-<script>alert(1)</script>", 'client-"onload="x', "client-$a_1$\x1b[2J&"]
    arms = [
        synthetic_run.arm("fedwb", [100, 200, 300], names=evil, points=5, displacement=True),
        synthetic_run.arm("local_only", [100, 100, 300], names=evil, points=5, personal=True),
    ]
    run = synthetic_run.run(arms, name="</title><script>")
    metrics = {**arms[0].metrics, "displacement/<i>layer</i>": arms[0].metrics["displacement/output"]}
    arms[0] = dataclasses.replace(arms[0], metrics=metrics, experiment={"<u>": "</table><script>"})
    run = dataclasses.replace(
        run,
        title="<script>title</script>",
        command="polyfed run '</pre><script>'",
        worlds={"<b>mass</b>": [1.0, 2.0, 3.0, 4.0, 5.0]},
        units={"<b>mass</b>": "<i>"},
        arms={arm.name: arm for arm in arms},
    )
    write_report([run], tmp_path / "evil.html")
    html = (tmp_path / "evil.html").read_text()
    page = check_page(html)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "<b>mass" not in html
    assert "<i>" not in html
    assert "\x1b" not in html
    assert "client-$a_1$[2J&" in page.words
    for path in (tmp_path / "evil-figures").glob("*.svg"):
        ET.parse(path)


def constant(value: float):
    arms = [synthetic_run.arm("fedwb", [1, 2, 3], points=4), synthetic_run.arm("local_only", [1, 2, 3], points=4)]
    return synthetic_run.run([dataclasses.replace(arm, returns=arm.returns * 0 + value) for arm in arms])


def untrained():
    arm = synthetic_run.arm("fedwb", [1, 2, 3], points=4)
    zero = np.zeros(1, int)
    arm = dataclasses.replace(
        arm, metrics={}, experiment={}, rounds=zero, steps=zero, bytes=zero, returns=arm.returns[:1]
    )
    return dataclasses.replace(synthetic_run.run([arm]), worlds={}, units={}, record={}, title="", command="")


def diverged():
    arm = synthetic_run.arm("fedwb", [100, 200, 300], points=4)
    returns = arm.returns.copy()
    returns[-1, 0, 0, 1] = np.nan
    returns[2, 1, 0, 0] = np.inf
    alone = synthetic_run.arm("local_only", [100, 200, 300], points=4, personal=True)
    return synthetic_run.run([dataclasses.replace(arm, returns=returns), alone])


def crowd():
    finals = np.linspace(10, 490, 26)
    arms = [
        synthetic_run.arm("fedwb", finals, points=2),
        synthetic_run.arm("local_only", finals, points=2, personal=True),
    ]
    return synthetic_run.run(arms)


def own_only():
    """Personal arms only, in a data set, with a label split of two clients."""
    run = synthetic_run.presets(clients=2, seeds=2)
    return dataclasses.replace(run, arms={"local_only": run.arms["local_only"]})


def no_test_set():
    arm = synthetic_run.arm("fedavg", [0.9, 0.8], held_out=0, points=4, noise=0.01)
    return dataclasses.replace(synthetic_run.run([arm]), measure="accuracy", label_counts=np.array([[3, 0], [0, 9]]))


CASES = {
    "one seed": (lambda: synthetic_run.standard(seeds=1, points=5), "One seed cannot show whether"),
    "three seeds, one point": (lambda: synthetic_run.standard(seeds=3, points=1), "3 seeds are too few to show"),
    "no baselines": (lambda: synthetic_run.run([synthetic_run.arm("fedwb", [1, 2], points=5)]), "no local_only arm"),
    "baselines only": (
        lambda: synthetic_run.run([synthetic_run.arm("pooled", [1, 2], points=5)]), "there is no federation to judge",
    ),
    "unfinished": (
        lambda: synthetic_run.run([synthetic_run.arm("fedwb", [1], points=3)], status="running"),
        "The status of cartpole-poles is “running”",
    ),
    "no held-out": (
        lambda: synthetic_run.run([synthetic_run.arm("fedwb", [100], held_out=0, points=5)]), "1 client · 5 seeds",
    ),
    "constant": (lambda: constant(500.0), "5 seeds cannot show that federation (fedwb) helped or hurt any client."),
    "all NaN": (lambda: constant(float("nan")), "its returns are not numbers"),
    "untrained": (untrained, "Evaluated before training only."),
    "diverged": (diverged, "for 1 client the returns are not numbers"),
    "own only": (own_only, "On the clients’ own test sets"),
    "no test set": (no_test_set, "Accuracy on unseen samples"),
    "crowd": (crowd, "Of 26 clients, the figure shows 24"),
}  # fmt: skip


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("case", CASES)
def test_odd_runs_are_reported_in_words(case, tmp_path):
    make, text = CASES[case]
    write_report([make()], tmp_path / "odd.html")
    words = check_page((tmp_path / "odd.html").read_text()).words.replace("\u00a0", " ")
    assert text in words
    assert not re.search(r"\bnan\b|\binf\b", words)


@pytest.mark.parametrize("make", [untrained, diverged, lambda: constant(float("nan"))], ids=["0", "some", "all"])
def test_figures_of_what_is_no_number_are_drawn(make, tmp_path):
    write_report([make()], tmp_path / "odd.html")
    check_page((tmp_path / "odd.html").read_text())


@pytest.mark.usefixtures("drawing")
def test_several_runs_stand_side_by_side(run, tmp_path):
    other = synthetic_run.run(
        [
            synthetic_run.arm("fedwb", [300, 320, 200], points=5),
            synthetic_run.arm("local_only", [480, 465, 330], points=5, personal=True),
        ]
    )
    write_report([run, other], tmp_path / "two.html", figures=tmp_path / "pictures")
    html = (tmp_path / "two.html").read_text()
    words = check_page(html).words
    assert "2 runs compared" in words
    for label in ("cartpole-poles 1/fedwb", "cartpole-poles 2/fedwb", "cartpole-poles 2/local_only"):
        assert label in words
    assert "cartpole-poles 1/fedwb against cartpole-poles 2/fedwb" in words
    assert "Federation (fedwb) hurt all 3\u00a0clients" in words
    assert (tmp_path / "pictures" / "matrix-cartpole-poles-2.svg").exists()
    assert not (tmp_path / "two-figures").exists()


def test_nothing_to_report_is_said_in_a_sentence(run, tmp_path):
    for runs in ([], [dataclasses.replace(run, arms={})]):
        with pytest.raises(ValueError, match="There is nothing to report"):
            write_report(runs, tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_missing_matplotlib_is_said_in_a_sentence(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "polyfed\[report\]"'):
        write_report([run], tmp_path / "report.html")


def test_matplotlib_is_loaded_only_to_draw():
    code = "import sys, polyfed.report; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_report_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report([untrained()], path)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["report.html"]
