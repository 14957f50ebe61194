"""What runs on a data set found on the common test set: figures as JSON, and the tables and pictures of a results page.

    python docs/results/accuracy.py docs/results/data/mnist-two-agents runs/mnist-two-agents/*

writes `mnist-two-agents.json` and `mnist-two-agents.md` there, and the pictures into `docs/results/figures`.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from polyfed.evaluation.results import ArmResult, RunResult
from polyfed.evaluation.statistics import Estimate, first_reach, paired_difference
from polyfed.runs.store import load_run

TARGETS = (0.80, 0.90, 0.95)
ROUNDS = (1, 2, 3, 5, 10, 15, 25)
PICTURES = ("held-out-steps", "held-out-seconds", "split")
REPORTED = ("displacement", "scrambled", "converged", "marginal_error", "moved_units")


def per_cent(estimate: Estimate) -> list[float]:
    """`[value, low, high]` in per cent, or in percentage points for a difference."""
    return [round(100 * float(x), 2) for x in (estimate.value, estimate.low, estimate.high)]


def shown(numbers: list[float], sign: bool = False) -> str:
    """`[value, low, high]` as a reader sees it."""
    text = f"{numbers[0]:+.1f}" if sign else f"{numbers[0]:.1f}"
    return f"{text} [{numbers[1]:.1f}, {numbers[2]:.1f}]".replace("-", "−")


def test_accuracy(arm: ArmResult) -> np.ndarray:
    """`[N, S]`: accuracy on the test set of what clients would use, the mean over clients where they differ."""
    return arm.deployed()[..., arm.environments.index("held-out-0")]


def own_accuracy(arm: ArmResult) -> np.ndarray | None:
    """`[S]`: last accuracy on the test set of the clients' own networks, the mean; None where they were not judged."""
    rows = [i for i, policy in enumerate(arm.policies) if policy.startswith("client-")]
    column = arm.environments.index("held-out-0")
    return arm.returns[-1][:, rows, column].mean(axis=1) if rows else None


def mean_over_seeds(values: np.ndarray) -> Estimate:
    """The mean of `[S]` with the interval that a difference to zero has."""
    return paired_difference(values, np.zeros_like(values))


def reached(arm: ArmResult, target: float) -> dict[str, Any]:
    """Median over seeds of the first evaluated round at or above a target; None where fewer than half get there."""
    rounds = sorted(first_reach(np.asarray(arm.rounds), test_accuracy(arm), target).tolist())
    middle = rounds[(len(rounds) - 1) // 2]
    return {
        "median": None if math.isinf(middle) else int(middle),
        "each": [None if math.isinf(r) else int(r) for r in rounds],
    }


def found_by(arm: ArmResult, arms: dict[str, ArmResult], against: str) -> dict[str, Any]:
    """Everything about one arm."""
    reference = arms.get(against)
    accuracy, rounds = test_accuracy(arm), np.asarray(arm.rounds)
    at = [r for r in dict.fromkeys((*ROUNDS, int(rounds[-1]))) if r in rounds]
    found: dict[str, Any] = {
        "accuracy": {str(r): per_cent(mean_over_seeds(accuracy[rounds == r][0])) for r in at},
        "accuracy before training": per_cent(mean_over_seeds(accuracy[0])),
        "accuracy per round, mean over seeds": (100 * accuracy.mean(axis=1)).round(2).tolist(),
        "seconds per round and seed": round(arm.seconds / max(int(rounds[-1]), 1) / accuracy.shape[1], 4),
        "rounds to": {f"{target:.0%}": reached(arm, target) for target in TARGETS},
    }
    if reference is not None and reference is not arm:
        other = test_accuracy(reference)
        found[f"minus {reference.name}"] = {
            str(r): per_cent(paired_difference(accuracy[rounds == r][0], other[rounds == r][0])) for r in at
        }
    if (own := own_accuracy(arm)) is not None:
        found["own networks, last accuracy"] = per_cent(mean_over_seeds(own))
        if (alone := arms.get("local_only")) is not None and alone is not arm:
            found["own networks, last accuracy, minus local_only"] = per_cent(
                paired_difference(own, own_accuracy(alone))
            )
    for name, values in arm.metrics.items():
        kind, _, layer = name.partition("/")
        if kind in REPORTED and np.isfinite(values).any():
            found.setdefault(f"median {kind}", {})[layer] = float(f"{np.nanmedian(values):.3g}")
    if "then" in arm.metrics:
        found["last round of the first rule, per seed"] = (arm.metrics["then"] == 0).sum(axis=0).tolist()
    return found


def table(run: dict[str, Any], against: str) -> list[str]:
    """The arms of a run as rows of Markdown."""
    arms = run["arms"]
    rounds = list(next(iter(arms.values()))["accuracy"])
    columns = [r for r in rounds if int(r) in (1, 2, 5, 10) or r == rounds[-1]]
    lines = [
        "| arm | "
        + " | ".join(f"round {r}" for r in columns)
        + f" | last − {against} | rounds to 90 % | to 95 % | s per round |",
        "|---|" + "---|" * (len(columns) + 1) + "--:|--:|--:|",
    ]
    for name, found in arms.items():
        cells = [shown(found["accuracy"][r]) if r == columns[-1] else f"{found['accuracy'][r][0]:.1f}" for r in columns]
        difference = found.get(f"minus {against}", {}).get(columns[-1])
        cells.append("" if difference is None else shown(difference, sign=True))
        for target in ("90%", "95%"):
            median = found["rounds to"][target]["median"]
            cells.append("–" if median is None else str(median))
        lines.append(f"| `{name}` | " + " | ".join([*cells, f"{found['seconds per round and seed']:.2g}"]) + " |")
    return lines


def found_in(run: RunResult, against: str) -> dict[str, Any]:
    """Everything about one run."""
    return {
        "command": run.command,
        "seeds": run.record["seeds"],
        "versions": run.record["versions"],
        "arms": {name: found_by(arm, run.arms, against) for name, arm in run.arms.items()},
    }


def main() -> None:
    """Writes the files of one page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--against", default="fedavg")
    given = parser.parse_args()
    found = [found_in(load_run(folder), given.against) for folder in given.runs]
    given.page.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    lines = []
    for run in found:
        lines += [f"`{run['command']}`", "", *table(run, given.against), ""]
    given.page.with_suffix(".md").write_text("\n".join(lines))
    for number, folder in enumerate(given.runs, start=1):
        for picture in PICTURES:
            source = folder / "figures" / f"{picture}.svg"
            name = given.page.name if len(given.runs) == 1 else f"{given.page.name}-{number}"
            if source.is_file():
                shutil.copyfile(source, Path("docs/results/figures") / f"{name}-{picture}.svg")


if __name__ == "__main__":
    main()
