import os

import pytest

from polyfed.environments import drawing
from polyfed.environments.drawing import draw_into_memory, undrawable

CHOSEN = ("SDL_VIDEODRIVER", "MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")


@pytest.fixture
def nothing_chosen(monkeypatch):
    for name in CHOSEN:
        monkeypatch.setenv(name, "")  # so that what is set below is undone
        monkeypatch.delenv(name)
    monkeypatch.setattr(drawing.sys, "platform", "linux")
    monkeypatch.setattr(drawing.ctypes.util, "find_library", lambda name: f"lib{name}.so")


@pytest.mark.usefixtures("nothing_chosen")
def test_without_a_display_no_window_is_asked_for():
    draw_into_memory()
    assert [os.environ.get(name) for name in CHOSEN] == ["dummy", "egl", None, None]


@pytest.mark.usefixtures("nothing_chosen")
@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_where_there_is_a_display_mujoco_chooses_by_itself(name, monkeypatch):
    monkeypatch.setenv(name, ":0")
    draw_into_memory()
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.usefixtures("nothing_chosen")
def test_without_egl_nothing_is_chosen_for_mujoco(monkeypatch):
    monkeypatch.setattr(drawing.ctypes.util, "find_library", lambda name: None)
    draw_into_memory()
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.usefixtures("nothing_chosen")
def test_what_was_chosen_stays(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    draw_into_memory()
    assert [os.environ[name] for name in CHOSEN[:2]] == ["x11", "osmesa"]


def test_what_a_driver_says_becomes_part_of_one_sentence():
    sentence = str(undrawable("Hopper", OSError("no\n  display.")))
    assert sentence.startswith("Hopper cannot be filmed here, OSError: no display. If nothing draws here, film it on")
    assert "\n" not in sentence
