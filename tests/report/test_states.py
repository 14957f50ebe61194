import dataclasses

import numpy as np
import pytest
import synthetic_run
from reader import Reader, check_page

from polyfed.agents import Distillation
from polyfed.environments.public_states import NeutralStates, UniformStates
from polyfed.environments.state_file import FileStates
from polyfed.exchange import Nothing, Predictions
from polyfed.record import to_data
from polyfed.report import write_report
from polyfed.report.arms import entries
from polyfed.report.blocks import Story
from polyfed.report.states import public_states_section

UNIFORM = np.random.default_rng(0).uniform(-1, 1, (600, 4)).astype(np.float32)
LINE = np.linspace(0, 1, 600)[:, None].astype(np.float32) * np.array([[1, 2, 3, 4]], np.float32)


def arm(name, payload, states=None, sent=0):
    made = synthetic_run.arm(name, (100.0, 200.0), points=5, personal=True, bytes_per_round=sent)
    return dataclasses.replace(made, experiment={**made.experiment, "payload": to_data(payload)}, public_states=states)


def run(*arms, name="cartpole-poles"):
    return synthetic_run.run([*arms, arm("local_only", Nothing())], name=name)


def words(*runs):
    section = public_states_section(Story.of(entries(runs)))
    return None if section is None else Reader(section.body).words.replace("\u00a0", " ")


FEDHPD = arm("fedhpd", Predictions(UniformStates(num=600), Distillation()), UNIFORM, sent=48_000)
OTHER = arm("fedhpd_neutral", Predictions(NeutralStates(num=600), Distillation(refresh="event")), LINE, sent=9_600)


def test_each_arm_is_told_with_its_builder_size_diversity_and_message():
    text = words(run(FEDHPD, OTHER))
    for expected in (
        "600 states uniform between the bounds, 3 where there are none (seed 0)",
        "600 of 20000 states met by acting at random (seed 0)",
        "4.0 of 4",
        "1.0 of 4",
        "4.8 kB, 10 per round",
        "9.6 kB, 1 per round",
    ):
        assert expected in text
    assert "distinct" not in text


def test_states_that_repeat_are_counted_once():
    few = arm("fedhpd", Predictions(UniformStates(num=600)), np.repeat(UNIFORM[:300], 2, axis=0))
    assert "600 (300 distinct)" in words(run(few))


def test_arms_with_the_same_states_share_the_entries():
    again = dataclasses.replace(FEDHPD, name="fedhpd_d10")
    text = words(run(FEDHPD, again))
    assert text.count("600 states uniform") == 2
    assert text.count("Standard deviation") == 1
    assert "·" not in text.partition("Per entry")[2]
    assert words(run(FEDHPD, OTHER)).partition("Per entry")[2].count("·") == 8


def test_a_file_is_named_without_its_folder():
    text = words(run(arm("fedhpd", Predictions(FileStates("/home/somebody/states.npy")), UNIFORM)))
    assert "states from states.npy" in text
    assert "somebody" not in text


def test_without_public_states_there_is_no_section():
    assert words(run(arm("fedavg", Nothing()))) is None


@pytest.mark.usefixtures("drawing")
@pytest.mark.parametrize("runs", [(run(FEDHPD),), (run(FEDHPD), run(OTHER, name="others"))], ids=["one", "two"])
def test_the_page_is_whole(runs, tmp_path):
    write_report(list(runs), tmp_path / "page.html")
    page = check_page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "public-states" in page.ids
