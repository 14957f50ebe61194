"""The section on privacy: what each arm guarantees, by whom it was counted, and what so few clients pay."""

import dataclasses
import math
import sys

import pytest
import synthetic_run

from polyfed.exchange import CentralNoise, LocalNoise
from polyfed.exchange.ledger import Guarantee, rounds_within
from polyfed.report import summary
from polyfed.report.arms import entries
from polyfed.report.blocks import Story
from polyfed.report.privacy_section import privacy_section

HELD = CentralNoise(20.0, 0.5, epsilon=4.0)
LAST = rounds_within(HELD, 400, 1)


def private(name, part, rounds, clients=3):
    """An arm with noise after so many rounds."""
    arm = synthetic_run.arm(name, (300, 350, 100))
    found = Guarantee.of(part, rounds=rounds, releases_per_round=1, num_clients=clients)
    return dataclasses.replace(arm, privacy=found, experiment={"num_rounds": 400})


@pytest.fixture(scope="module")
def noisy():
    plain = synthetic_run.arm("fedavg", (300, 350, 100))
    stops = private("stops", HELD, LAST)
    return synthetic_run.run([plain, private("clipped", CentralNoise(0.0, 0.5), 400), stops,
                              private("own_noise", LocalNoise(60.0, 0.5), 400, clients=200)])  # fmt: skip


def test_says_unit_epsilon_delta_and_who_is_trusted(noisy):
    body = privacy_section(Story.of(entries([noisy]))).body
    for text in ("client", "1e-05", "its messages added or removed", "the server", "nobody", "its messages replaced"):
        assert text in body, text
    rows = body[body.index("What is left at which epsilon") :]
    assert rows.index("fedavg") < rows.index("stops") < rows.index("own_noise")  # from no noise to the most
    assert "∞" in rows  # of those that add none


def test_warns_few_clients_with_the_number_and_says_why_an_arm_ended(noisy):
    body = privacy_section(Story.of(entries([noisy]))).body
    assert f"stops: Stopped after {LAST} of 400 rounds: one more would spend epsilon = " in body
    assert "stops: With 3 clients every number of the mean has noise of 6.67 times the clip" in body
    assert "own_noise: With" not in body  # they are many
    assert "clipped: With" not in body  # nothing is hidden


def test_the_bounds_of_the_reference_stand_beside_it(noisy, monkeypatch):
    guarantee = noisy.arms["own_noise"].privacy
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    plain = privacy_section(Story.of(entries([noisy]))).body
    assert f"<b>{guarantee.epsilon:.4g}</b>" in plain  # without the extra it is said, and the bounds are not
    monkeypatch.undo()
    pytest.importorskip("dp_accounting", reason='pip install "polyfed[privacy]"')
    assert f"{guarantee.by('rdp'):.4g}" in privacy_section(Story.of(entries([noisy]))).body


def test_the_console_says_it_too(noisy):
    text = summary([noisy])
    assert f"stops: (epsilon = {noisy.arms['stops'].privacy.epsilon:.4g}, delta = 1e-05)" in text
    assert "clipped: No privacy: messages are clipped to 0.5, without noise." in text
    assert math.isinf(noisy.arms["clipped"].privacy.epsilon)


def test_a_run_without_noise_has_no_such_section(run):
    assert privacy_section(Story.of(entries([run]))) is None
