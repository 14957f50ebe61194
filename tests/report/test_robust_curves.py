import dataclasses

import numpy as np
import perturbed_run
from perturbed_run import arm, run
from test_figures import texts

from polyfed.environments import Perturbed
from polyfed.report import figures
from polyfed.report.arms import entries
from polyfed.report.robust_curves import client_changes, nominal_values, perturbation_curve
from polyfed.report.robust_scores import benches


def drawn(made, group="half_length"):
    of = entries([made])
    (bench,) = benches(of)
    return bench, perturbation_curve(bench, figures.styles(of), group, "robust")


def test_the_figure_names_the_nominal_world_the_changes_and_the_clients():
    bench, drawing = drawn(perturbed_run.plain())
    shown = texts(drawing)
    for text in ("Return against half length", "−50 %", "−25 %", "nominal", "+25 %", "+50 %", "fedrdqn",
                 "clients’ worlds", "change of half length (nominal: 0.5 m)"):  # fmt: skip
        assert text in shown, text
    assert "fedrdqn: at −50 % 3" in drawing.description
    np.testing.assert_allclose(client_changes(bench, "half_length"), [-0.4, 0.0, 0.2], atol=1e-12)
    np.testing.assert_allclose(client_changes(bench, "mass_pole+mass_cart"), 0.0, atol=1e-12)


def test_clients_beyond_the_grid_have_no_tick():
    test = Perturbed("half_length", rho=0.25, points=3, num_joint=1)
    bench, drawing = drawn(run([arm("fedavg", test=test)], test))
    np.testing.assert_allclose(client_changes(bench, "half_length"), [0.0, 0.2], atol=1e-12)
    assert "−12.5 %" in texts(drawing)


def test_a_group_is_named_with_its_values_where_there_is_room():
    bench, drawing = drawn(perturbed_run.plain(), "mass_pole+mass_cart")
    assert nominal_values(bench, "mass_pole+mass_cart") == "0.1 kg and 1 kg"
    assert "change of mass pole + mass cart" in texts(drawing)


def test_worlds_that_were_not_recorded_are_not_needed():
    bench, drawing = drawn(dataclasses.replace(perturbed_run.plain(), worlds={}))
    assert nominal_values(bench, "half_length") == ""
    assert "clients’ worlds" not in texts(drawing)


def test_worlds_that_every_seed_draws_anew_have_no_tick():
    made = perturbed_run.plain()
    made.worlds["half_length"][:3] = [np.nan] * 3
    bench, drawing = drawn(made)
    assert len(client_changes(bench, "half_length")) == 0
    assert nominal_values(bench, "half_length") == "0.5 m"
    assert bench.worlds_of_clients() == 0
    assert "clients’ worlds" not in texts(drawing)


def test_scores_that_are_no_numbers_and_many_arms_can_be_drawn():
    arms = [arm(f"m{i}", seeds=1) for i in range(10)]
    arms[3] = dataclasses.replace(arms[3], returns=arms[3].returns * np.nan)
    _, drawing = drawn(run(arms))
    assert drawing.width > figures.WIDTH * 1.2
