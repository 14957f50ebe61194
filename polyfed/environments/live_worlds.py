"""Environments of Gymnasium that are in the middle of an episode, found by what has happened in it.

A state on the devices is a client's quantities, the seed of the episode, and its actions so far. It stands for a live
environment here, which is stepped in place; where none is at hand, because the run was resumed, a process died or a
state is used twice, the episode is played again from its seed. So stepping is a pure function of states.

References: towers2024gymnasium.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from polyfed.environments.host_recipe import Recipe, facts, make_alike
from polyfed.environments.host_spaces import check_some_allowed
from polyfed.errors import MissingExtraError, on_a_line

MOST_ALIVE = 4096  # environments kept; the oldest make room
NEVER = 0xFFFFFFFF  # in place of a seed: no episode begins; in place of a trace: the episode is over
TRACE = 2  # words that tell what was done since the seed
OVER = NEVER.to_bytes(4, "little") * TRACE
TOLD = 3 + TRACE  # words of an answer beside observations: reward, terminated, truncated, trace


def first_rows(values: Any, seeds: Any) -> np.ndarray:
    """Rows `[N, Q + 1]` for `LiveWorlds.begin`, from quantities `[N, Q]` and seeds `[N]`.

    >>> first_rows([[1.0]], [5]).tolist()
    [[1065353216, 5]]
    """
    numbers = np.asarray(values, np.float32).view(np.uint32)
    return np.concatenate([numbers, np.asarray(seeds, np.uint32)[:, None]], axis=1)


def cut(rows: np.ndarray, num_words: int, start: int = 0) -> list[bytes]:
    """The first words of every row, or those from another place on, as what they are found by.

    >>> cut(np.uint32([[1, 2, 3], [4, 5, 6]]), 1, start=2) == [bytes([3, 0, 0, 0]), bytes([6, 0, 0, 0])]
    True
    """
    data, width = rows.tobytes(), 4 * rows.shape[1]
    return [data[i * width + 4 * start : i * width + 4 * (start + num_words)] for i in range(len(rows))]


def answer_when_over(answer: np.ndarray, size: int) -> None:
    """Write what `LiveWorlds.advance` answers to a state after the end of an episode; `size` is an observation's."""
    answer[:] = 0
    answer[size + 1 : size + TOLD] = (1, 0, NEVER, NEVER)


def answer_for_none(row: np.ndarray, answer: np.ndarray, size: int, num_values: int) -> None:
    """Write what a world that failed answers to a row of `LiveWorlds.advance`.

    Args:
      row: The row.
      answer: Is written.
      size: Of an observation.
      num_values: `Q`.
    """
    answer[:] = 0
    if row[-2] == NEVER:  # nothing begins after it: it is being judged
        answer[size : size + TOLD] = (np.float32(np.nan).view(np.uint32), 1, 0, NEVER, NEVER)
    elif (row[:num_values] != row[-2 - num_values : -2]).any():  # its client lives in another world by now
        answer[size + 2] = 1


