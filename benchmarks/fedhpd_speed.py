"""How many times faster than PyTorch does polyfed train ten different agents that teach each other (FedHPD)?

    python benchmarks/fedhpd_speed.py --repeats 5
    python benchmarks/fedhpd_speed.py --repeats 3 --warmup 200   # when agents balance longer
    python benchmarks/fedhpd_speed.py --peers torch_fedhpd       # leave the hand-lean peer out

Every peer is a process of its own, run once per repeat, in an order that rotates; ratios are taken within a repeat and
their medians reported. How long an episode lasts is a matter of chance and of training, so ratios are of the time for
the same work: the peer's own number of environment steps and of distillation events, at polyfed's seconds for one of
each. JSON on standard output, progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import Any

from engine_speed import HERE, Line, interleaved, interpreter, machine, present

GOAL = 15.0  # times faster than `torch_fedhpd`
POLYFED = "polyfed_fedhpd"
PEERS = ("torch_fedhpd", "torch_fedhpd_lean")
COSTS = ("seconds_per_env_step", "seconds_per_event", "seconds_per_round", "steps_per_second", "rounds_per_second")


def command(peer: str, options: argparse.Namespace) -> list[str]:
    """The command line of a peer, in the interpreter that has what it imports."""
    python = options.polyfed_python if peer == POLYFED else options.peer_python
    work = {"rounds": options.rounds, "warmup": options.warmup, "threads": options.threads, "passes": options.passes}
    return [python, str(HERE / "peers" / f"{peer}.py"), *(f"--{name}={value}" for name, value in work.items())]


def median_of(values: list[float]) -> float | None:
    """Median to four digits; `None` of none."""
    return float(f"{statistics.median(values):.4g}") if values else None


def summary(lines: list[Line | None]) -> Line:
    """A peer's row: medians over the repeats, and every single cost."""
    done = present(lines)
    return {
        **{name: median_of([line[name] for line in done]) for name in COSTS},
        "episode_length": median_of([line["episode_length"] for line in done]),
        "episode_lengths": done[0]["episode_lengths"] if done else None,
        "runs": {name: [float(f"{line[name]:.4g}") for line in done] for name in COSTS[:2]},
        "compile_seconds": median_of([s for line in done if (s := line["compile_seconds"]) is not None]),
        "threads": done[0]["threads"] if done else None,
        "versions": done[0]["versions"] if done else {},
        "failed": len(lines) - len(done),
    }


def ratios(peer: list[Line | None], own: list[Line | None]) -> Line:
    """How many times longer the peer took, medians over the repeats: for the same work, and for either part of it."""
    pairs = [(line, ours) for line, ours in zip(peer, own, strict=True) if line and ours]
    parts = ("seconds_per_env_step", "seconds_per_event")
    return {
        "same_work": median_of([line["seconds"] / same_work(line, ours) for line, ours in pairs]),
        **{name: median_of([line[name] / ours[name] for line, ours in pairs if ours[name] > 0]) for name in parts},
    }


def same_work(peer: Line, ours: Line) -> float:
    """Seconds that polyfed takes for as many environment steps and events as the peer had."""
    return peer["env_steps"] * ours["seconds_per_env_step"] + peer["rounds"] * ours["seconds_per_event"]


def compare(options: argparse.Namespace) -> Line:
    """Polyfed and its peers at the same work."""
    description: dict[str, Any] = machine()
    lines = interleaved(
        {peer: command(peer, options) for peer in (POLYFED, *options.peers)}, options.repeats, options.timeout
    )
    return {
        "machine": description,
        "work": {"name": "fedhpd", "rounds": options.rounds, "warmup": options.warmup, "passes": options.passes},
        "repeats": options.repeats,
        "peers": {peer: summary(of_peer) for peer, of_peer in lines.items()},
        "polyfed_over": {peer: ratios(lines[peer], lines[POLYFED]) for peer in options.peers},
        "goal": GOAL,
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--repeats", type=int, default=5)
    add("--rounds", type=int, default=20, help="timed rounds: five episodes of every agent, one event (20)")
    add("--warmup", type=int, default=20, help="rounds before the clock starts (20)")
    add("--passes", type=int, default=5, help="how often polyfed trains through them in one process (5)")
    add("--threads", type=int, default=1, help="of PyTorch (1)")
    add("--peers", nargs="*", default=list(PEERS), help="which to compare with (all)")
    add("--timeout", type=float, default=1800.0, help="seconds after which a process is given up (1800)")
    add("--peer-python", default=interpreter(".venv-bench"), help="interpreter of the peers (.venv-bench's)")
    add("--polyfed-python", default=interpreter(".venv"), help="interpreter of polyfed (.venv's)")
    return parser.parse_args()


def main() -> None:
    """Prints the comparison as JSON, and fails where a peer failed."""
    result = compare(parse_arguments())
    print(json.dumps(result, indent=2))
    sys.exit(any(row["failed"] for row in result["peers"].values()))


if __name__ == "__main__":
    main()
