import dataclasses
import json

import pytest

from polyfed.errors import DamagedError
from polyfed.evaluation.results import FilmResult
from polyfed.runs.kept_films import FOLDER, read_films, write_film

FILM = FilmResult("fedavg-seed-0-global-in-client-1.gif", "fedavg", "global", 1, 0, score=12.5, steps=20)


def test_what_was_never_filmed_has_no_films(tmp_path):
    assert read_films(tmp_path) == ()


def test_films_come_back_by_name_and_the_newest_stays(tmp_path):
    other = dataclasses.replace(FILM, file="fedavg-seed-0-client-1-in-client-1.gif", policy="client-1")
    write_film(tmp_path, FILM, b"GIF old")
    write_film(tmp_path, other, b"GIF other")
    again = dataclasses.replace(FILM, score=99.0)
    assert write_film(tmp_path, again, b"GIF new") == tmp_path / FOLDER / FILM.file
    assert read_films(tmp_path) == ((other, b"GIF other"), (again, b"GIF new"))
    told = json.loads((tmp_path / FOLDER / FILM.file).with_suffix(".json").read_text())
    assert set(told) == {f.name for f in dataclasses.fields(FilmResult)} | {"gif_sha256", "film_sha256"}


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda told, gif: gif.write_bytes(b"GIF bu"), "was cut or edited: film it again, or delete both"),
        (lambda told, gif: edit(told, score=500.0), "was cut or edited: film it again, or delete both"),
        (lambda told, gif: gif.unlink(), "cannot be read: film it again, or delete it with its GIF"),
        (lambda told, gif: told.write_text("{"), "cannot be read"),
        (lambda told, gif: told.write_text("[]"), "cannot be read"),
        (lambda told, gif: told.write_text("{}"), "cannot be read"),
        (lambda told, gif: edit(told, colour="red"), "cut or edited|cannot be read"),
    ],
    ids=["gif-cut", "score-edited", "no-gif", "half-written", "list", "empty", "field-too-many"],
)
def test_a_film_that_was_edited_is_not_shown(damage, sentence, tmp_path):
    gif = write_film(tmp_path, FILM, b"GIF bytes")
    damage(gif.with_suffix(".json"), gif)
    with pytest.raises(DamagedError, match=sentence):
        read_films(tmp_path)
