"""What the arms of a run are worth in held-out worlds, on average and in the worst one: JSON and a table.

    python docs/results/held_out.py docs/results/data/fedrddpg-pendulum ddpgavg runs/fedrddpg-pendulum/<time>-<hash>

writes `fedrddpg-pendulum.json` and `fedrddpg-pendulum.md` there, with differences to the arm `ddpgavg` paired by seed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from polyfed.evaluation.results import ArmResult
from polyfed.evaluation.statistics import Estimate, estimate_iqm, final_window, paired_difference
from polyfed.runs.store import load_run


def scores(arm: ArmResult) -> dict[str, np.ndarray]:
    """`[S]` each: mean over the clients' own worlds, mean over the held-out ones, the least of these; final window."""
    final = final_window(arm.rounds, arm.deployed())
    held_out = np.array([name.startswith("held-out") for name in arm.environments])
    return {
        "own worlds": final[:, ~held_out].mean(axis=1),
        "held out": final[:, held_out].mean(axis=1),
        "worst held out": final[:, held_out].min(axis=1),
    }


def number(value: float) -> str:
    """Three figures that count, and all before the point."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")


def shown(found: Estimate, sign: bool = False) -> str:
    """An estimate as a reader sees it; a difference of five seeds or more whose interval leaves out zero is bold."""
    value, low, high = float(found.value), float(found.low), float(found.high)
    plus = "+" if sign and value > 0 else ""
    text = f"{plus}{number(value)} [{number(low)}, {number(high)}]".replace("-", "−")
    return f"**{text}**" if sign and found.num_seeds >= 5 and low * high > 0 else text


def main() -> None:
    """Read the run, write JSON and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("against")
    parser.add_argument("run", type=Path)
    given = parser.parse_args()
    run = load_run(given.run)
    base = scores(run.arms[given.against])
    minus = f"− `{given.against}`"
    lines = [
        f"| arm | own worlds | held out | {minus} | worst held out | {minus} | run time |",
        "|---|" + "--:|" * 6,
    ]
    arms: dict[str, Any] = {}
    for name, arm in run.arms.items():
        own = scores(arm)
        cells = [shown(estimate_iqm(own["own worlds"][:, None]))]
        for kind in ("held out", "worst held out"):
            difference = "" if name == given.against else shown(paired_difference(own[kind], base[kind]), sign=True)
            cells += [shown(estimate_iqm(own[kind][:, None])), difference]
        lines.append(f"| `{name}` | " + " | ".join(cells) + f" | {arm.seconds:.0f} s |")
        arms[name] = {**{kind: values.round(2).tolist() for kind, values in own.items()}, "seconds": arm.seconds}
    record = {"command": run.command, "seeds": run.record["seeds"], "versions": run.record["versions"], "arms": arms}
    given.out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")
    given.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
