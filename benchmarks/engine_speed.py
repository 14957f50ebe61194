"""How fast polyfed trains the federation W1 beside the usual ways, interleaved in one run.

    python benchmarks/engine_speed.py --repeats 5                  # all peers, batch 64
    python benchmarks/engine_speed.py --repeats 5 --batch 16 --limit
    python benchmarks/engine_speed.py --work w2 --clients 5        # DDPG on Pendulum
    python benchmarks/engine_speed.py --growth --repeats 3         # polyfed at 10, 100 and 1,000 clients

Every peer is a process of its own. A repeat runs each once, in an order that rotates from repeat to repeat; a ratio is
taken within a repeat and the median over repeats is reported. JSON on standard output, progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
POLYFED = "polyfed_engine"
PEERS = ("torch_loop", "torch_lean", "sb3_dqn", "sbx_dqn")
WORKS = {"w1": (POLYFED, PEERS), "w2": ("polyfed_ddpg", ("sb3_ddpg", "sbx_ddpg"))}  # polyfed and its peers
GROWTH = (10, 100, 1000)  # clients
POLYFED_STEPS = 10  # times the peers' steps, for a clock that runs about as long
Line = dict[str, Any]  # what a peer prints


# Running


def interpreter(environment: str) -> str:
    """Python of a virtual environment in the repository's root, or the one that runs this script."""
    python = ROOT / environment / "bin" / "python"
    return str(python) if python.exists() else sys.executable


def note(text: str) -> None:
    """Progress, for the person who waits."""
    print(text, file=sys.stderr, flush=True)


def run_json(command: list[str], timeout: float) -> Line | None:
    """The last line that a command prints, read as JSON; `None`, and a note, where it failed or ran out of time."""
    name = Path(command[1]).stem
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        note(f"{name} did not finish in {timeout:g} s and is left out of this repeat; raise --timeout.")
        return None
    if done.returncode:
        note(f"{name} ended with status {done.returncode} and is left out of this repeat:\n{done.stderr[-2000:]}")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def peer_command(peer: str, options: argparse.Namespace, *, clients: int, steps: int) -> list[str]:
    """The command line of a peer, in the interpreter that has what it imports."""
    python = options.polyfed_python if peer.startswith("polyfed") else options.peer_python
    work = {"clients": clients, "batch": options.batch, "steps": steps, "warmup": options.warmup}
    flags = [text for name, value in work.items() for text in (f"--{name}", str(value))]
    return [python, str(HERE / "peers" / f"{peer}.py"), *flags]


def available(peers: list[str]) -> list[str]:
    """The peers whose script exists; the others are named on standard error."""
    missing = [peer for peer in peers if not (HERE / "peers" / f"{peer}.py").exists()]
    for peer in missing:
        note(f"benchmarks/peers/{peer}.py does not exist, so this peer is skipped.")
    return [peer for peer in peers if peer not in missing]


def interleaved(commands: dict[str, list[str]], repeats: int, timeout: float) -> dict[str, list[Line | None]]:
    """Runs every command once per repeat; whoever begins moves on by one each time."""
    lines: dict[str, list[Line | None]] = {name: [] for name in commands}
    names = list(commands)
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            line = run_json(commands[name], timeout)
            lines[name].append(line)
            if line and "steps_per_second" in line:
                note(f"repeat {repeat + 1}/{repeats}  {name:<16} {line['steps_per_second']:>10,.0f} steps/s")
    return lines


# Summing up


def present(lines: list[Line | None]) -> list[Line]:
    """The repeats that succeeded."""
    return [line for line in lines if line]


def median_of(values: list[float | None]) -> float | None:
    """Median of the numbers among these; `None` of none."""
    numbers = [value for value in values if value is not None]
    return round(statistics.median(numbers), 2) if numbers else None


def summary(lines: list[Line | None]) -> Line:
    """A peer's row: the median, the range and every single rate; compile time apart."""
    done = present(lines)
    rates = [line["steps_per_second"] for line in done]
    return {
        "steps_per_second": median_of(rates),
        "lowest": min(rates, default=None),
        "highest": max(rates, default=None),
        "runs": rates,
        "compile_seconds": median_of([line["compile_seconds"] for line in done]),
        "env_steps": done[0]["env_steps"] if done else None,
        "threads": [line["threads"] for line in done],
        "versions": done[0]["versions"] if done else {},
        "failed": len(lines) - len(done),
    }


def paired_ratio(above: list[Line | None], below: list[Line | None]) -> float | None:
    """Median over the repeats of the ratio of two peers' rates within a repeat; `None` where no repeat has both."""
    pairs = [(a, b) for a, b in zip(above, below, strict=True) if a and b]
    return median_of([a["steps_per_second"] / b["steps_per_second"] for a, b in pairs])


