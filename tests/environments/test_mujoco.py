"""The models that MuJoCo compiles for clients, and the door to it."""

import subprocess
import sys
import textwrap
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from polyfed.environments import BODIES, HalfCheetah, Hopper, InvertedPendulum, Uniform, quantities
from polyfed.environments import mujoco as door
from polyfed.errors import MissingExtraError

try:
    door.load_mujoco()
except MissingExtraError as missing:
    pytest.skip(str(missing), allow_module_level=True)

bodies = pytest.mark.parametrize("environment", BODIES, ids=lambda e: e.gymnasium_id)


def changed_params(environment, factors):
    known = quantities(environment.params_class)
    values = {name: np.float32(known[name]["default"] * f) for name, f in factors.items()}
    return environment.params_class(**values)


@bodies
def test_the_nominal_quantities_are_the_descriptions(environment):
    """Every nominal value is what MuJoCo reads, so that leaving it untouched is right."""
    model, nominal = door.compile_body(type(environment), environment.params_class()).model, environment.params_class()
    assert model.opt.gravity[2] == -nominal.gravity
    for limb, name in environment.limbs.items():
        radius, half_length, _ = model.geom(name).size
        assert getattr(nominal, f"{limb}_radius") == pytest.approx(radius, rel=1e-12)
        assert getattr(nominal, f"{limb}_half_length") == pytest.approx(half_length, rel=1e-12)
    assert {geom.name for geom in map(model.geom, range(1, model.ngeom))} == set(environment.limbs.values())


@bodies
def test_every_quantity_changes_the_model(environment):
    family = type(environment)
    nominal = door.compile_body(family, environment.params_class()).model
    parts = ("geom_size", "geom_friction", "body_mass", "body_inertia")
    for name in door.body_quantities(family):
        model = door.compile_body(family, changed_params(environment, {name: 1.3})).model
        moved = {p for p in parts if not np.array_equal(getattr(model, p), getattr(nominal, p))}
        if name == "gravity":
            assert model.opt.gravity[2] == pytest.approx(-9.81 * 1.3)
            assert moved == set()
        elif name == "friction":
            assert moved == {"geom_friction"}
            np.testing.assert_allclose(model.geom_friction, 1.3 * nominal.geom_friction, rtol=1e-6)
        elif name == "gear":
            assert moved == set()
            np.testing.assert_allclose(model.actuator_gear[:, 0], 130.0)
        elif name.endswith(("mass", "density")):
            assert moved == {"body_mass", "body_inertia"}
        else:
            assert moved == {"geom_size", "body_mass", "body_inertia"}


def test_masses_follow_from_the_shapes():
    capsule = lambda radius, half: 1000 * np.pi * radius**2 * (2 * half + 4 / 3 * radius)  # noqa: E731
    for radius in (0.04, 0.06):
        mass = door.compile_body(Hopper, Hopper.params_class(leg_radius=radius)).model.body("leg").mass[0]
        assert mass == pytest.approx(capsule(radius, 0.25), rel=1e-6)
    for mass in (7.0, 14.0):
        model = door.compile_body(HalfCheetah, HalfCheetah.params_class(total_mass=mass, back_thigh_radius=0.06)).model
        assert model.body_mass.sum() == pytest.approx(mass)


def test_a_longer_pole_still_stands_on_its_hinge():
    for half in (0.2, 0.45):
        model = door.compile_body(InvertedPendulum, InvertedPendulum.params_class(pole_half_length=half)).model
        assert np.linalg.norm(model.geom("cpole").pos) == pytest.approx(half, rel=1e-6)
        assert model.geom("cpole").size[1] == pytest.approx(half, rel=1e-6)


