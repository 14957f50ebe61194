"""A site of a deployment: the agent that lives here, and Flower's process that brings its messages."""

from __future__ import annotations

import random
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from polyfed.deployment.local_socket import listening
from polyfed.deployment.processes import answers, free_port, need_flower, running, tail
from polyfed.deployment.resident import Resident
from polyfed.deployment.serve import check_loopback
from polyfed.deployment.signed_app import TRUSTED
from polyfed.errors import PolyfedError

Say = Callable[[str], None]
GRACE_S = 20.0  # from the word that the run is over until the messenger is ended


class UnreachableError(PolyfedError):
    """The server does not answer."""

    exit_code = 3


def split_address(server: str) -> tuple[str, int]:
    """`HOST:PORT` as a pair.

    >>> split_address("fleet.example.org:9092")
    ('fleet.example.org', 9092)
    >>> split_address("fleet")
    Traceback (most recent call last):
    ValueError: 'fleet' is no address of a server: give HOST:PORT, e.g. fleet.example.org:9092.
    """
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{server!r} is no address of a server: give HOST:PORT, e.g. fleet.example.org:9092.")
    return host.strip("[]"), int(port)


def await_server(server: str, tries: int, say: Say, pause_s: float = 1.0, root: Path | None = None) -> None:
    """Knock until the server answers, each time after a pause twice as long, a minute at most.

    Args:
      server: `HOST:PORT`.
      tries: How often to knock.
      say: Told in sentences of what happens.
      pause_s: Before the second time.
      root: The authority that must have signed its certificate; None: it has none.

    Raises:
      UnreachableError: It did not answer, or its certificate is not to be trusted.
    """
    host, port = split_address(server)
    for attempt in range(tries):
        why = answers(host, port)
        if not why and root is not None:
            why = _greeted(host, port, root)
        if not why:
            return
        if attempt + 1 < tries:
            pause = min(60.0, pause_s * 2**attempt) * random.uniform(0.8, 1.2)  # not all sites at once
            say(f"{server} does not answer ({why}); again in {pause:.0f} s")
            time.sleep(pause)
    raise UnreachableError(
        f"{server} did not answer {tries} times ({why}): is `polyfed serve` running there, and is the port open?"
    )


def _greeted(host: str, port: int, root: Path, timeout_s: float = 20.0) -> str:
    """Why there is no TLS with a server, empty where there is; raises `UnreachableError` if that will not change."""
    try:
        trust = ssl.create_default_context(cafile=str(root))
        with socket.create_connection((host, port), timeout_s) as plain, trust.wrap_socket(plain, server_hostname=host):
            return ""
    except ssl.SSLCertVerificationError as error:
        raise UnreachableError(
            f"{host}:{port} has a certificate that is not to be trusted ({error.verify_message.rstrip('.')}): it must "
            f"be signed by the authority of {root}, be made for {host}, and not have expired."
        ) from error
    except ssl.SSLError as error:
        if "NO_CERTIFICATE_OR_CRL_FOUND" in str(error) or "PEM" in str(error):
            raise ValueError(f"{root} is no certificate: carry over the folder that `polyfed keys` made.") from error
        return f"no TLS: {error.reason or error}"
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__


def site_keys(keys: Path, name: str) -> Path:
    """The folder of a site's keys: the one given, or the one of that name in it."""
    found = keys / name if (keys / name / "client.key").is_file() else keys
    for file in ("ca.pem", "client.key", TRUSTED):
        if not (found / file).is_file():
            raise ValueError(f"{keys} holds no {file} for {name!r}: carry over the folder that `polyfed keys` made.")
    return found.absolute()


def join(
    server: str,
    resident: Resident,
    folder: Path,
    keys: Path | None,
    tries: int,
    say: Say,
    *,
    any_app: bool = False,
) -> None:
    """Take part in a run until it is over.

    Args:
      server: `HOST:PORT`.
      resident: The agent that lives here.
      folder: For the socket and the messenger's log.
      keys: Of this site; None: without TLS, on this machine alone.
      tries: How often the server may not answer in a row, and the messenger may end.
      say: Told in sentences of what happens.
      any_app: Let the server run apps at this site that its fleet's owner has not signed.

    Raises:
      UnreachableError: The server does not answer, or does not let this site in.
      ValueError: The address or the keys are none.
    """
    need_flower()
    host, _ = split_address(server)
    if keys is None:
        check_loopback(host)
    else:
        keys = site_keys(keys, resident.name)
    home = (folder / "flower").absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = home / "agent.sock", home / "supernode.log"
    with listening(files[0], resident.answer):  # type: ignore[arg-type]
        for attempt in range(tries):
            await_server(server, tries, say, root=None if keys is None else keys / "ca.pem")
            if _messenger(server, resident, _trust(keys, any_app), files, say):
                return
            say(f"the messenger ended ({tail(files[1])}); attempt {attempt + 2} of {tries}")
            time.sleep(min(60.0, 2.0**attempt))
    raise UnreachableError(
        f"{server} does not let {resident.name!r} in, or went away: {tail(files[1])} See {files[1]}."
    )


def live(resident: Resident, path: Path, say: Say) -> None:
    """Live behind a socket until the run is over; somebody else starts the SuperNode whose messages come there."""
    with listening(path, resident.answer):  # type: ignore[arg-type]
        say(f"{resident.name} lives behind {path}")
        resident.over.wait()
        time.sleep(1.0)  # its last answer is on the way


def _trust(keys: Path | None, any_app: bool) -> list[str]:
    """What tells a SuperNode whom to trust, and who it is."""
    if keys is None:
        return ["--insecure"]
    signed = [] if any_app else ["--trusted-entities", str(keys / TRUSTED)]
    own = ["--auth-supernode-private-key", str(keys / "client.key")]
    return ["--root-certificates", str(keys / "ca.pem"), *own, *signed]


def _messenger(server: str, resident: Resident, trust: list[str], files: tuple[Path, Path], say: Say) -> bool:
    """Run Flower's SuperNode until the run is over; False where it ends before."""
    path, log = files
    words = ["flower-supernode", "--superlink", server, "--host", "127.0.0.1", "--port", str(free_port())]
    with running([*words, *trust, "--node-config", f'socket="{path}"'], path.parent, log) as process:
        say(f"{resident.name} is at {server}")
        while process.poll() is None:
            if resident.over.wait(timeout=0.5):
                time.sleep(GRACE_S)  # its last answer is on the way
                return True
        return resident.over.is_set()
