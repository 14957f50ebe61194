"""What a run on a data set found, arm by arm, on the common test set: prints one JSON object.

python docs/results/accuracy.py RUN_FOLDER... [--against fedavg]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from polyfed.evaluation.results import ArmResult, RunResult
from polyfed.evaluation.statistics import Estimate, paired_difference
from polyfed.runs.store import load_run

TARGETS = (0.80, 0.90, 0.95)
ROUNDS = (1, 2, 3, 5, 10, 25)


def per_cent(estimate: Estimate) -> list[float]:
    """`[difference, low, high]` in per cent points."""
    return [round(100 * float(x), 2) for x in (estimate.value, estimate.low, estimate.high)]


def test_accuracy(arm: ArmResult) -> np.ndarray:
    """`[N, S]`: accuracy on the test set of what clients would use, the mean over clients where they differ."""
    return arm.deployed()[..., arm.environments.index("held-out-0")]


def first_reached(rounds: np.ndarray, accuracy: np.ndarray, target: float) -> list[int | None]:
    """Per seed the first evaluated round at or above the target."""
    hit = accuracy >= target
    return [int(rounds[np.argmax(column)]) if column.any() else None for column in hit.T]


def found_by(arm: ArmResult, reference: ArmResult | None) -> dict[str, Any]:
    """Everything about one arm."""
    accuracy, rounds = test_accuracy(arm), np.asarray(arm.rounds)
    seeds = accuracy.shape[1]
    per_round = arm.seconds / max(int(rounds[-1]), 1) / seeds
    found: dict[str, Any] = {
        "accuracy per round, mean over seeds": (100 * accuracy.mean(axis=1)).round(2).tolist(),
        "final accuracy per seed": (100 * accuracy[-1]).round(2).tolist(),
        "seconds per round and seed": round(per_round, 4),
    }
    for target in TARGETS:
        reached = first_reached(rounds, accuracy, target)
        known = sorted(r for r in reached if r is not None)
        found[f"rounds to {target:.0%}"] = {
            "median": known[(seeds - 1) // 2] if len(known) > (seeds - 1) // 2 else None,
            "seeds that reached it": f"{len(known)} of {seeds}",
            "each": reached,
        }
    if reference is not None and reference is not arm:
        other = test_accuracy(reference)
        at = [r for r in ROUNDS if r in rounds]
        found[f"difference to {reference.name}, per cent points [mean, low, high]"] = {
            f"round {r}": per_cent(paired_difference(accuracy[rounds == r][0], other[rounds == r][0])) for r in at
        }
    for name, values in arm.metrics.items():
        kind, _, layer = name.partition("/")
        if kind in ("displacement", "scrambled", "converged", "marginal_error", "moved_units"):
            found.setdefault(f"median {kind} in rounds 1 and last", {})[layer] = [
                float(f"{np.median(values[r]):.3g}") for r in (0, -1)
            ]
    return found


def found_in(run: RunResult, against: str) -> dict[str, Any]:
    """Everything about one run."""
    reference = run.arms.get(against)
    return {
        "command": run.command,
        "seeds": run.record["seeds"],
        "versions": run.record["versions"],
        "arms": {name: found_by(arm, reference) for name, arm in run.arms.items()},
    }


def main() -> None:
    """Reads the run folders named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--against", default="fedavg")
    given = parser.parse_args()
    print(json.dumps([found_in(load_run(folder), given.against) for folder in given.runs], indent=1))


if __name__ == "__main__":
    main()
