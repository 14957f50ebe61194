"""What is good to know of an environment before a fleet lives in it: seeding, spaces, speed, copies, quantities.

References: towers2024gymnasium.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

from polyfed.environments import FAMILIES, quantities
from polyfed.environments.host_spaces import actions, observations
from polyfed.environments.host_worlds import make, make_world
from polyfed.environments.physics import PHYSICS
from polyfed.errors import MissingExtraError, on_a_line

NUM_STEPS = 300  # of every walk
SEEDS = 7, 8
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclasses.dataclass(frozen=True)
class Finding:
    """An answer to a question about an environment.

    >>> Finding("seeding", True, "equal seeds give equal episodes").needed
    True
    """

    question: str
    good: bool
    answer: str
    needed: bool = True  # a fleet cannot live there otherwise


@dataclasses.dataclass(frozen=True)
class Walk:
    """What random actions led to, from a seed."""

    observed: list[Any]
    rewards: list[float]
    seconds: float  # of the steps alone


def check_host(id_: str, *, modules: bool = False) -> list[Finding]:
    """Questions and answers, most important first.

    Args:
      id_: Of Gymnasium.
      modules: Whether `module:Env-v0` may import code, see `make`.

    Raises:
      ValueError: It cannot be made, or not be walked through.
      MissingExtraError: What it is simulated by is not installed.

    >>> [finding.question for finding in check_host("CartPole-v1") if not finding.good and finding.needed]
    []
    """
    fresh = lambda: make(id_, modules=modules, disable_env_checker=True)  # noqa: E731
    try:
        first, again, other = (_walk(fresh(), seed) for seed in (SEEDS[0], SEEDS[0], SEEDS[1]))
    except (ValueError, MissingExtraError):
        raise
    except Exception as error:
        raise ValueError(
            f"{id_} failed within {NUM_STEPS} random steps with {type(error).__name__}: "
            f"{on_a_line(error).rstrip('.')}. Mend it, or wrap it so that every action of its space can be taken."
        ) from error
    questions: list[tuple[str, bool, Callable[[], tuple[bool, str]]]] = [
        ("Gymnasium's own check", False, lambda: _own_check(fresh())),
        ("seeding", True, lambda: _seeding(first, again, other)),
        ("finite numbers", True, lambda: _finite(first)),
        ("declared spaces", True, lambda: _declared(fresh(), first)),
        ("observations", True, lambda: _readable(fresh(), "observation")),
        ("actions", True, lambda: _readable(fresh(), "action")),
        ("time limit", True, lambda: _time_limit(fresh())),
        ("step rate", False, lambda: (True, f"{NUM_STEPS / max(first.seconds, 1e-9):,.0f} steps/s on one core")),
        ("copy", False, lambda: _duplicated(fresh(), copy.deepcopy)),
        ("pickle", False, lambda: _duplicated(fresh(), lambda env: pickle.loads(pickle.dumps(env)))),  # noqa: S301  our own
        ("named quantities", False, lambda: _quantities(id_, modules)),
    ]
    return [Finding(question, *_answered(ask), needed) for question, needed, ask in questions]


def _answered(ask: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
    """An environment may fail in any way when it is asked something; that is an answer."""
    try:
        return ask()
    except Exception as error:
        return False, f"{type(error).__name__}: {on_a_line(error)}"


def _walk(env: gymnasium.Env, seed: int) -> Walk:
    env.action_space.seed(seed)
    observed, rewards, seconds = [env.reset(seed=seed)[0]], [], 0.0
    for _ in range(NUM_STEPS):
        action, began = _any_action(env, observed[-1]), time.perf_counter()
        seen, reward, terminated, truncated, _ = env.step(action)
        seconds += time.perf_counter() - began
        observed.append(copy.deepcopy(seen))
        rewards.append(float(reward))
        if terminated or truncated:
            observed.append(env.reset()[0])
    env.close()
    return Walk(observed, rewards, seconds)


def _any_action(env: gymnasium.Env, seen: Any) -> Any:
    """A random action, allowed by the `action_mask` of what is seen if there is one."""
    if isinstance(env.observation_space, spaces.Dict) and isinstance(env.action_space, spaces.Discrete):
        mask = seen.get("action_mask")
        return env.action_space.sample(None if mask is None else np.asarray(mask, np.int8))
    return env.action_space.sample()


def _own_check(env: gymnasium.Env) -> tuple[bool, str]:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        check_env(env.unwrapped, skip_render_check=True)
    told = [" ".join(_COLOUR.sub("", str(w.message)).split()) for w in heard]
    return True, "passed" if not told else f"passed, with {len(told)} warnings, the first: {told[0][:200]}"


def _numbers(walk: Walk) -> list[np.ndarray]:
    return [np.ravel(x) for seen in walk.observed for x in _leaves(seen)]


def _leaves(seen: Any) -> Sequence[Any]:
    if isinstance(seen, dict):
        return [leaf for name in sorted(seen) for leaf in _leaves(seen[name])]
    return [leaf for part in seen for leaf in _leaves(part)] if isinstance(seen, tuple) else [seen]


def _equal(a: Walk, b: Walk) -> bool:
    one, two = _numbers(a), _numbers(b)
    return a.rewards == b.rewards and len(one) == len(two) and all(map(np.array_equal, one, two))


def _seeding(first: Walk, again: Walk, other: Walk) -> tuple[bool, str]:
    if not _equal(first, again):
        return False, f"two fresh ones with seed {SEEDS[0]} differ: its episodes cannot be repeated"
    if _equal(first, other):
        return False, f"seeds {SEEDS[0]} and {SEEDS[1]} give the same: it ignores reset(seed=...)"
    return True, "fresh ones with equal seeds are equal, with different ones different"


def _finite(walk: Walk) -> tuple[bool, str]:
    numbers = [x for x in _numbers(walk) if x.dtype.kind in "fiub"]
    whole = all(np.isfinite(x).all() for x in numbers) and bool(np.isfinite(walk.rewards).all())
    return whole, f"{NUM_STEPS} random steps gave finite observations and rewards" if whole else "NaN or infinite"


def _declared(env: gymnasium.Env, walk: Walk) -> tuple[bool, str]:
    space = env.observation_space
    outside = sum(not space.contains(seen) for seen in walk.observed)
    return not outside, "kept" if not outside else f"{outside} of {len(walk.observed)} observations lie outside {space}"


def _readable(env: gymnasium.Env, what: str) -> tuple[bool, str]:
    given: Any = getattr(env, f"{what}_space")
    if what == "observation":
        space = observations(given).space
        laid = "" if space.shape is None else f", an image {' x '.join(map(str, space.shape))}"
        return True, f"read as {space.size} numbers{laid}"
    read: Any = actions(given).space
    return True, f"one of {read.n} choices" if hasattr(read, "n") else f"{read.size} numbers"


def _time_limit(env: gymnasium.Env) -> tuple[bool, str]:
    steps = env.spec.max_episode_steps if env.spec else None
    return True, f"{steps} steps" if steps else "none registered: give max_episode_steps where episodes may not end"


def _duplicated(env: gymnasium.Env, duplicate: Callable[[gymnasium.Env], gymnasium.Env]) -> tuple[bool, str]:
    """In the middle of an episode, and whether the copy goes on as the original does."""
    env.reset(seed=SEEDS[0])
    env.action_space.seed(SEEDS[0])
    env.step(env.action_space.sample())
    twin, action = duplicate(env), env.action_space.sample()
    expected = _leaves(env.step(action)[0])
    try:
        found = _leaves(twin.step(action)[0])
    except Exception:  # as of one that was never reset
        return False, "is made anew, without its state"
    same = all(map(np.array_equal, expected, found))
    return same, "goes on as the original does" if same else "is made anew, without its state"


def _quantities(id_: str, modules: bool) -> tuple[bool, str]:
    for family in FAMILIES:
        if family.gymnasium_id == id_:
            return True, f"those of our family {type(family).__name__}: {', '.join(quantities(family.params_class))}"
    known = PHYSICS.get(id_, {})
    if not known:
        return True, "none: name attributes by their path, such as gravity or model.opt.gravity[2]"
    works, fails = [], []
    for name, about in known.items():
        middle = (
            about.default * 1.1 if about.default and about.default * 1.1 <= about.high else (about.high + about.low) / 2
        )
        if about.whole:
            middle = about.high
        try:
            make_world(id_, {name: middle}, modules=modules).reset(seed=0)
        except (ValueError, MissingExtraError) as error:
            fails.append(f"{name} ({error})")
        else:
            works.append(name)
    return not fails, ", ".join(works) + (f"; not {', '.join(fails)}" if fails else "")
