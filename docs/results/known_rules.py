"""What simple rules are worth in the worlds of a scenario pack, beside which its arms are judged, as JSON.

    python docs/results/known_rules.py docs/results/data/hvac hvac --episodes 20

writes `hvac-rules.json` there. Chance stands for having learned nothing; the other rules are those
that a practitioner would try first. Episodes have seeds of their own, so levels, not pairs, can be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from polyfed.environments.gymnasium_world import Gymnasium
from polyfed.environments.host_view import HostView
from polyfed.environments.host_worlds import make_world
from polyfed.experiment import Experiment
from polyfed.experiments import load
from polyfed.simulation.worlds import world_values

Rule = Callable[[gymnasium.Env, Any, dict[str, Any]], Any]

STATIONS = 3  # of `polyfed/RadioCell-v0`


def chance(env: gymnasium.Env, seen: Any, about: dict[str, Any]) -> Any:
    """Any action that is allowed, each as likely."""
    del seen
    return env.action_space.sample(about["action_mask"]) if "action_mask" in about else env.action_space.sample()


def thermostat(env: gymnasium.Env, seen: Any, about: dict[str, Any]) -> Any:
    """Air in proportion to what a room is too cold, and a little where it is warm enough."""
    del env, about
    return np.clip(-0.75 - 8 * np.asarray(seen), -1, 1)


def strongest(env: gymnasium.Env, seen: Any, about: dict[str, Any]) -> Any:
    """Every user at the station that it receives best, and at no other."""
    del env, about
    choices = []
    for user in np.asarray(seen).reshape(-1, 2 * STATIONS + 1):
        connected, received = user[:STATIONS] > 0, user[STATIONS : 2 * STATIONS]
        best = int(np.argmax(received))
        others = np.flatnonzero(connected & (np.arange(STATIONS) != best))
        choices.append(1 + best if not connected[best] else 1 + int(others[0]) if len(others) else 0)
    return np.array(choices)


def everywhere(env: gymnasium.Env, seen: Any, about: dict[str, Any]) -> Any:
    """Every user at every station that it can receive."""
    del env, about
    choices = []
    for user in np.asarray(seen).reshape(-1, 2 * STATIONS + 1):
        missing = np.flatnonzero((user[:STATIONS] <= 0) & (user[STATIONS : 2 * STATIONS] > 0))
        choices.append(1 + int(missing[np.argmax(user[STATIONS + missing])]) if len(missing) else 0)
    return np.array(choices)


def straight(env: gymnasium.Env, seen: Any, about: dict[str, Any]) -> Any:
    """With full force towards the goal, as if there were no walls."""
    del env, about
    way = seen["desired_goal"] - seen["achieved_goal"]
    return (way / max(float(np.abs(way).max()), 1e-6)).astype(np.float32)


def still(env: gymnasium.Env, seen: Any, about: dict[str, Any]) -> Any:
    """No force at all."""
    del seen, about
    return np.zeros(env.action_space.shape or (), np.float32)


# by experiment: rule -> (what is done, arguments of the environment)
RULES: Mapping[str, Mapping[str, tuple[Rule, dict[str, Any]]]] = {
    "hvac": {"thermostat": (thermostat, {})},
    "oran-access": {"strongest station": (strongest, {}), "all stations": (everywhere, {})},
    "maze-robots": {"stand still": (still, {}), "straight ahead": (straight, {})},
    "junctions": {"fixed programme": (chance, {"fixed": True})},
}


def made(experiment: Experiment, nth: int, arguments: dict[str, Any]) -> gymnasium.Env:
    """One of the worlds in which policies are judged."""
    values, _ = world_values(experiment)
    own = {name: row[nth] for name, row in values.items()}
    world: Any = experiment.environment
    if not isinstance(world, Gymnasium):  # a family of ours
        return HostView(world, world.params_class(**own))
    return make_world(world.id, own, **arguments)


def returns(env: gymnasium.Env, rule: Rule, episodes: int) -> list[float]:
    """Of whole episodes, with seeds from 0."""
    env.action_space.seed(0)
    found = []
    for seed in range(episodes):
        seen, about = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            seen, reward, terminated, truncated, about = env.step(rule(env, seen, about))
            total, over = total + float(reward), terminated or truncated
        found.append(total)
    return found


def main() -> None:
    """Play, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("name")
    parser.add_argument("--episodes", type=int, default=20)
    given = parser.parse_args()
    experiment = load(given.name)
    clients, held_out = experiment.num_clients, experiment.evaluation.num_held_out
    names = [f"client-{i}" for i in range(clients)] + [f"held-out-{i}" for i in range(held_out)]
    levels: dict[str, Any] = {}
    for label, (rule, arguments) in {"chance": (chance, {}), **RULES.get(given.name, {})}.items():
        levels[label] = {}
        for nth, name in enumerate(names):
            env = made(experiment, nth, arguments)
            found = returns(env, rule, given.episodes)
            env.close()
            error = float(np.std(found, ddof=1)) / given.episodes**0.5
            levels[label][name] = {"mean": round(float(np.mean(found)), 3), "standard_error": round(error, 3)}
            print(f"{label:<20} {name:<12} {np.mean(found):.2f} ± {error:.2f}", file=sys.stderr, flush=True)
    record = {"experiment": given.name, "episodes": given.episodes, "rules": levels}
    given.out.with_name(f"{given.out.name}-rules.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
