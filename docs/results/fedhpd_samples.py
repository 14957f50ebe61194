"""How many samples the agents of a fleet need until they are good, in runs that distil more or less often.

    python docs/results/fedhpd_samples.py docs/results/data/fedhpd-sample-cost every=runs/A/arms/fedhpd_d1 ...

takes arms by name, complete or not, and writes `fedhpd-sample-cost.json` and `.md` there. The level is one of the mean
over agents of the training return, smoothed over 50 episodes; the samples are environment steps up to there,
the mean over agents. Differences are paired by seed: to the arm before and to the last.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from polyfed.evaluation.statistics import paired_difference

WINDOW = 50  # episodes
COUNTS = ("return", "steps", "episodes")


def logged(arm: Path) -> dict[str, np.ndarray]:
    """Of an arm's `metrics.jsonl`, `[R, S, C]` each."""
    rows = [json.loads(line) for line in (arm / "metrics.jsonl").read_text().splitlines()]
    seeds = len({row["seed"] for row in rows})
    num = len(rows) // seeds * seeds
    column = lambda name: np.array([row["clients"][name] for row in rows[:num]], float)  # noqa: E731
    return {name: column(name).reshape(-1, seeds, len(rows[0]["clients"][name])) for name in COUNTS}


def until(arm: dict[str, np.ndarray], level: float) -> tuple[np.ndarray, np.ndarray]:
    """Episodes and environment steps per agent until the smoothed mean reaches the level, `[S]`; NaN: never."""
    per_round = int(arm["episodes"].flat[0])
    width = WINDOW // per_round
    mean = arm["return"].mean(axis=2)
    smooth = np.stack([mean[i : i + width].mean(axis=0) for i in range(len(mean) - width + 1)])
    rounds = np.where((smooth >= level).any(axis=0), np.argmax(smooth >= level, axis=0) + width, 0)
    lived = np.concatenate([np.zeros((1, mean.shape[1])), np.cumsum(arm["steps"].mean(axis=2), axis=0)])
    reached = rounds > 0
    steps = np.where(reached, np.take_along_axis(lived, rounds[None], axis=0)[0], np.nan)
    return np.where(reached, rounds * per_round, np.nan), steps


def difference(steps: np.ndarray, other: np.ndarray) -> str:
    """Mean over seeds with its 95 % interval, bold where that leaves out zero; empty where there is none."""
    if steps is other or np.isnan([steps, other]).any():
        return ""
    estimate = paired_difference(steps[None], other[None])
    low, high = float(estimate.low[0]), float(estimate.high[0])
    text = f"{float(estimate.value[0]):+.0f} [{low:.0f}, {high:.0f}]".replace("-", "−")
    return f"**{text}**" if low > 0 or high < 0 else text


def main() -> None:
    """Write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("arms", nargs="+", help="name=folder, most frequent distillation first")
    parser.add_argument("--levels", type=float, nargs="+", default=[200.0, 300.0])
    options = parser.parse_args()
    arms = {name: logged(Path(folder)) for name, _, folder in (arm.partition("=") for arm in options.arms)}
    head = "| level | distillation | episodes | steps, thousands | − the row above | − the last row |"
    found, lines = {}, [head, "|--:|---|--:|--:|--:|--:|"]
    for level in options.levels:
        costs = {name: until(arm, level) for name, arm in arms.items()}
        thousands = {name: steps / 1000 for name, (_, steps) in costs.items()}
        names = list(arms)
        for name, before in zip(names, [None, *names[:-1]], strict=True):
            episodes, steps = costs[name][0], thousands[name]
            found[f"{name}@{level:g}"] = {"episodes": episodes.tolist(), "thousand_steps": steps.tolist()}
            spread = f"{steps.mean():.0f} ({', '.join(f'{x:.0f}' for x in steps)})"
            gaps = [difference(steps, thousands[other]) if other else "" for other in (before, names[-1])]
            lines.append(f"| {level:g} | {name} | {episodes.mean():,.0f} | {spread} | {' | '.join(gaps)} |")
    options.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