def limit_summary(lines: list[Line | None], polyfed: list[Line | None] | None) -> Line | None:
    """The arithmetic limit on all cores (median), and how many times slower than it polyfed was in the same repeat."""
    done = present(lines)
    if not done:
        return None
    limit = {
        "flops_per_step": done[0]["flops_per_step"],
        "steps_per_second": median_of([line["limit_steps_per_second"]["all_cores"] for line in done]),
        "matmul_gflops": median_of([line["matmul_gflops"]["all_cores"] for line in done]),
        "large_matmul_gflops": median_of([line["large_matmul_gflops"]["all_cores"] for line in done]),
    }
    if polyfed:
        pairs = [(line, own) for line, own in zip(lines, polyfed, strict=True) if line and own]
        slower = [line["limit_steps_per_second"]["all_cores"] / own["steps_per_second"] for line, own in pairs]
        limit["limit_over_polyfed"] = median_of(slower)
    return limit


def machine() -> Line:
    """Where this ran, and how busy it was when it began."""
    return {
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def cpu_model() -> str:
    """The processor's name and, since a virtual machine may hide it, its family, model and stepping (Linux)."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    pairs = (row.partition(":") for row in cpuinfo.read_text().split("\n\n")[0].splitlines())
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    identity = "/".join(facts.get(name, "?") for name in ("cpu family", "model", "stepping"))
    return f"{facts.get('model name', platform.processor())} (family/model/stepping {identity})"


# The two questions


def compare(options: argparse.Namespace) -> Line:
    """Rates of polyfed and its peers at the same work, and polyfed's ratio to each."""
    description = machine()
    polyfed = WORKS[options.work][0]
    peers = available([polyfed, *options.peers])
    steps = {peer: options.polyfed_steps if peer == polyfed else options.steps for peer in peers}
    commands = {peer: peer_command(peer, options, clients=options.clients, steps=steps[peer]) for peer in peers}
    if options.limit:
        script = str(HERE / "arithmetic_limit.py")
        commands["limit"] = [options.peer_python, script, "--batch", str(options.batch)]
    lines = interleaved(commands, options.repeats, options.timeout)
    own = lines.get(polyfed)
    return {
        "machine": description,
        "work": {
            "name": options.work,
            "clients": options.clients,
            "batch": options.batch,
            "steps": steps,
            "warmup": options.warmup,
        },
        "repeats": options.repeats,
        "peers": {peer: summary(lines[peer]) for peer in peers},
        "polyfed_over": {peer: paired_ratio(own, lines[peer]) for peer in peers if peer != polyfed} if own else {},
        "limit": limit_summary(lines["limit"], own) if options.limit else None,
    }


def growth(options: argparse.Namespace) -> Line:
    """Polyfed's time per client step at growing numbers of clients, relative to the smallest number.

    Every number of clients gets the same steps per client, so that every replay is equally full.
    """
    description = machine()
    counts = sorted(options.growth_clients) if available([POLYFED]) else []
    commands = {
        f"{count} clients": peer_command(POLYFED, options, clients=count, steps=options.growth_steps)
        for count in counts
    }
    lines = interleaved(commands, options.repeats if commands else 0, options.timeout)
    rows = {name: summary(of_count) for name, of_count in lines.items()}
    smallest = lines[next(iter(commands))] if commands else []
    return {
        "machine": description,
        "work": {"batch": options.batch, "steps": options.growth_steps, "warmup": options.warmup},
        "repeats": options.repeats,
        "clients": rows,
        "seconds_per_client_step_over_smallest": {
            name: paired_ratio(smallest, of_count) for name, of_count in lines.items()
        },
    }


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--repeats", type=int, default=4)
    add("--clients", type=int, default=10)
    add("--batch", type=int, default=64)
    add("--steps", type=int, default=1000, help="timed steps per client of every peer (1000)")
    add("--polyfed-steps", type=int, help=f"the same for polyfed ({POLYFED_STEPS} x --steps)")
    add("--warmup", type=int, default=200, help="steps per client before the clock starts (200)")
    add("--work", choices=list(WORKS), default="w1", help="w1: DQN in CartPole; w2: DDPG in Pendulum (w1)")
    add("--peers", nargs="*", help="which to compare with (all of the work)")
    add("--limit", action="store_true", help="measure the arithmetic limit in every repeat as well")
    add("--growth", action="store_true", help="instead: polyfed at growing numbers of clients")
    add("--growth-clients", nargs="+", type=int, default=list(GROWTH), help=f"numbers of clients {GROWTH}")
    add("--growth-steps", type=int, default=500, help="timed steps per client at every number of clients (500)")
    add("--timeout", type=float, default=1800.0, help="seconds after which a process is given up (1800)")
    add("--peer-python", default=interpreter(".venv-bench"), help="interpreter of the peers (.venv-bench's)")
    add("--polyfed-python", default=interpreter(".venv"), help="interpreter of polyfed (.venv's)")
    options = parser.parse_args()
    options.peers = list(WORKS[options.work][1]) if options.peers is None else options.peers
    if options.work != "w1" and (options.growth or options.limit):
        parser.error("--growth and --limit know the work w1 only: leave --work out, or them.")
    options.polyfed_steps = options.polyfed_steps or POLYFED_STEPS * options.steps
    return options


def main() -> None:
    """Answers one question, prints it as JSON, and fails where a peer failed."""
    options = parse_arguments()
    result = growth(options) if options.growth else compare(options)
    print(json.dumps(result, indent=2))
    rows = result["clients"] if options.growth else result["peers"]
    sys.exit(any(row["failed"] for row in rows.values()))


if __name__ == "__main__":
    main()