class LiveWorlds:
    """The environments of all clients of a fleet that this process steps.

    Rows are words of 32 bits: the quantities `Q` of the world that the episode is in, its seed, and its trace; then the
    action `A`, the quantities `Q` and the seed of the episode that begins if this one ends (or `NEVER`), and the number
    of actions so far. Answers are the observation `D`, reward, terminated, truncated, the trace, and the first
    observation `D` of the episode that began.

    A world that fails, by raising or by giving what is not finite, is out: its rows get zeros from then on, and NaN as
    the reward where its episodes are judged.

    >>> worlds = LiveWorlds(Recipe("CartPole-v1"))
    >>> worlds.begin(first_rows(np.zeros((1, 0)), [5])).view(np.float32).round(3)
    array([[ 0.031,  0.031,  0.002, -0.021]], dtype=float32)
    """

    def __init__(self, recipe: Recipe):
        self.recipe, self.facts = recipe, facts(recipe)
        self.size, self.num_values = self.facts.seen.space.size, len(recipe.varied)
        self.failures: dict[bytes, str] = {}  # quantities -> why
        self._alive: OrderedDict[bytes, list[gymnasium.Env]] = OrderedDict()  # by quantities, seed and trace
        self._idle: dict[bytes, list[gymnasium.Env]] = {}  # by quantities
        self._count = 0
        self._lock = threading.Lock()

    def begin(self, rows: np.ndarray) -> np.ndarray:
        """First observations `[N, D]` of episodes, rows `[N, Q + 1]`: quantities and seeds."""
        answers = np.zeros((len(rows), self.size), np.uint32)
        worlds = cut(rows, self.num_values)
        for world, seed, floats in zip(worlds, rows[:, -1].tolist(), answers.view(np.float32), strict=True):
            self._guarded_begin(floats, world, seed)
        for i in self._out_of_bounds(worlds, answers):
            answers[i] = 0
        return answers

    def advance(self, rows: np.ndarray, recall: Sequence[Any] | np.ndarray) -> np.ndarray:
        """Step each state once, rows `[N, Q + 3 + A + Q + 2]`; see the class.

        Args:
          rows: Words.
          recall: `[N, T, A]` float32, the actions of each episode so far, and anything after them.
        """
        answers = np.zeros((len(rows), 2 * self.size + TOLD), np.uint32)
        floats, own, known = answers.view(np.float32), self.num_values, self.num_values + 1 + TRACE
        num_actions = rows.shape[1] - known - 2 - own
        pasts, acted = cut(rows, known + num_actions), rows[:, known : known + num_actions].view(np.float32)
        worlds, following = cut(rows, own), cut(rows, own + 1, known + num_actions)
        traces, rewards, over, out = [bytes(4 * TRACE)] * len(rows), [0.0] * len(rows), [], []
        for i, (world, past) in enumerate(zip(worlds, pasts, strict=True)):
            if past.startswith(OVER, 4 * (own + 1)):
                over.append(i)
            elif world in self.failures:
                out.append(i)
            else:
                try:
                    env = self._found(past[: 4 * known]) or self._played_again(world, rows[i], recall[i])
                    traces[i], rewards[i] = self._advance(env, past, acted[i], following[i], floats[i])
                except Exception as error:  # an environment may fail in any way
                    self._fail(world, error)
                    out.append(i)
        floats[:, self.size] = rewards
        answers[:, self.size + 3 : self.size + TOLD] = np.frombuffer(b"".join(traces), np.uint32).reshape(-1, TRACE)
        for i in over:
            answer_when_over(answers[i], self.size)
        for i in out:
            answer_for_none(rows[i], answers[i], self.size, own)
        if not (np.isfinite(floats[:, : self.size + 1]).all() and np.isfinite(floats[:, self.size + TOLD :]).all()):
            for i in self._out_of_bounds([world[: 4 * own] for world in following], answers[:, self.size + TOLD :]):
                answers[i, self.size + TOLD :] = 0
            for i in self._out_of_bounds(worlds, answers[:, : self.size + 1]):
                answer_for_none(rows[i], answers[i], self.size, own)
        return answers

    def _out_of_bounds(self, worlds: list[bytes], answers: np.ndarray) -> list[int]:
        """The rows that hold what is not finite: their worlds are out."""
        bad = np.flatnonzero(~np.isfinite(answers.view(np.float32)).all(axis=1)).tolist()
        for i in bad:
            self.failures.setdefault(worlds[i], "an observation or a reward is not finite")
        return bad

    def missing(self, rows: np.ndarray) -> list[int]:
        """Which rows of `advance` stand for no environment that is alive, so that its actions must be recalled."""
        asked, missing = Counter[bytes](), []
        with self._lock:
            for i, key in enumerate(cut(rows, self.num_values + 1 + TRACE)):
                asked[key] += 1
                if asked[key] > len(self._alive.get(key, ())) and key[-4 * TRACE :] != OVER:
                    missing.append(i)
        return missing

    def there(self, rows: np.ndarray) -> np.ndarray:
        """Which worlds have not failed, `[N, 1]` float32 of 1 and 0; rows `[N, Q]` are quantities."""
        return np.array([[world not in self.failures] for world in cut(rows, self.num_values)], np.float32)

    def _guarded_begin(self, floats: np.ndarray, world: bytes, seed: int, env: gymnasium.Env | None = None) -> None:
        """Write the first observation of an episode in a world that may fail, and may have."""
        if world not in self.failures:
            try:
                self._begin(floats, world, seed, env)
            except Exception as error:
                self._fail(world, error)

    def _fail(self, world: bytes, error: Exception) -> None:
        """The world is out."""
        reason = on_a_line(error).rstrip(".")
        kind = "" if isinstance(error, (ValueError, MissingExtraError)) else f"{type(error).__name__}: "
        self.failures[world] = f"{kind}{reason}"

    def _begin(self, floats: np.ndarray, world: bytes, seed: int, env: gymnasium.Env | None = None) -> None:
        """Write the first observation of an episode, in an environment that is at hand or in another."""
        env = self._fresh(world) if env is None else env
        observation, _ = env.reset(seed=seed)
        floats[: self.size] = self.facts.seen.flatten(observation)
        check_some_allowed(self.facts.seen.mask, floats)
        self._keep(world + seed.to_bytes(4, sys.byteorder) + bytes(4 * TRACE), env)

    def _advance(
        self, env: gymnasium.Env, past: bytes, action: np.ndarray, following: bytes, floats: np.ndarray
    ) -> tuple[bytes, Any]:
        """The new trace and the reward of an action; the rest of the answer, a row of it, is written.

        Args:
          env: In the state in which the action is taken.
          past: Quantities, seed, trace, and the action, as they lie in a row.
          action: The action.
          following: Quantities and seed of what comes after.
          floats: Is written; of the words `terminated` and `truncated` any that is not 0 will do.
        """
        size, known = self.size, 4 * (self.num_values + 1 + TRACE)
        observation, reward, terminated, truncated, _ = env.step(self.facts.taken.take(action))
        floats[:size] = self.facts.seen.flatten(observation)
        if not (terminated or truncated):
            check_some_allowed(self.facts.seen.mask, floats)
            trace = hashlib.blake2b(past[known - 4 * TRACE :], digest_size=4 * TRACE).digest()
            self._keep(past[: known - 4 * TRACE] + trace, env)
            return trace, reward
        floats[size + 1], floats[size + 2] = terminated, truncated
        world, after = past[: 4 * self.num_values], int.from_bytes(following[-4:], sys.byteorder)
        if after == NEVER:
            self._rest(world, env)
            return OVER, reward
        if following[:-4] == world:
            self._begin(floats[size + TOLD :], world, after, env)
        else:
            self._leave(world, env)
            self._guarded_begin(floats[size + TOLD :], following[:-4], after)
        return bytes(4 * TRACE), reward

    def _found(self, key: bytes) -> gymnasium.Env | None:
        with self._lock:
            alike = self._alive.get(key)
            if not alike:
                return None
            env = alike.pop()
            if not alike:
                del self._alive[key]
            return env

    def _keep(self, key: bytes, env: gymnasium.Env) -> None:
        with self._lock:
            if key in self._alive:
                self._alive[key].append(env)
            else:
                self._alive[key] = [env]

    def _rest(self, world: bytes, env: gymnasium.Env) -> None:
        with self._lock:
            self._idle.setdefault(world, []).append(env)

    def _leave(self, world: bytes, env: gymnasium.Env) -> None:
        """Close an environment and those that rest in its world: a client has moved on."""
        with self._lock:
            left = [env, *self._idle.pop(world, [])]
            self._count -= len(left)
        for each in left:
            each.close()

    def _fresh(self, world: bytes) -> gymnasium.Env:
        """An environment that nobody is in."""
        with self._lock:
            idle = self._idle.get(world)
            if idle:
                return idle.pop()
            self._count += 1
            oldest = self._oldest() if self._count > MOST_ALIVE else None
        if oldest is not None:
            oldest.close()
        return make_alike(self.recipe, np.frombuffer(world, np.float32))

    def _oldest(self) -> gymnasium.Env | None:
        """One that is idle, or else the state that was not used for longest, which can be played again."""
        self._count -= 1
        for idle in self._idle.values():
            if idle:
                return idle.pop()
        for key in self._alive:
            env = self._alive[key].pop()
            if not self._alive[key]:
                del self._alive[key]
            return env
        return None

    def _played_again(self, world: bytes, row: np.ndarray, past: np.ndarray) -> gymnasium.Env:
        env = self._fresh(world)
        env.reset(seed=int(row[self.num_values]))
        for action in past[: int(row[-1])]:
            env.step(self.facts.taken.take(action))
        return env
