"""What agents of different make earned while they trained, in every arm: figures as JSON, tables for a results page.

    python docs/results/fedhpd_tables.py docs/results/data/fedhpd-cartpole runs/fedhpd-cartpole/*

writes `fedhpd-cartpole.json` and `fedhpd-cartpole.md` there. Several runs of the same seeds and agents make one table:
an arm is taken from the first run that has it, and all arms are cut to the length of the shortest, or to `--until` (in
episodes, or in steps where agents count steps). Arms that are not that long yet are left out, with a word on standard
error. Differences are to the arm `--against` (`local_only`), paired by seed; `--levels` are returns that the smoothed
mean over agents and seeds may reach. `--names fedhpd-a2c=a2c` calls the arm `fedhpd` of that experiment `a2c_fedhpd`;
`--arms` keeps some arms.

A round's return is the mean over the episodes that ended in it. "Last" is the last 100 episodes, the window of the
smoothed mean 50 episodes, each rounded down to whole rounds; where agents count steps, a tenth and a twentieth of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from polyfed.evaluation.results import ArmResult
from polyfed.evaluation.statistics import Estimate, paired_difference
from polyfed.report.welfare_scores import per_agent, rounds_until, welfare
from polyfed.runs.store import load_run


@dataclasses.dataclass(frozen=True)
class Lived:
    """An arm's training: `returns` and `bytes` `[R, S, C]`, and what a round is."""

    name: str
    returns: np.ndarray
    bytes: np.ndarray
    per_round: int  # episodes or steps
    unit: str
    seeds: tuple[int, ...]
    agents: tuple[str, ...]
    seconds: float

    @property
    def length(self) -> int:
        """Episodes or steps."""
        return len(self.returns) * self.per_round

    def until(self, length: int) -> Lived:
        """Its beginning."""
        rounds = length // self.per_round
        return dataclasses.replace(self, returns=self.returns[:rounds], bytes=self.bytes[:rounds])

    def rounds(self, share: int) -> int:
        """Whole rounds in `share` episodes, or in that share of a thousand where agents count steps."""
        return max(1, share // self.per_round if self.unit == "episodes" else len(self.returns) * share // 1000)


def lived(arm: ArmResult, name: str, seeds: tuple[int, ...]) -> Lived:
    """What is needed of an arm."""
    given, metrics = arm.experiment, arm.metrics
    groups = given["agent"].get("groups", [])
    names = [group["name"] or f"agent-{i}" for i, group in enumerate(groups, 1) for _ in range(group["num_clients"])]
    per_round, num_clients = given["local_steps"], metrics["return"].shape[2]
    episodic = np.all(metrics["episodes"] == per_round * given["num_envs"])
    return Lived(
        name=name,
        returns=metrics["return"],
        bytes=metrics["bytes_up"] + metrics["bytes_down"],
        per_round=per_round,
        unit="episodes" if episodic else "steps",
        seeds=seeds,
        agents=tuple(names or (f"agent-{i}" for i in range(1, num_clients + 1))),
        seconds=arm.seconds,
    )


def gather(folders: list[Path], prefixes: dict[str, str]) -> tuple[list[Lived], list[dict[str, Any]]]:
    """`(arms, runs)`."""
    arms: dict[str, Lived] = {}
    runs = []
    for folder in folders:
        run = load_run(folder)
        seeds = tuple(run.record["seeds"])
        record = {"command": run.command, "arms": list(run.arms), "seeds": seeds, "versions": run.record["versions"]}
        runs.append(record)
        for arm in run.arms.values():
            name = f"{prefixes[run.name]}_{arm.name}" if run.name in prefixes else arm.name
            if len(arm.metrics.get("return", ())) and name not in arms:
                arms[name] = lived(arm, name, seeds)
    if len({(arm.seeds, arm.agents, arm.unit) for arm in arms.values()}) > 1:
        raise SystemExit("These runs differ in seeds, agents or the unit of time, so they do not make one table.")
    return list(arms.values()), runs


def plain(estimate: Estimate) -> list[list[float]]:
    """`[value, low, high]` per row."""
    columns = (estimate.value, estimate.low, estimate.high)
    return np.round(np.stack([np.atleast_1d(x) for x in columns], axis=-1), 2).tolist()


def spread(values: np.ndarray) -> list[float]:
    """Mean and standard deviation over seeds."""
    return [round(float(np.mean(values)), 2), round(float(np.std(values, ddof=1)), 2) if len(values) > 1 else 0.0]


def found_by(arm: Lived, against: Lived | None, levels: list[float]) -> dict[str, Any]:
    """Every figure of an arm."""
    last, window = arm.rounds(100), arm.rounds(50)
    mean = arm.returns.mean(axis=1, keepdims=True)
    until = {f"{level:g}": float(rounds_until(mean, level, window)[0]) * arm.per_round for level in levels}
    each = {f"{level:g}": rounds_until(arm.returns, level, window) * arm.per_round for level in levels}
    number = lambda x: int(x) if np.isfinite(x) else None  # noqa: E731
    found: dict[str, Any] = {
        "all": spread(welfare(arm.returns)),
        "last": spread(welfare(arm.returns, last)),
        "until": {level: number(x) for level, x in until.items()},
        "until per seed": {level: [number(x) for x in xs] for level, xs in each.items()},
        "agents": [spread(column) for column in per_agent(arm.returns, last).T],
        "bytes per agent": float(arm.bytes.sum(axis=0).mean()),
        "seconds": round(arm.seconds, 1),
    }
    if against is not None and against is not arm:
        other = against.rounds(100)
        pairs = {
            "all minus": (welfare(arm.returns)[None], welfare(against.returns)[None]),
            "last minus": (welfare(arm.returns, last)[None], welfare(against.returns, other)[None]),
            "agents minus": (per_agent(arm.returns, last).T, per_agent(against.returns, other).T),
        }
        found |= {name: plain(paired_difference(*pair)) for name, pair in pairs.items()}
    return found


def shown(numbers: list[float]) -> str:
    """A mean with its deviation, or a difference with its interval, bold where that leaves out zero."""
    if len(numbers) == 2:
        return f"{numbers[0]:.0f} ± {numbers[1]:.0f}".replace("-", "−")
    text = f"{numbers[0]:+.0f} [{numbers[1]:.0f}, {numbers[2]:.0f}]".replace("-", "−")
    return f"**{text}**" if numbers[1] * numbers[2] > 0 else text


def tables(arms: list[Lived], found: dict[str, Any], against: str, levels: list[float]) -> list[str]:
    """One table of arms, one of agents."""
    unit, names = arms[0].unit, [arm.name for arm in arms]
    last = "last 100 episodes" if unit == "episodes" else "last tenth"
    head = ["arm", "all of training", f"− `{against}`", last, f"− `{against}`"]
    head += [*(f"{unit} until {level:g}" for level in levels), "MB per agent"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(head) - 1)]
    for name in names:
        one = found[name]
        minus = [shown(one[f"{what} minus"][0]) if f"{what} minus" in one else "" for what in ("all", "last")]
        cells = [f"`{name}`", shown(one["all"]), minus[0], shown(one["last"]), minus[1]]
        cells += ["never" if x is None else f"{x:,}" for x in one["until"].values()]
        lines.append("| " + " | ".join([*cells, f"{one['bytes per agent'] / 1e6:,.1f}"]) + " |")
    lines += ["", f"Each agent in the {last}:", ""]
    head = ["agent", *(f"`{name}`" + (f" (− `{against}`)" if "agents minus" in found[name] else "") for name in names)]
    lines += ["| " + " | ".join(head) + " |", "|---|" + "--:|" * len(names)]
    for i, agent in enumerate(arms[0].agents):
        cells = [f"{found[n]['agents'][i][0]:.0f}".replace("-", "−") for n in names]
        minus = [f" ({shown(found[n]['agents minus'][i])})" if "agents minus" in found[n] else "" for n in names]
        lines.append(f"| {agent} | " + " | ".join(map("".join, zip(cells, minus, strict=True))) + " |")
    return lines


