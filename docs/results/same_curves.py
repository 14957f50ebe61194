"""Whether two runs of one experiment, of different seeds, have the same learning curve: figures as JSON, and a table.

    python docs/results/same_curves.py docs/results/data/gymnasium-cartpole RUN OTHER_RUN

writes `gymnasium-cartpole.json` and `gymnasium-cartpole.md` there. At every evaluation the mean over the clients' own
worlds is compared between the seeds of both runs: the difference of the means, with a 95 % interval by the bootstrap
(seeds resampled within each run). For the whole curve there is one permutation test: of the largest difference over
evaluations, in standard errors, among 10,000 ways of dealing the seeds to the two runs (Westfall and Young 1993), so
that it does not matter how many evaluations there are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from polyfed.evaluation.results import ArmResult
from polyfed.runs.store import load_run

DEALS = 10_000


def curve(arm: ArmResult) -> np.ndarray:
    """`[R, S]`: mean over the clients' own worlds, after the first round."""
    own = np.array([name.startswith("client") for name in arm.environments])
    return arm.deployed()[:, :, own].mean(axis=2)[arm.rounds > 0]


def largest_gap(first: np.ndarray, second: np.ndarray) -> float:
    """The largest difference of means over evaluations, in standard errors; curves `[R, S]`."""
    error = np.sqrt(first.var(axis=1, ddof=1) / first.shape[1] + second.var(axis=1, ddof=1) / second.shape[1])
    return float(np.max(np.abs(first.mean(axis=1) - second.mean(axis=1)) / np.maximum(error, 1e-9)))


def chance_of_gap(first: np.ndarray, second: np.ndarray, draws: np.random.Generator) -> float:
    """How often seeds dealt at random to the two runs are further apart than they are."""
    both, size = np.concatenate([first, second], axis=1), first.shape[1]
    found, further = largest_gap(first, second), 0
    for _ in range(DEALS):
        dealt = draws.permutation(both.shape[1])
        further += largest_gap(both[:, dealt[:size]], both[:, dealt[size:]]) >= found
    return (further + 1) / (DEALS + 1)


def interval(first: np.ndarray, second: np.ndarray, draws: np.random.Generator) -> tuple[float, float]:
    """Of the difference of the means of two samples of seeds."""
    means = [x[draws.integers(0, len(x), (DEALS, len(x)))].mean(axis=1) for x in (first, second)]
    low, high = np.quantile(means[0] - means[1], [0.025, 0.975])
    return float(low), float(high)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="file without its ending")
    parser.add_argument("runs", type=Path, nargs=2)
    options = parser.parse_args()
    arms = [next(iter(load_run(path).arms.values())) for path in options.runs]
    first, second = map(curve, arms)
    rounds, draws = arms[0].rounds[arms[0].rounds > 0], np.random.default_rng(0)
    rows = [
        {"round": int(r), "means": [float(a.mean()), float(b.mean())], "difference": interval(a, b, draws)}
        for r, a, b in zip(rounds, first, second, strict=True)
    ]
    p = chance_of_gap(first, second, draws)
    names = [path.parent.name for path in options.runs]
    figures = {"runs": names, "seeds": [x.shape[1] for x in (first, second)], "p": p, "rows": rows}
    options.out.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n")
    lines = [f"| round | `{names[0]}` | `{names[1]}` | difference of the means |", "|---|--:|--:|--:|"]
    for row, a, b in zip(rows, first, second, strict=True):
        low, high = row["difference"]
        gap = f"{a.mean() - b.mean():+.0f} [{low:.0f}, {high:.0f}]".replace("-", "−")
        lines.append(
            f"| {row['round']} | {a.mean():.0f} ± {a.std(ddof=1):.0f} | {b.mean():.0f} ± {b.std(ddof=1):.0f} | {gap} |"
        )
    told = f"Permutation test of the whole curve: p = {p:.2f} ({first.shape[1]} and {second.shape[1]} seeds)."
    options.out.with_suffix(".md").write_text("\n".join([*lines, "", told, ""]))
    print(told)


if __name__ == "__main__":
    main()
