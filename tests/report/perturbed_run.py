"""Runs that nobody made, put to a perturbation test, whose every number is known in advance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import synthetic_run

from polyfed.environments import CartPole, Perturbed
from polyfed.evaluation.results import ArmResult, RunResult
from polyfed.record import to_data

TEST = Perturbed(["half_length", ("mass_pole", "mass_cart")], points=5, num_joint=6)


def arm(
    name: str,
    level: float = 400.0,
    slope: float = 200.0,
    *,
    test: Perturbed = TEST,
    seeds: int = 5,
    clients: int = 3,
    noise: float = 8.0,
    omega: Any = None,
    personal: bool = False,
) -> ArmResult:
    """An arm whose return in a test world is `level - slope * sum |x|`, with noise over seeds."""
    made = synthetic_run.arm(
        name, [level] * clients, seeds=seeds, points=9, held_out=test.num_worlds, personal=personal, noise=noise
    )
    generator = np.random.default_rng(sum(map(ord, name)))
    held_out = level - slope * np.abs(test.perturbations).sum(axis=1)
    scores = (
        held_out + noise * generator.normal(size=(seeds, 1)) + noise * generator.normal(size=(seeds, len(held_out)))
    )
    returns = made.returns.copy()
    shift = 10.0 * np.arange(len(made.policies))[:, None] if personal else 0.0
    returns[..., clients:] = np.where(made.rounds[:, None, None, None] == 0, 10.0, scores[None, :, None, :] - shift)
    agent = {"name": "DQN"} | ({} if omega is None else {"worst_case": {"omega": omega, "tau": 0.01}})
    experiment = {
        "environment": to_data(CartPole()),
        "agent": agent,
        "evaluation": {"every": 10, "held_out": to_data(test), "num_held_out": test.num_worlds},
    }
    return dataclasses.replace(made, returns=returns, experiment=experiment)


def run(arms: Sequence[ArmResult], test: Perturbed = TEST, name: str = "fedrdqn-cartpole") -> RunResult:
    """A run with these arms, whose clients live at half lengths 0.3, 0.5 and 0.6 m."""
    made = synthetic_run.run(arms, name=name)
    clients = len([one for one in arms[0].environments if one.startswith("client")])
    own = {"half_length": [0.3, 0.5, 0.6, *[0.5] * clients][:clients]}
    nominal = {"half_length": 0.5, "mass_pole": 0.1, "mass_cart": 1.0, "force": 10.0}
    tested = test.worlds(CartPole(), test.num_worlds)
    worlds = {key: [*own.get(key, [nominal[key]] * clients), *map(float, row)] for key, row in tested.items()}
    return dataclasses.replace(
        made,
        title="Cart-poles, tested",
        worlds=worlds,
        units={"half_length": "m", "mass_pole": "kg", "mass_cart": "kg"},
    )


def sweep(seeds: int = 5, omegas: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7)) -> RunResult:
    """Six values of omega that trade the average for the worst case, beside the baselines; 0.7 is too much."""
    arms = [
        arm(f"omega_{10 * omega:02.0f}", 460 - 330 * omega, 500 - 700 * min(omega, 0.5),
            omega=omega, seeds=seeds)
        for omega in omegas
    ]  # fmt: skip
    return run([*arms, arm("local_only", 330, 400, seeds=seeds, omega=0.2, personal=True),
                arm("pooled", 450, 380, seeds=seeds, omega=0.2)])  # fmt: skip


def plain(seeds: int = 5) -> RunResult:
    """A robust method, one that is better on average alone, and learning alone."""
    return run([
        arm("fedrdqn", 420, 120, seeds=seeds, omega=0.2), arm("dqnavg", 460, 350, seeds=seeds),
        arm("local_only", 330, 400, seeds=seeds, personal=True),
    ])  # fmt: skip