def main() -> None:
    """Read the runs, write JSON and tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--against", default="local_only")
    parser.add_argument("--levels", type=float, nargs="*", default=[100.0, 200.0, 300.0, 400.0])
    parser.add_argument("--until", type=int, default=0)
    parser.add_argument("--names", nargs="*", default=[])
    parser.add_argument("--arms", nargs="*", default=[])
    given = parser.parse_args()
    arms, runs = gather(given.runs, dict(pair.split("=") for pair in given.names))
    arms = [arm for arm in arms if not given.arms or arm.name in given.arms]
    until = given.until or min(arm.length for arm in arms)
    for arm in arms:
        if arm.length < until:
            print(f"{arm.name} has {arm.length} of {until} {arm.unit} and is left out", file=sys.stderr)
    arms = [arm.until(until) for arm in arms if arm.length >= until]
    known = {arm.name: arm for arm in arms}
    found = {arm.name: found_by(arm, known.get(given.against), given.levels) for arm in arms}
    data = {"runs": runs, "until": until, "unit": arms[0].unit, "agents": arms[0].agents, "arms": found}
    lines = [f"Seeds {', '.join(map(str, arms[0].seeds))}; {until:,} {arms[0].unit} per agent.", ""]
    lines += tables(arms, found, given.against, given.levels)
    given.out.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    given.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
