"""A film of Gymnasium: an episode lived in an environment that draws itself.

References: towers2024gymnasium.
"""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import ArrayLike

from polyfed.environments.drawing import draw_into_memory, undrawable
from polyfed.environments.host_recipe import Facts, Recipe, differing_values, facts, make_live
from polyfed.environments.world import Act, Film
from polyfed.errors import MissingExtraError


def film_live(recipe: Recipe, values: ArrayLike, seed: int, act: Act, every: int = 1) -> Film:
    """One episode in pictures, the first and the last state among them; no display is needed.

    Args:
      recipe: How the environment is made.
      values: `[Q]`, the client's quantities.
      seed: Of the episode.
      act: Actions `[1, ...]` for observations `[1, D]`.
      every: Steps from one picture to the next.

    Raises:
      ValueError: The environment has no pictures, cannot draw them here, or fails.
      MissingExtraError: What simulates or draws it is not installed.

    >>> film_live(Recipe("CartPole-v1"), [], 7, lambda observation: np.zeros(1)).score
    9.0
    """
    draw_into_memory()
    known = facts(recipe)
    if not known.draws:
        raise ValueError(f"{recipe.id} draws no pictures, so it cannot be filmed: `polyfed report` shows the run.")
    env = make_live(recipe, differing_values(recipe, values), "rgb_array")
    try:
        with warnings.catch_warnings(action="ignore"):  # of drivers that are tried in vain
            return _episode(env, known, seed, act, every)
    except DependencyNotInstalled as error:
        raise MissingExtraError(
            f'{recipe.id} is drawn by a package that is not installed: pip install "polyfed[play]".'
        ) from error
    except Exception as error:  # an environment may fail in any way, and so may what draws it
        raise undrawable(recipe.id, error) from error
    finally:
        env.close()


def _episode(env: gymnasium.Env, known: Facts, seed: int, act: Act, every: int) -> Film:
    observation, _ = env.reset(seed=seed)
    frames, score, steps, over = [_picture(env)], 0.0, 0, False
    while not over:
        action = np.asarray(act(known.seen.flatten(observation)[None]), np.float32).reshape(-1)
        observation, reward, terminated, truncated, _ = env.step(known.taken.take(action))
        score, steps, over = score + float(reward), steps + 1, bool(terminated or truncated)
        if over or steps % every == 0:
            frames.append(_picture(env))
    return Film(frames, score, steps)


def _picture(env: gymnasium.Env) -> np.ndarray:
    picture: Any = env.render()
    return np.array(picture, np.uint8)
