from __future__ import annotations

import os
import subprocess
import sys

import pytest

from polyfed import devices
from polyfed.cli import main


@pytest.fixture
def before_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has not imported JAX."""
    monkeypatch.delitem(sys.modules, "jax")
    for name in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS", "POLYFED_DEVICES"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.mark.usefixtures("before_jax")
def test_every_core_becomes_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "num_cores", lambda: 7)
    devices.use_every_core()
    assert os.environ["JAX_NUM_CPU_DEVICES"] == "7"
    assert "--xla_cpu_multi_thread_eigen=false" in os.environ["XLA_FLAGS"]


@pytest.mark.usefixtures("before_jax")
def test_the_environment_may_ask_for_another_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYFED_DEVICES", "3")
    devices.use_every_core()
    assert os.environ["JAX_NUM_CPU_DEVICES"] == "3"


@pytest.mark.usefixtures("before_jax")
def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "5")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=true --xla_dump_to=x")
    devices.use_every_core()
    assert os.environ["JAX_NUM_CPU_DEVICES"] == "5"
    assert os.environ["XLA_FLAGS"] == "--xla_cpu_multi_thread_eigen=true --xla_dump_to=x"


@pytest.mark.usefixtures("before_jax")
def test_a_number_of_host_devices_in_the_flags_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
    devices.use_every_core()
    assert "JAX_NUM_CPU_DEVICES" not in os.environ


def test_nothing_changes_once_jax_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert "jax" in sys.modules
    devices.use_every_core()
    assert "XLA_FLAGS" not in os.environ


def test_cores_are_those_of_this_process() -> None:
    assert devices.num_cores() == len(os.sched_getaffinity(0))


def test_jax_sees_as_many_devices_as_were_asked_for() -> None:
    code = "import polyfed, jax; print(len(jax.devices('cpu')))"
    environment = {n: v for n, v in os.environ.items() if n not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    found = subprocess.run(
        [sys.executable, "-c", code], env={**environment, "POLYFED_DEVICES": "3"}, capture_output=True, text=True
    )
    assert found.stdout.strip() == "3", found.stderr


@pytest.mark.parametrize("number", ["x", "0", "-1", "2.5", "²"])
def test_a_number_of_devices_that_cannot_be_is_refused_in_a_sentence(
    number: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POLYFED_DEVICES", number)
    with pytest.raises(SystemExit) as ended:
        main(["list"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"polyfed: POLYFED_DEVICES = {number!r} is no number of devices")


@pytest.mark.usefixtures("before_jax")
def test_importing_passes_over_a_number_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYFED_DEVICES", "x")
    devices.use_every_core()
    assert os.environ["JAX_NUM_CPU_DEVICES"] == str(devices.num_cores())
