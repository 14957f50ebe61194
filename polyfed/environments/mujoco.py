"""The models of bodies: each client's own, compiled by MuJoCo from a description that Gymnasium ships.

A client's quantities are written into the description and MuJoCo compiles that, so that masses and inertias follow
from the shapes. This file is the door to `mujoco`, which it imports when a body is first needed. Models are kept by
the exact bytes of their quantities: where a name is rounded to two digits, as in the published code of Jin et al.
(2022), two bodies can share one model.

References: todorov2012mujoco, jin2022qavg.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import sys
import threading
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from polyfed.environments.drawing import draw_into_memory
from polyfed.environments.world import Params, quantities
from polyfed.errors import MissingExtraError, on_a_line

if TYPE_CHECKING:
    from polyfed.environments.body import Body

MAX_BODIES = 1024  # compiled models kept, about 0.5 MB each
NOT_BODY = ("reset_noise",)  # quantities of an episode, not of the model

_compiling = threading.Lock()

LOGGER = logging.getLogger(__name__)


def load_mujoco() -> Any:
    """The package `mujoco`.

    Raises:
      MissingExtraError: It is not installed.
      ValueError: It cannot be imported, for `MUJOCO_GL` names nothing that draws here.

    >>> load_mujoco().__name__
    'mujoco'
    """
    if "mujoco" not in sys.modules:
        draw_into_memory()  # MuJoCo chooses how to draw when it is imported
    try:
        import mujoco
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            'Bodies are simulated by MuJoCo, which is not installed: pip install "polyfed[mujoco]".'
        ) from error
    except Exception as error:  # a library of graphics may fail in any way
        raise ValueError(
            f"MuJoCo cannot be imported with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')}, {type(error).__name__}: "
            f"{on_a_line(error)}. Set it to egl, or leave it out."
        ) from error
    mujoco.set_mju_user_warning(LOGGER.warning)  # else it writes a file into whatever folder one stands in
    return mujoco


def assets() -> Path:
    """The folder in which Gymnasium keeps the descriptions of its bodies; Gymnasium itself is not imported.

    >>> (assets() / "hopper.xml").exists()
    True
    """
    found = importlib.util.find_spec("gymnasium")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "envs" / "mujoco" / "assets"


def split_doubles(x: Float[np.ndarray, "... n"]) -> Float[np.ndarray, "... 3 n"]:
    """Doubles as three floats each, whose sum in double precision is exact (24 + 24 + 5 of 53 bits).

    Exact for absolute values in about `[1e-22, 3e38]` and 0; below that the last bits are lost.

    >>> x = np.array([np.pi, -1 / 3])
    >>> split_doubles(x).dtype, bool(np.all(join_floats(split_doubles(x)) == x))
    (dtype('float32'), True)
    """
    high = x.astype(np.float32)
    rest = x - high
    middle = rest.astype(np.float32)
    return np.stack([high, middle, (rest - middle).astype(np.float32)], axis=-2)


def join_floats(parts: Float[np.ndarray, "... 3 n"]) -> Float[np.ndarray, "... n"]:
    """The doubles of which `split_doubles` made three floats each.

    >>> join_floats(np.array([[1.0], [2.0**-30], [0.0]], np.float32)).tolist()
    [1.0000000009313226]
    """
    parts = parts.astype(np.float64)
    return parts[..., 0, :] + (parts[..., 1, :] + parts[..., 2, :])


def body_quantities(family: type[Body]) -> tuple[str, ...]:
    """The quantities of a family that its model depends on, in order.

    >>> from polyfed.environments import Hopper
    >>> body_quantities(Hopper)[:3]
    ('gravity', 'friction', 'torso_density')
    """
    return tuple(name for name in quantities(family.params_class) if name not in NOT_BODY)


class CompiledBody:
    """A model and, for each thread that steps it, room for its state.

    >>> from polyfed.environments import Hopper
    >>> body = compile_body(Hopper, Hopper.params_class())
    >>> body.step(np.zeros(18), np.zeros(3)).shape
    (18,)
    """

    def __init__(self, model: Any, frame_skip: int):
        mujoco = load_mujoco()
        self.model, self.frame_skip = model, frame_skip
        kept = mujoco.mjtState
        self._kept = int(kept.mjSTATE_QPOS | kept.mjSTATE_QVEL | kept.mjSTATE_WARMSTART)
        self._new, self._set, self._get, self._step = (
            mujoco.MjData,
            mujoco.mj_setState,
            mujoco.mj_getState,
            mujoco.mj_step,
        )
        self._data: dict[int, Any] = {}

    def data(self) -> Any:
        """This thread's room."""
        thread = threading.get_ident()
        if thread not in self._data:
            self._data[thread] = self._new(self.model)
        return self._data[thread]

    def place(self, data: Any, physics: Float[np.ndarray, " n"]) -> None:
        """Put positions, velocities and accelerations into a room."""
        self._set(self.model, data, physics, self._kept)

    def step(self, physics: Float[np.ndarray, " n"], action: Float[np.ndarray, " u"]) -> Float[np.ndarray, " n"]:
        """The next positions, velocities and accelerations."""
        data, after = self.data(), np.empty_like(physics)
        self.place(data, physics)
        data.ctrl[:] = action
        self._step(self.model, data, nstep=self.frame_skip)
        self._get(self.model, data, after, self._kept)
        return after


