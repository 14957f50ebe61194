"""How fast environments of Gymnasium are stepped and learned in, beside their bare selves and beside Stable-Baselines3.

    .venv/bin/python benchmarks/host_speed.py --repeats 5

*Stepping*: actions by chance in bare environments, one process per core, against polyfed training a fleet by PPO or A2C
in the same environment, learning included, with a worker process per core. *Learning*: DQN on LunarLander-v3, a
gradient step of a batch of 64 per environment step, networks of 64 and 64 units, polyfed's four clients against
Stable-Baselines3, client by client. Everybody is a process of its own; a repeat runs each once, in an order that
rotates; a ratio is taken within a repeat and the median over repeats is reported; compilation stands apart. JSON on
standard output, progress on standard error.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ROOT = HERE.parent.parent
CORES = len(os.sched_getaffinity(0))
STEPPED = ("LunarLander-v3", "BipedalWalker-v3", "Hopper-v5", "HalfCheetah-v5", "Ant-v5")
LANDER = "LunarLander-v3"
CLIENTS, COPIES = 4, 16  # of a fleet; environments of a client when stepping
LOCAL = 256  # steps in each environment between merges


# What is timed: each prints a line of JSON


def bare(id_: str, steps: int) -> dict[str, Any]:
    """Actions by chance."""
    import gymnasium

    env = gymnasium.make(id_)
    env.reset(seed=0)
    env.action_space.seed(0)

    def go(count: int) -> None:
        for _ in range(count):
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            if terminated or truncated:
                env.reset()

    go(500)
    return {"steps_per_second": steps / _seconds(lambda: go(steps))}


def polyfed(id_: str, learner: str, workers: int, rounds: int) -> dict[str, Any]:
    """A fleet that learns, in one program."""
    from polyfed.agents import A2C, DQN, PPO
    from polyfed.environments import Explicit
    from polyfed.environments.gymnasium_world import Gymnasium
    from polyfed.experiment import Evaluation, Experiment
    from polyfed.simulation.simulate import Simulation

    dqn = DQN(hidden=(64, 64), batch_size=64, learning_starts=100)
    agent = {"ppo": PPO(), "a2c": A2C(), "dqn": dqn}[learner]
    copies = 1 if learner == "dqn" else COPIES
    experiment = Experiment(
        name="host",
        environment=Gymnasium(id_, workers=workers),
        variation=Explicit(),
        num_clients=CLIENTS,
        num_envs=copies,
        agent=agent,
        local_steps=LOCAL,
        num_rounds=rounds,
        evaluation=Evaluation(every=rounds),
    )
    simulation = Simulation(experiment, seeds=(0,))
    federation, _ = simulation.advance(simulation.init(), rounds)

    def go() -> None:
        simulation.advance(federation, rounds)

    return {
        "steps_per_second": CLIENTS * copies * LOCAL * rounds / _seconds(go),
        "compile_seconds": simulation.compile_seconds,
    }


def sb3(steps: int) -> dict[str, Any]:
    """DQN of Stable-Baselines3, with one thread: two are slower at this size."""
    import gymnasium
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.logger import Logger

    torch.set_num_threads(1)
    model = DQN(
        "MlpPolicy",
        gymnasium.make(LANDER),
        batch_size=64,
        train_freq=1,
        gradient_steps=1,
        learning_starts=100,
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    model.learn(300)
    return {"steps_per_second": steps / _seconds(lambda: model.learn(steps, reset_num_timesteps=False))}


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


ROLES = {"bare": bare, "polyfed": polyfed, "sb3": sb3}


# Running


def role(words: list[str], python: str = sys.executable) -> subprocess.Popen[str]:
    """A process that times one thing."""
    return subprocess.Popen([python, str(HERE), "--role", *words], stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it printed."""
    out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{process.args} ended with status {process.returncode}.")
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found


def bare_on_all_cores(id_: str, steps: int) -> dict[str, Any]:
    """A process on every core, at the same time."""
    processes = [role(["bare", id_, str(steps)]) for _ in range(CORES)]
    return {"steps_per_second": sum(line(process)["steps_per_second"] for process in processes)}


def compare(things: dict[str, Callable[[], dict[str, Any]]], over: str, repeats: int) -> dict[str, Any]:
    """Medians of all, and of their ratios to `over` within a repeat."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in things}
    names = list(things)
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            found[name].append(things[name]())
            print(f"{name:<24} {found[name][-1]['steps_per_second']:>9,.0f} steps/s", file=sys.stderr, flush=True)
    summary: dict[str, Any] = {}
    for name, lines in found.items():
        rates = [one["steps_per_second"] for one in lines]
        ratios = [own / other["steps_per_second"] for own, other in zip(rates, found[over], strict=True)]
        summary[name] = {
            "steps_per_second": round(statistics.median(rates)),
            "lowest_highest": [round(min(rates)), round(max(rates))],
            f"over_{over}": round(statistics.median(ratios), 3),
        }
        if "compile_seconds" in lines[0]:
            summary[name]["compile_seconds"] = round(statistics.median(one["compile_seconds"] for one in lines), 1)
    return summary


def main() -> None:
    """Time everything, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-python", default=str(ROOT / ".venv-bench/bin/python"), help="has Stable-Baselines3")
    parser.add_argument("--only", nargs="*", help="environments to step in, instead of all")
    parser.add_argument("--role", nargs="+", help="for the processes of this script")
    options = parser.parse_args()
    if options.role:
        name, *words = options.role
        print(json.dumps(ROLES[name](*[int(word) if word.isdigit() else word for word in words])), flush=True)
        return
    chosen = options.only or STEPPED
    report: dict[str, Any] = {"load_at_start": os.getloadavg()[0], "cores": CORES, "stepping": {}}
    for id_ in chosen:
        print(id_, file=sys.stderr)
        things: dict[str, Callable[[], dict[str, Any]]] = {
            "bare": lambda id_=id_: bare_on_all_cores(id_, 20_000),
            "ppo": lambda id_=id_: line(role(["polyfed", id_, "ppo", str(CORES), "4"])),
            "a2c": lambda id_=id_: line(role(["polyfed", id_, "a2c", str(CORES), "4"])),
        }
        report["stepping"][id_] = compare(things, "bare", options.repeats)
    report["learning"] = compare(
        {
            "sb3": lambda: line(role(["sb3", "3000"], options.peer_python)),
            "polyfed": lambda: line(role(["polyfed", LANDER, "dqn", "0", "20"])),
        },
        "sb3",
        options.repeats,
    )
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
