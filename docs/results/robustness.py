"""What runs with a perturbation test found, in average and worst case: figures as JSON, a table for a results page.

    python docs/results/robustness.py docs/results/data/fedrdqn-cartpole dqnavg runs/fedrdqn-cartpole/*

writes `fedrdqn-cartpole.json` and `fedrdqn-cartpole.md` there, with differences to the arm `dqnavg`, and copies the
picture of the front of every run into `docs/results/figures`.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from polyfed.evaluation.statistics import Estimate, early_window, estimate_iqm, paired_difference
from polyfed.report.arms import entries
from polyfed.report.robust_scores import Bench, Judged, benches, differences
from polyfed.runs.store import load_run

FIGURES = Path(__file__).parent / "figures"


def plain(estimate: Estimate) -> list[float]:
    """`[value, low, high]`."""
    return [round(float(x), 2) for x in (estimate.value, estimate.low, estimate.high)]


def shown(numbers: list[float], sign: bool = False) -> str:
    """`[value, low, high]` as a reader sees it; a difference whose interval leaves out zero is bold."""
    text = f"{numbers[0]:+.0f}" if sign else f"{numbers[0]:.0f}"
    text = f"{text} [{numbers[1]:.0f}, {numbers[2]:.0f}]".replace("-", "−")
    return f"**{text}**" if sign and numbers[1] * numbers[2] > 0 else text


def found_by(bench: Bench, arm: Judged, reference: Judged | None) -> dict[str, Any]:
    """Average and worst case over every set of test worlds, and what the reference had less."""
    found: dict[str, Any] = {}
    found["early"] = early(bench, arm, reference)
    for name, places in bench.sets.items():
        found[name] = {"average": plain(arm.average(places)), "worst case": plain(arm.worst_case(places))}
        if reference is not None and reference is not arm:
            pair = differences(arm, reference, places)
            found[name]["minus reference"] = dict(zip(("average", "worst case"), map(plain, pair), strict=True))
    return found


def early(bench: Bench, arm: Judged, reference: Judged | None) -> dict[str, Any]:
    """Average and worst case over all test worlds in the first quarter of the evaluation points."""
    found = {}
    for kind, worst in (("average", False), ("worst case", True)):
        own = early_scores(arm, worst)
        found[kind] = plain(estimate_iqm(own[:, None]))
        if reference is not None and reference is not arm:
            found[f"{kind} minus reference"] = plain(paired_difference(own, early_scores(reference, worst)))
    return found


def early_scores(arm: Judged, worst: bool) -> np.ndarray:
    """`[S]`: mean over policies of the mean, or of the least, score over the test worlds, early in training."""
    result = arm.entry.arm
    policies = [i for i, name in enumerate(result.policies) if (name != "global") == result.personal]
    scores = early_window(result.rounds, result.returns)[:, policies][:, :, arm.entry.held_out_columns]
    return (scores.min(axis=2) if worst else scores.mean(axis=2)).mean(axis=1)


def rows(title: str, arms: dict[str, Any], own: str) -> list[str]:
    """One row per arm: the test worlds of the quantity that varied in training, and all of them."""
    lines = []
    for name, found in arms.items():
        cells = []
        for where in (own, "all test worlds"):
            at, minus = found[where], found[where].get("minus reference")
            for kind in ("average", "worst case"):
                cells += [shown(at[kind]), "" if minus is None else shown(minus[kind], sign=True)]
        for kind in ("average", "worst case"):
            minus = found["early"].get(f"{kind} minus reference")
            cells.append("" if minus is None else shown(minus, sign=True))
        lines.append(f"| {title} | `{name}` | " + " | ".join(cells) + " |")
        title = ""
    return lines


def read(folder: Path, against: str) -> dict[str, Any]:
    """Everything about one run."""
    run = load_run(folder)
    (bench,) = benches(entries([run]))
    arms = {judged.entry.arm.name: judged for judged in bench.arms}
    data = next(iter(run.arms.values())).experiment
    varied = " + ".join(g.replace("_", " ").replace("+", " + ") for g in data["variation"].get("groups", []))
    return {
        "command": run.command,
        "seeds": run.record["seeds"],
        "versions": run.record["versions"],
        "varied": varied,
        "sets": list(bench.sets),
        "seconds": {name: round(arm.seconds, 1) for name, arm in run.arms.items()},
        "arms": {name: found_by(bench, arm, arms.get(against)) for name, arm in arms.items()},
    }


def main() -> None:
    """Read the runs, write JSON, table and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("against")
    parser.add_argument("runs", type=Path, nargs="+")
    given = parser.parse_args()
    found = [read(folder, given.against) for folder in given.runs]
    lines = [
        "| varied in training | arm | average, same quantity | − {0} | worst | − {0} | average, all worlds | − {0} | "
        "worst | − {0} | early: average − {0} | worst − {0} |".format(f"`{given.against}`"),
        "|---|---|" + "--:|" * 10,
    ]
    for folder, run in zip(given.runs, found, strict=True):
        own = run["varied"] if run["varied"] in run["sets"] else "all test worlds"
        lines += rows(run["varied"] or "nothing", run["arms"], own)
        slug = run["varied"].replace(" + ", "-").replace(" ", "-") or "nominal"
        for picture in sorted((folder / "figures").glob("front*.svg")):
            shutil.copy(picture, FIGURES / f"{given.out.name}-{slug}-{picture.name}")
    given.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    given.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
