"""What each client got before and after its world changed: figures as JSON, and the table of a results page.

    python docs/results/lifelong.py docs/results/data/lifelong-cartpole runs/lifelong-cartpole/<time>-<hash>

writes `lifelong-cartpole.json` and `lifelong-cartpole.md` there, and `figures/lifelong-cartpole-average-steps.svg`.
Windows lie between the rounds in which something begins; differences are to the arm `local_only`, paired by seed.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from polyfed.evaluation.results import RunResult
from polyfed.evaluation.statistics import Estimate, estimate_iqm, paired_difference
from polyfed.report import curves, figures
from polyfed.report.arms import LOCAL_ONLY, Entry, entries

FIGURES = Path(__file__).parent / "figures"


def windows(run: RunResult, rounds: np.ndarray) -> dict[str, np.ndarray]:
    """Evaluation points between changes, by name, and those at which somebody is judged before its first step."""
    begins = sorted({change.first - 1 for change in run.changes} | {change.last for change in run.changes})
    edges = [0, *(edge for edge in begins if 0 < edge < rounds[-1] and edge in rounds), int(rounds[-1])]
    found = {f"{low + 1} to {high}": (rounds > low) & (rounds <= high) for low, high in itertools.pairwise(edges)}
    comes = {change.first - 1 for change in run.changes if change.words == "joins"}
    return found | {f"{round_}, before it joins": rounds == round_ for round_ in sorted(comes)}


def scores(entry: Entry, points: np.ndarray) -> dict[str, np.ndarray]:
    """`[S]` of every client that is there at all these points, and of their average; at one point, of newcomers."""
    there = entry.arm.there[points].all(axis=0)
    own = entry.on_clients[points].mean(axis=0)
    if points.sum() == 1:
        (point,) = np.flatnonzero(points)
        there &= ~entry.arm.there[point - 1]
        return {f"client-{c}": own[:, c] for c in np.flatnonzero(there)}
    found = {f"client-{c}": own[:, c] for c in np.flatnonzero(there)}
    return {**found, "average": own[:, there].mean(axis=1)}


def plain(found: Estimate) -> list[float]:
    """`[value, low, high]`."""
    return [round(float(x), 2) for x in (found.value, found.low, found.high)]


def shown(numbers: list[float], sign: bool = False) -> str:
    """`[value, low, high]` as a reader sees it; a difference whose interval leaves out zero is bold."""
    value, low, high = numbers
    text = (f"{value:+.0f}" if sign else f"{value:.0f}") + f" [{low:.0f}, {high:.0f}]"
    text = text.replace("-", "−")
    return f"**{text}**" if sign and low * high > 0 else text


def main() -> None:
    """Read a run, write JSON, table and picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("run", type=Path)
    given = parser.parse_args()
    from polyfed.runs.store import load_run

    run = load_run(given.run)
    of = entries([run])
    arms = {entry.arm.name: entry for entry in of}
    others = [name for name in arms if name != LOCAL_ONLY]
    head = ["rounds", "client", *(f"`{name}`" for name in arms), *(f"`{name}` − `{LOCAL_ONLY}`" for name in others)]
    rows, levels = [f"| {' | '.join(head)} |", "|---|---|" + "--:|" * (len(head) - 2)], {}
    for window, points in windows(run, of[0].arm.rounds).items():
        own = {name: scores(entry, points) for name, entry in arms.items()}
        for who, alone in own[LOCAL_ONLY].items():
            level = {name: plain(estimate_iqm(found[who][:, None])) for name, found in own.items()}
            minus = {name: plain(paired_difference(own[name][who], alone)) for name in others}
            levels[f"{window} {who}"] = {**level, **{f"{name} minus {LOCAL_ONLY}": x for name, x in minus.items()}}
            cells = [*map(shown, level.values()), *(shown(x, sign=True) for x in minus.values())]
            rows.append(f"| {window} | {who} | {' | '.join(cells)} |")
    given.out.with_suffix(".md").write_text("\n".join(rows) + "\n")
    changes = [[change.first, change.last, list(change.clients), change.words] for change in run.changes]
    facts = {"command": run.command, "seeds": run.record["seeds"], "versions": run.record["versions"]}
    facts |= {"changes": changes, "seconds": {name: round(e.arm.seconds, 1) for name, e in arms.items()}}
    given.out.with_suffix(".json").write_text(json.dumps({**facts, "returns": levels}, indent=1) + "\n")
    picture = curves.learning_curve(of, figures.styles(of), curves.AVERAGE, "steps")
    (FIGURES / f"{given.out.name}-{picture.name}.svg").write_text(picture.svg)


if __name__ == "__main__":
    main()
