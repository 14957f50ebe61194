"""The server of a deployment: Flower's server link behind one port, the app in it, and how it ended."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import ipaddress
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from polyfed.deployment.app_folder import Settings, write_app, write_settings
from polyfed.deployment.carrier import check_name
from polyfed.deployment.front import open_to
from polyfed.deployment.processes import TOO_LONG, ask, free_port, need_flower, running, tail, wait_for_port
from polyfed.deployment.signed_app import SIGNATURE, Signature, check_signed
from polyfed.errors import BusyError, PolyfedError
from polyfed.runs.files import write_bytes, writing

Say = Callable[[str], None]
CONNECTION = "polyfed"
OUTCOME, PROGRESS, SETTINGS, PROBE = "served.json", "serve.log", "run.toml", ".probe"
LOOK_S = 60.0  # between looks at a run's state


STARTS, PAUSE_S = 10, 20.0  # of the app, which Flower ends when a sign of life was late; between them


class DeploymentError(PolyfedError):
    """Flower, or the app in it, failed in a way for which there is no sentence of its own."""

    exit_code = 1


class AppEndedError(DeploymentError):
    """The app ended before the run was over, which may be gone on with."""


@dataclasses.dataclass(frozen=True)
class Address:
    """Where sites reach the server, and with what keys."""

    host: str
    port: int
    keys: Path | None  # the server's folder of keys; None: without TLS, on this machine alone


def server_folder(keys: Path) -> Path:
    """The server's own folder of what `polyfed keys` made."""
    return keys / "server" if (keys / "server").is_dir() else keys


