"""How environments draw where there is no display: into memory, by what is chosen before it is imported."""

from __future__ import annotations

import ctypes.util
import os
import sys

from polyfed.errors import on_a_line


def draw_into_memory() -> None:
    """Let pygame open no window, and MuJoCo draw by EGL where there is no display; what was chosen already stays.

    >>> draw_into_memory()
    >>> "SDL_VIDEODRIVER" in os.environ
    True
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    chosen = {"MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys()
    if sys.platform == "linux" and not chosen and ctypes.util.find_library("EGL"):
        os.environ["MUJOCO_GL"] = "egl"


def undrawable(name: str, error: Exception) -> ValueError:
    """What to say of a world that fails while it is filmed, as where a driver is asked for that is not there.

    >>> print(undrawable("CartPole", RuntimeError("x11 not available")))  # doctest: +ELLIPSIS
    CartPole cannot be filmed here, RuntimeError: x11 not available. If nothing draws here, film it on a machine...
    """
    return ValueError(
        f"{name} cannot be filmed here, {type(error).__name__}: {on_a_line(error).rstrip('.')}. If nothing draws here, "
        "film it on a machine that can draw: the run folder is all that is needed there."
    )
