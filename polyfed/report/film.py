"""Films of learned policies in the clients' own worlds (the only door to Pillow)."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import jax
import numpy as np

from polyfed.checks import in_range, one_of
from polyfed.environments import Dataset
from polyfed.errors import MissingExtraError
from polyfed.evaluation.results import FilmResult
from polyfed.experiment import Experiment
from polyfed.recipes import arms
from polyfed.runs import store
from polyfed.runs.files import write_bytes, writing
from polyfed.runs.kept_films import FOLDER, write_film
from polyfed.runs.learned import GLOBAL, read_learned
from polyfed.typed import seeds as whole_numbers

MOST_FPS = 50  # browsers show faster GIFs at ten frames per second
MOST_STEPS = 1000  # from one frame to the next
COLOURS, SOURCES = 64, 8  # of a film; frames in which they are looked for


def film(
    run: Path,
    out: Path,
    *,
    arm: str = "",
    client: int = 0,
    policy: str = GLOBAL,
    seed: int = -1,
    start: int = 0,
    every: int = 1,
    fps: int = MOST_FPS,
) -> dict[str, Any]:
    """Film one greedy episode as a GIF.

    Args:
      run: A run folder whose arm is complete.
      out: The GIF.
      arm: Method; the experiment's own if empty.
      client: Whose world.
      policy: `"global"`, or `"own"` for the client's.
      seed: Of the training run; the first if negative.
      start: Seed of the episode.
      every: Steps from one frame to the next.
      fps: Frames per second.

    Returns:
      `{"film", "arm", "policy", "client", "return", "steps"}`.

    Raises:
      ValueError: There is no such policy, or its environment cannot be drawn.
      MissingExtraError: What simulates or draws it is not installed.
    """
    experiment = _experiment(run, arm, every, fps)
    in_range("--client", client, 0, experiment.num_clients - 1)
    shown, gif = _shoot(run, experiment, client, policy=policy, seed=seed, start=start, every=every, fps=fps)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(out, gif)
    whose = {"film": str(out), "arm": shown.arm, "policy": shown.policy, "client": client}
    return {**whose, "return": shown.score, "steps": shown.steps}


def film_clients(
    run: Path,
    clients: str,
    *,
    arm: str = "",
    policy: str = GLOBAL,
    seed: int = -1,
    start: int = 0,
    every: int = 1,
    fps: int = MOST_FPS,
) -> dict[str, Any]:
    """Film policies in the worlds of several clients, into `videos/` of the run folder, where a report finds them.

    Args:
      run: As in `film`.
      clients: `"all"`, or numbers and ranges as `"0-3,7"`.
      arm: As in `film`.
      policy: As in `film`.
      seed: As in `film`.
      start: As in `film`.
      every: As in `film`.
      fps: As in `film`.

    Returns:
      `{"videos": folder, "films": [file, ...]}`.

    Raises:
      ValueError: As in `film`.
      MissingExtraError: As in `film`.
    """
    experiment = _experiment(run, arm, every, fps)
    chosen = range(experiment.num_clients) if clients == "all" else whole_numbers(clients, "--clients")
    in_range("--clients", tuple(chosen), 0, experiment.num_clients - 1)
    files = []
    for client in chosen:
        shown, gif = _shoot(run, experiment, client, policy=policy, seed=seed, start=start, every=every, fps=fps)
        files.append(str(write_film(run, shown, gif)))
    return {"videos": str(run / FOLDER), "films": files}


def _experiment(run: Path, arm: str, every: int, fps: int) -> Experiment:
    """The experiment of an arm; raises before anything is computed if it cannot be filmed."""
    if importlib.util.find_spec("PIL") is None:
        raise MissingExtraError('A film needs a package that is not installed: pip install "polyfed[play]".')
    in_range("--every", every, 1, MOST_STEPS, "steps")
    in_range("--fps", fps, 1, MOST_FPS, "frames per second")
    experiment, _ = store.read_experiment(store.read_record(run))
    if isinstance(experiment.environment, Dataset):
        raise ValueError(f"{run} was trained on samples, which no film can show: film a run in an environment.")
    experiment.environment.check()
    methods = arms(experiment)
    one_of("--arm", arm or experiment.method, methods)
    return methods[arm or experiment.method]


def _shoot(
    run: Path, experiment: Experiment, client: int, *, policy: str, seed: int, start: int, every: int, fps: int
) -> tuple[FilmResult, bytes]:
    """An episode, and the GIF of it."""
    name = GLOBAL if policy == GLOBAL and not experiment.personal else f"client-{0 if experiment.pooled else client}"
    learned = read_learned(run, arm=experiment.method, name=name, seed=seed)
    world = learned.agent.view(experiment.environment)
    shown = world.film(jax.jit(learned.act), learned.world(client), jax.random.key(start), every)
    file = f"{experiment.method}-seed-{learned.seed}-{name}-in-client-{client}.gif"
    told = FilmResult(file, experiment.method, name, client, learned.seed, shown.score, shown.steps)
    return told, _gif(shown.frames, fps)


def _gif(frames: list[np.ndarray], fps: int) -> bytes:
    """All frames in the same few colours, found in some of them: a fourth of the bytes of frames with their own."""
    from PIL import Image

    some = np.concatenate(frames[:: -(-len(frames) // SOURCES)])
    palette = Image.fromarray(some).quantize(COLOURS)
    first, *others = (Image.fromarray(x).quantize(palette=palette, dither=Image.Dither.NONE) for x in frames)
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=10 * round(100 / fps), loop=0)
    return content.getvalue()