def test_bodies_that_differ_in_the_last_bit_are_two():
    """The published cache had a name of two digits, so that 0.00 and 1.00 shared a file (Jin et al. 2022)."""
    near = [np.float32(0.15), np.nextafter(np.float32(0.15), np.float32(1)), np.float32(1.15)]
    found = [door.compile_body(HalfCheetah, HalfCheetah.params_class(back_thigh_half_length=x)) for x in near]
    assert len({id(body) for body in found}) == 3
    assert [body.model.geom("bthigh").size[1] for body in found] == [float(x) for x in near]
    assert door.compile_body(HalfCheetah, HalfCheetah.params_class(back_thigh_half_length=near[0])) is found[0]
    noisy = HalfCheetah.params_class(back_thigh_half_length=near[0], reset_noise=0.5)
    assert door.compile_body(HalfCheetah, noisy) is found[0]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"leg_radius": -0.1}, r"cannot build this Hopper \(leg_radius=-0.1\): size 0 must be positive in geom"),
        ({"torso_density": -1.0}, r"\(torso_density=-1\): mass, inertia or density are negative in geom"),
        ({"leg_half_length": float("nan")}, r"\(leg_half_length=nan\)"),
    ],
)
def test_a_body_that_cannot_be_is_refused(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        door.compile_body(Hopper, Hopper.params_class(**values))


@bodies
def test_half_more_or_less_of_everything_stays_finite(environment):
    names = [n for n in quantities(environment.params_class) if n != "reset_noise"]
    params = jax.tree.map(np.asarray, Uniform(names, rho=0.5, seed=1).params(environment, 16))
    actions = np.random.default_rng(0).uniform(-1, 1, (200, environment.num_motors))
    for client in range(16):
        body = door.compile_body(type(environment), jax.tree.map(lambda x, c=client: x[c], params))
        physics = np.concatenate([environment.rest, np.zeros(2 * len(environment.rest))])
        for action in actions:
            physics = body.step(physics, action)
            assert np.abs(physics[1 : 2 * len(environment.rest)]).max() < 1e3
        assert [warning.number for warning in body.data().warning] == [0] * len(body.data().warning)


def test_doubles_go_through_floats_without_loss():
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 7)) * 10.0 ** random.integers(-12, 12, size=(100, 7))
    np.testing.assert_array_equal(door.join_floats(door.split_doubles(x)), x)


def test_threads_do_not_share_a_state():
    body = door.compile_body(Hopper, Hopper.params_class())
    actions = np.random.default_rng(0).uniform(-1, 1, (300, 3))

    def live(out, sign):
        physics = np.concatenate([Hopper.rest, np.zeros(12)])
        for action in actions:
            physics = body.step(physics, sign * action)
        out.append(physics)

    alone, together = ([], []), ([], [])
    for out, sign in zip(alone, (1, -1), strict=True):
        live(out, sign)
    threads = [
        threading.Thread(target=live, args=(out, s)) for out, s in zip(together, (1, -1), strict=True) for _ in "ab"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, both in zip(alone, together, strict=True):
        for physics in both:
            np.testing.assert_array_equal(physics, one[0])


def test_importing_the_environments_imports_neither_mujoco_nor_gymnasium():
    code = "import sys, polyfed.environments; sys.exit(bool({'mujoco', 'gymnasium'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_mujoco_a_sentence_says_what_to_install():
    code = textwrap.dedent("""
        import sys
        sys.modules["mujoco"] = None
        from polyfed.environments import Hopper
        from polyfed.errors import MissingExtraError
        try:
            Hopper().check()
        except MissingExtraError as error:
            assert 'pip install "polyfed[mujoco]"' in str(error)
        else:
            sys.exit(1)
    """)
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_film_shows_each_state_and_the_changed_body():
    environment = Hopper()
    state, _ = environment.reset(jax.random.key(0), environment.nominal())
    fallen = state.physics.at[0, 2].set(1.0)
    states = jax.tree.map(lambda *x: jnp.stack(x), state, eqx.tree_at(lambda s: s.physics, state, fallen))
    try:
        thin, thick = (door.render(environment, Hopper.params_class(leg_radius=r), states) for r in (0.03, 0.09))
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert [(frame.shape, frame.dtype) for frame in thin] == [((400, 600, 3), np.uint8)] * 2
    assert np.mean(thin[0] != thin[1]) > 0.01
    assert np.mean(thin[0] != thick[0]) > 0.01