def client_names(keys: Path) -> tuple[str, ...]:
    """The clients of a fleet, in the order of the experiment's; raises `ValueError` where the folder is none."""
    try:
        return tuple(check_name(name) for name in json.loads((keys / "clients.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{keys} holds no keys of a fleet: make them with `polyfed keys`.") from error


def check_loopback(host: str) -> None:
    """Raise `ValueError` unless an address is of this machine alone.

    >>> check_loopback("127.0.0.1")
    >>> check_loopback("0.0.0.0")
    Traceback (most recent call last):
    ValueError: 0.0.0.0 can be reached from outside, where --insecure would let anybody in: give keys, or 127.0.0.1.
    """
    try:
        own = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        own = False
    if not own:
        raise ValueError(
            f"{host} can be reached from outside, where --insecure would let anybody in: give keys, or 127.0.0.1."
        )


def serve(address: Address, settings: Settings, say: Say) -> str:
    """Serve a run until it is over.

    Args:
      address: Where.
      settings: What is run; its folder is a run folder.
      say: Told in sentences of what happens.

    Returns:
      The last digest of the audit log.

    Raises:
      PolyfedError: The run ended before it was done; `exit_code` is that of its reason.
      ValueError: The certificate, a key or the app's signature is none, or the port is taken.
    """
    folder = Path(settings.folder)
    with linked(address, settings, say) as (home, link):
        for attempt in range(STARTS):
            (folder / OUTCOME).unlink(missing_ok=True)
            try:
                return _watch(folder, home, start(home, home / "app"), link, say)
            except AppEndedError as error:
                write_bytes(folder / PROBE, b"")  # a full disk ends it here, with its own sentence
                (folder / PROBE).unlink()
                if attempt + 1 == STARTS:
                    raise
                say(f"{error} It goes on from its last round.")
                time.sleep(PAUSE_S)  # until the one that failed has let go of the run folder
    raise AssertionError("never here")


@contextlib.contextmanager
def linked(address: Address, settings: Settings, say: Say) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """Flower's server link, which knows the clients' keys, behind the one open port; as in `serve`.

    Gives Flower's home in the run folder, with the app in it, and the link's process.
    """
    need_flower()
    if address.keys is None:
        check_loopback(address.host)
    else:
        from polyfed.deployment.keys import expires

        say(f"the certificate expires on {expires(address.keys / 'server.pem'):%d %B %Y}")
    settings.public_keys()
    home = Path(settings.folder, "flower").absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    inner = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_alone(home))
        with writing(home):
            write_app(home / "app")
            write_settings(home / SETTINGS, settings)
        signature = _signature(home / "app", address.keys)
        link = stack.enter_context(_superlink(home, inner, address.keys))
        scheme = "http" if address.keys is None else "https"
        _register(settings, home, address.keys)
        with open_to(address.host, address.port, f"{scheme}://127.0.0.1:{inner}", address.keys, signature):
            say(f"listening on {address.host}:{address.port} for {', '.join(settings.names)}")
            yield home, link


def _signature(app: Path, keys: Path | None) -> Signature | None:
    """That of the app, which sites with keys want to see."""
    if keys is None:
        return None
    signature = Signature.read(keys / SIGNATURE)
    check_signed(app, signature)
    return signature


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold a run folder against a second server."""
    with (home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{home.parent} is served by another process: stop that one, or wait for it.") from None
        yield


@contextlib.contextmanager
def _superlink(home: Path, port: int, keys: Path | None) -> Iterator[subprocess.Popen[bytes]]:
    tls = ["--insecure"]
    if keys is not None:
        files = {"certfile": "server.pem", "keyfile": "server.key", "ca-certfile": "ca.pem"}
        tls = [word for name, file in files.items() for word in (f"--ssl-{name}", str((keys / file).absolute()))]
        tls.append("--enable-supernode-auth")
    log = home / "superlink.log"
    words = ["flower-superlink", "--host", "127.0.0.1", "--port", str(port), "--database", str(home / "state.db")]
    with running([*words, *tls, "--disable-runtime-dependency-installation"], home, log) as process:
        if not wait_for_port("127.0.0.1", port, process):
            raise DeploymentError(f"Flower's server link did not start: {tail(log)} See {log}.")
        trust = {"insecure": True} if keys is None else {"root-certificates": str((keys / "ca.pem").absolute())}
        lines = [f"{name} = {json.dumps(value)}" for name, value in {"address": f"127.0.0.1:{port}", **trust}.items()]
        text = f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n' + "\n".join(lines) + "\n"
        (home / "config.toml").write_text(text)
        yield process


def _register(settings: Settings, home: Path, keys: Path | None) -> None:
    """Tell the server link the keys of the clients; once, for it remembers them."""
    done = home / "registered.json"
    known = json.loads(done.read_text()) if done.is_file() else []
    for name in settings.names if keys is not None else ():
        if name not in known:
            path = Path(settings.keys, f"{name}.pub")
            found = ask(["flwr", "supernode", "register", str(path), CONNECTION, "--name", name], home)
            if found.returncode and "already" not in (found.stdout + found.stderr):
                raise DeploymentError(f"Flower did not take the key of {name!r}: {_last(found)}")
            known.append(name)
            done.write_text(json.dumps(known))


def start(home: Path, app: Path) -> str:
    """Start an app in Flower's server link, and give the run's number; ours is told its settings."""
    told = ["--run-config", str(home / SETTINGS)] if app == home / "app" else []
    found = ask(["flwr", "run", str(app), CONNECTION, *told, "--format", "json"], home)
    if found.returncode == TOO_LONG:
        raise AppEndedError(f"Flower did not start the app: {_last(found)}.")
    try:
        return str(json.loads(found.stdout[found.stdout.index("{") :])["run-id"])
    except (ValueError, KeyError) as error:
        raise DeploymentError(f"Flower did not start the app: {_last(found)}") from error


def _last(found: subprocess.CompletedProcess[str]) -> str:
    return " ".join((found.stderr + found.stdout).split())[-300:]


def _watch(folder: Path, home: Path, run: str, link: subprocess.Popen[bytes], say: Say) -> str:
    """Say what the run says, until it is over."""
    log, looked = folder / PROGRESS, time.monotonic()
    at = log.stat().st_size if log.is_file() else 0
    while True:
        if log.is_file() and log.stat().st_size > at:
            with log.open(errors="replace") as file:
                file.seek(at)
                for line in file.read().splitlines():
                    say(line)
                at = file.tell()
        if (folder / OUTCOME).is_file():
            return _ended(folder)
        if link.poll() is not None:
            raise DeploymentError(f"Flower's server link ended: {tail(home / 'superlink.log')} Resume with --resume.")
        if time.monotonic() - looked > LOOK_S:
            looked = time.monotonic()
            if _is_over(home, run) and not (folder / OUTCOME).is_file():
                raise AppEndedError(f"The app in Flower ended: {tail(home / 'superlink.log')}")
        time.sleep(0.2)


def _is_over(home: Path, run: str) -> bool:
    """Whether Flower says that a run has ended; one that cannot say so now is asked again later."""
    return "finished:" in ask(["flwr", "list", CONNECTION, "--run-id", run, "--format", "json"], home, LOOK_S).stdout


class _Ended(PolyfedError):
    """As the run ended."""


def _ended(folder: Path) -> str:
    outcome = json.loads((folder / OUTCOME).read_text())
    if outcome["code"] in (AppEndedError.exit_code, BusyError.exit_code):
        failed = AppEndedError(f"The app in Flower failed: {outcome['sentence']}")
        failed.exit_code = int(outcome["code"])
        raise failed
    if outcome["code"]:
        error = _Ended(outcome["sentence"])
        error.exit_code = int(outcome["code"])
        raise error
    return str(outcome["audit"])


def write_app_only(folder: Path, settings: Settings) -> None:
    """Make the app's folder alone, for a plain `flwr run`."""
    write_app(folder, dataclasses.replace(settings, folder=os.path.abspath(settings.folder)))
