"""Noise that a site adds by itself: drawn once for an exchange, kept, and not worn away by asking again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from polyfed import recipes
from polyfed.agents import Distillation
from polyfed.deployment.answer import opened
from polyfed.deployment.loopback import Loopback
from polyfed.deployment.member import Member, identity
from polyfed.deployment.remote import Remote
from polyfed.deployment.resident import Greeting, Resident
from polyfed.deployment.terms import Terms
from polyfed.environments import UniformStates
from polyfed.exchange import ClipNorm, LocalNoise, Predictions
from polyfed.exchange.wire import Envelope, pack, unpack
from polyfed.experiment import Experiment
from polyfed.record import to_data
from polyfed.simulation.simulate import Simulation

NAMES = ("client-0", "client-1", "client-2")
NOISE = LocalNoise(noise_multiplier=1.0, max_norm=0.5)


def silent(experiment: Experiment) -> Experiment:
    """Without scores of what each client has learned."""
    return dataclasses.replace(experiment, evaluation=dataclasses.replace(experiment.evaluation, own=False))


@pytest.fixture(scope="module")
def noisy(tiny: Callable[..., Experiment], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A site that adds noise and was asked once; its folder, the greeting, a way to ask it, and its answer."""
    experiment, folder = silent(tiny(transforms=(ClipNorm(1.0), NOISE), num_rounds=3)), tmp_path_factory.mktemp("site")
    greeting = Greeting(to_data(experiment), identity(experiment, 0), 0, "run", 1, "client-1")
    site, member = Resident("client-1", folder), Member(experiment, 0, 1)
    assert site.answer("hello", greeting.pack())[:1] == b"+"

    def message(number: int, beside: float = 0.0) -> bytes:
        leaves = [x + np.float32(beside) for x in jax.tree.leaves(member.form)]
        return pack(Envelope(greeting.digest, "run", number, "server"), member.payload_form, leaves)

    answer = site.answer("round", message(1))
    assert answer[:1] == b"+", answer
    return folder, greeting, site, message, answer, member


def test_asked_again_it_sends_the_same_noise_and_so_after_it_was_killed(noisy: Any) -> None:
    folder, greeting, site, message, answer, _ = noisy
    assert site.answer("round", message(1)) == answer
    again = Resident("client-1", folder)
    assert json.loads(opened(again.answer("hello", greeting.pack()), 1)[0])["done"] == 1
    assert again.answer("round", message(1)) == answer


def test_a_server_that_asks_on_another_message_gets_no_second_noise(noisy: Any) -> None:
    _, _, site, message, answer, _ = noisy
    other = site.answer("round", message(1, 0.25))
    assert other.startswith(b"-")
    assert b"spend its privacy twice" in other
    assert site.answer("round", message(1)) == answer


def test_a_server_that_goes_on_beyond_the_last_round_gets_nothing(noisy: Any) -> None:
    _, _, site, message, _, _ = noisy
    other = site.answer("round", message(4))
    assert other.startswith(b"-")
    assert b"exchange 4, and the experiment allows its privacy 3" in other


def test_its_figures_do_not_tell_what_the_noise_hides(noisy: Any) -> None:
    _, _, _, _, answer, member = noisy
    weights, figures = opened(answer, 2)
    _, arrays = unpack(figures, member.metrics_form)
    assert all(np.isnan(x) if x.dtype.kind == "f" else x == 0 for x in arrays.values())
    _, sent = unpack(weights, member.sent_form)
    assert np.std(np.concatenate([x.ravel() for x in sent.values()])) == pytest.approx(0.5, rel=0.2)


@pytest.mark.slow
def test_a_deployment_with_noise_of_sites_counts_what_is_spent(tiny: Callable[..., Experiment]) -> None:
    experiment = silent(tiny(transforms=(NOISE,), num_rounds=2))
    people = {name: Resident(name).answer for name in NAMES}
    simulation = Simulation(
        experiment, (0,), afar=lambda s: Remote(s, Loopback(people), "run", terms=Terms(pause_s=0.0))
    )
    federation, metrics = simulation.advance(simulation.init(), 2)
    assert metrics["weight"][:, 0].tolist() == [[1.0] * 3] * 2
    expected = [experiment.guarantee(rounds).epsilon for rounds in (1, 2)]  # type: ignore[union-attr]
    np.testing.assert_allclose(metrics["epsilon"][:, 0], expected)
    assert np.isfinite(simulation.evaluate(federation)).all()
    assert simulation.told() == ""


@pytest.mark.slow
@pytest.mark.parametrize("noise_multiplier", [0.0, 0.5])
def test_predictions_are_clipped_and_noised_at_the_site(
    tiny: Callable[..., Experiment], noise_multiplier: float
) -> None:
    """Without noise they are those of the simulation, to rounding: a length is added up in another order."""
    payload = Predictions(
        UniformStates(num=8), Distillation(payload="probabilities", refresh="event", chunks=2, repetitions=1)
    )
    noise = LocalNoise(noise_multiplier, max_norm=0.2)
    experiment = dataclasses.replace(recipes.fedhpd(tiny(payload=payload, num_rounds=2)), transforms=(noise,))
    people = {name: Resident(name).answer for name in NAMES}
    remote = Simulation(experiment, (0,), afar=lambda s: Remote(s, Loopback(people), "run", terms=Terms(pause_s=0.0)))
    federation, metrics = remote.advance(remote.init(), 2)
    consensus = jax.tree.leaves(federation.server.broadcast)[0]
    np.testing.assert_allclose(np.sum(consensus, axis=-1), 1.0, rtol=1e-5)
    assert metrics["weight"][:, 0].tolist() == [[1.0] * 3] * 2
    if noise_multiplier == 0:
        simulated = Simulation(experiment, (0,))
        other, _ = simulated.advance(simulated.init(), 2)
        np.testing.assert_allclose(consensus, jax.tree.leaves(other.server.broadcast)[0], rtol=1e-5)