def compile_body(family: type[Body], params: Params) -> CompiledBody:
    """The model of one client's body; the same quantities give the same object.

    Raises:
      ValueError: MuJoCo refuses it.
      MissingExtraError: MuJoCo is not installed.

    >>> from polyfed.environments import Hopper
    >>> compile_body(Hopper, Hopper.params_class(leg_radius=-0.04))
    Traceback (most recent call last):
    ValueError: MuJoCo cannot build this Hopper (leg_radius=-0.04): size 0 must be positive in geom. Change it.
    """
    values = np.asarray([getattr(params, name) for name in body_quantities(family)], np.float32)
    return compile_body_of_bytes(family, values.tobytes())


@functools.lru_cache(MAX_BODIES)
def compile_body_of_bytes(family: type[Body], quantity_bytes: bytes) -> CompiledBody:
    """As `compile_body`, of the quantities in the order of `body_quantities`, as the bytes of their float32 numbers.

    >>> from polyfed.environments import Hopper
    >>> nominal = Hopper.params_class()
    >>> numbers = np.array([getattr(nominal, name) for name in body_quantities(Hopper)], np.float32)
    >>> compile_body_of_bytes(Hopper, numbers.tobytes()) is compile_body(Hopper, nominal)
    True
    """
    mujoco = load_mujoco()
    known, names = quantities(family.params_class), body_quantities(family)
    given = dict(zip(names, np.frombuffer(quantity_bytes, np.float32), strict=True))
    changed = {n: float(x) for n, x in given.items() if x != np.float32(known[n]["default"])}
    with _compiling:
        # MuJoCo will drop this attribute; what it does is done below, with the same result to the last bit
        text = (assets() / family.xml).read_text().replace(' settotalmass="14"', "")
        spec = mujoco.MjSpec.from_string(text)
        _change(spec, family, changed)
        try:
            model = spec.compile()
        except ValueError as error:
            reason = str(error).splitlines()[0].removeprefix("Error: ")
            shown = ", ".join(f"{n}={float(str(given[n])):g}" for n in changed)
            raise ValueError(f"MuJoCo cannot build this {family.__name__} ({shown}): {reason}. Change it.") from error
        if "total_mass" in known:
            mujoco.mj_setTotalmass(model, changed.get("total_mass", known["total_mass"]["default"]))
            mujoco.mj_setConst(model, mujoco.MjData(model))
    return CompiledBody(model, family.frame_skip)


def _change(spec: Any, family: type[Body], changed: Mapping[str, float]) -> None:
    """Write the changed quantities into a description."""
    if "gravity" in changed:
        spec.option.gravity = [0.0, 0.0, -changed["gravity"]]
    if "friction" in changed:
        for geom in spec.geoms:
            geom.friction = changed["friction"] * np.asarray(geom.friction)
    if "gear" in changed:
        for motor in spec.actuators:
            motor.gear[0] = changed["gear"]
    for limb, name in family.limbs.items():
        geom = spec.geom(name)
        if f"{limb}_radius" in changed:
            geom.size[0] = changed[f"{limb}_radius"]
        if f"{limb}_density" in changed:
            geom.density = changed[f"{limb}_density"]
        if f"{limb}_half_length" in changed:
            _set_half_length(geom, changed[f"{limb}_half_length"], limb in family.standing)


def _set_half_length(geom: Any, value: float, standing: bool) -> None:
    """About the middle; of a limb that is standing, the first end stays where it is."""
    ends = np.asarray(geom.fromto, float).reshape(2, 3)
    if np.isnan(ends[0, 0]):
        geom.size[1] = value
        return
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    middle = ends[0] + value * along if standing else ends.mean(axis=0)
    geom.fromto = np.concatenate([middle - value * along, middle + value * along])


def render(environment: Body, params: Params, states: Any) -> list[np.ndarray]:
    """Film of an episode by MuJoCo's own renderer; needs no display where there is EGL.

    Args:
      environment: A family of bodies.
      params: The world of one client, scalars.
      states: States in order, leaves `[T]`.

    Returns:
      `T` pictures `[400, 600, 3]`, uint8, RGB.

    Raises:
      MissingExtraError: MuJoCo is not installed, or finds nothing to draw with.

    >>> import jax
    >>> from polyfed.environments import Hopper
    >>> state, _ = Hopper().reset(jax.random.key(0), Hopper().nominal())
    >>> frames = render(Hopper(), Hopper.params_class(), jax.tree.map(lambda x: x[None], state))  # doctest: +SKIP
    """
    mujoco, body = load_mujoco(), compile_body(type(environment), params)
    data, frames = mujoco.MjData(body.model), []
    try:
        with warnings.catch_warnings(action="ignore"):  # the error below says it
            renderer = mujoco.Renderer(body.model, 400, 600)
    except Exception as error:  # each way of drawing raises an error of its own
        raise MissingExtraError(
            f"MuJoCo finds nothing to draw with ({type(error).__name__}): install EGL, and set MUJOCO_GL=egl before "
            "MuJoCo is imported."
        ) from error
    camera = "track" if body.model.ncam else -1  # else the free one, which sees all of it
    with renderer:
        for costly in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[costly] = 0  # without a graphics card they take most of the time
        for physics in np.asarray(states.physics):
            body.place(data, join_floats(physics))
            mujoco.mj_forward(body.model, data)
            renderer.update_scene(data, camera=camera)
            frames.append(np.array(renderer.render(), np.uint8))
    return frames
