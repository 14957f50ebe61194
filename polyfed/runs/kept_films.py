"""The films of a run in its folder: `videos/` holds every GIF, and beside it what it shows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

from polyfed.errors import DamagedError
from polyfed.evaluation.results import FilmResult
from polyfed.record import digest
from polyfed.runs.files import write_bytes, write_json, writing

FOLDER = "videos"


def write_film(run: Path, film: FilmResult, gif: bytes) -> Path:
    """Write a film in the place of any of the same policy in the same world, and give its path."""
    path = run / FOLDER / film.file
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    body = {**dataclasses.asdict(film), "gif_sha256": hashlib.sha256(gif).hexdigest()}
    write_bytes(path, gif)
    write_json(path.with_suffix(".json"), {**body, "film_sha256": digest(body)})
    return path


def read_films(run: Path) -> tuple[tuple[FilmResult, bytes], ...]:
    """Every film and its GIF, by name; none where nothing was filmed.

    Raises:
      DamagedError: A film was cut or edited.
    """
    return tuple(_read_film(path) for path in sorted((run / FOLDER).glob("*.json")))


def _read_film(path: Path) -> tuple[FilmResult, bytes]:
    try:
        data = json.loads(path.read_text())
        whole = data.pop("film_sha256") == digest(data)
        gif = path.with_suffix(".gif").read_bytes()
        whole = data.pop("gif_sha256") == hashlib.sha256(gif).hexdigest() and whole
        film = FilmResult(**data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(f"{path} cannot be read: film it again, or delete it with its GIF.") from error
    if not whole:
        raise DamagedError(f"{path} or its GIF was cut or edited: film it again, or delete both.")
    return film, gif
