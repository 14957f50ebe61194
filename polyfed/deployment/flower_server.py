"""Flower as a carrier: the server's loop in a ServerApp, whose Grid brings bytes to sites and back."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from polyfed.deployment.answer import opened
from polyfed.deployment.app_folder import Settings
from polyfed.deployment.carrier import Carrier, Phase, Replies, check_name
from polyfed.errors import PolyfedError, on_a_line
from polyfed.runs.files import write_json

RECORD = "polyfed"  # as in `flower_client`
OUTCOME = "served.json"
PROGRESS = "serve.log"
FIRST_LOOK_S, LONGEST_LOOK_S = 0.1, 1.0  # between two looks for answers
app = ServerApp()


class FlowerCarrier(Carrier):
    """The clients behind a Grid.

    Who a client is, the SuperLink says: it knows nodes by the keys that they proved to have, and the server knows
    which key is whose. Without keys, on one machine alone, clients are believed who they say that they are.

    Args:
      grid: Of the ServerApp.
      keys: The public key of each client, PEM; empty where nodes have none.
    """

    def __init__(self, grid: Grid, keys: Mapping[str, bytes]):
        self.grid = grid
        self.keys = {key.strip(): name for name, key in keys.items()}
        self._claimed: dict[int, str] = {}

    def nodes(self) -> dict[str, int]:
        """The node of each client that is connected now."""
        if not self.keys:
            return self._claims()
        found = {}
        for node in self.grid.get_nodes():
            name = self.keys.get(node.public_key.strip())
            if name is not None:
                found[name] = node.node_id
        return found

    def clients(self) -> tuple[str, ...]:
        """Who is connected now."""
        return tuple(self.nodes())

    def _claims(self) -> dict[str, int]:
        """By what nodes say; each is asked once."""
        there = {node.node_id for node in self.grid.get_nodes()}
        if new := there - {*self._claimed}:
            replies, _ = self._send("name", dict.fromkeys(new, b""), 60.0)
            for node, data in replies:
                with contextlib.suppress(Exception):  # who has no name is nobody
                    self._claimed[node] = check_name(opened(data, 1, 256)[0].decode())
        return {name: node for node, name in self._claimed.items() if node in there}

    def exchange(self, phase: Phase, messages: Mapping[str, bytes], deadline_s: float) -> Replies:
        """Send through the Grid, and look for answers until all are there or the deadline has passed."""
        nodes = self.nodes()
        failed = {name: "its site is not connected" for name in messages if name not in nodes}
        names = {nodes[name]: name for name in messages if name in nodes}
        arrived, errors = self._send(phase, {node: messages[name] for node, name in names.items()}, deadline_s)
        failed |= {names[node]: error for node, error in errors.items()}
        return Replies(tuple((names[node], data) for node, data in arrived), failed)

    def _send(
        self, phase: str, messages: Mapping[int, bytes], deadline_s: float
    ) -> tuple[list[tuple[int, bytes]], dict[int, str]]:
        """`(answers in the order of arrival, errors)`, by node."""
        began, arrived, errors = time.monotonic(), list[tuple[int, bytes]](), dict[int, str]()
        pause = FIRST_LOOK_S
        if not messages:
            return arrived, errors
        outgoing = [
            Message(
                RecordDict({RECORD: ConfigRecord({"phase": phase, "message": data})}),
                dst_node_id=node,
                message_type="query",
                ttl=deadline_s + 60.0,
            )
            for node, data in messages.items()
        ]
        waiting = dict(zip(self.grid.push_messages(outgoing), messages, strict=False))
        errors |= {node: "Flower did not take the message" for node in messages if node not in waiting.values()}
        while (open_ := [ident for ident in waiting if ident]) and time.monotonic() - began < deadline_s:
            for reply in self.grid.pull_messages(open_):
                node = waiting.pop(reply.metadata.reply_to_message_id, None)
                if node is None:
                    continue
                if reply.has_error():
                    errors[node] = f"its site failed: {on_a_line(Exception(reply.error.reason))}"
                else:
                    arrived.append((node, _bytes_of(reply)))
            time.sleep(pause)
            pause = min(LONGEST_LOOK_S, 1.1 * pause)  # every look costs the server link some work
        return arrived, errors


def _bytes_of(reply: Message) -> bytes:
    """What a reply holds; nothing, where it holds what nobody asked for."""
    records = reply.content.config_records
    data = records[RECORD].get("answer") if RECORD in records and len(reply.content) == 1 else None
    return data if isinstance(data, bytes) else b""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what a run folder still lacks, and leave beside it how it ended."""
    settings = Settings.of(context.run_config)
    folder = Path(settings.folder)
    with (folder / PROGRESS).open("a", buffering=1) as log, contextlib.redirect_stderr(log):
        outcome = _outcome(lambda: _serve(grid, settings))
    write_json(folder / OUTCOME, outcome)
    if outcome["code"]:
        raise SystemExit(outcome["code"])


def _outcome(work: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"code": 0, "sentence": "", "audit": work()}
    except PolyfedError as error:
        return {"code": error.exit_code, "sentence": str(error)}
    except ValueError as error:
        return {"code": 2, "sentence": str(error)}
    except Exception as error:
        return {"code": 1, "sentence": f"{on_a_line(error)}", "trace": traceback.format_exc()}


def _serve(grid: Grid, settings: Settings) -> str:
    from polyfed.console import Monitor
    from polyfed.deployment import deploy

    carrier = FlowerCarrier(grid, settings.public_keys())
    if not deploy.is_over(Path(settings.folder)):
        wait_for(carrier, settings.names, settings.terms.quorum, settings.patience_s)
    with Monitor() as monitor:
        how: dict[str, Any] = {
            "names": settings.names,
            "terms": settings.terms,
            "known": settings.identities(),
            "say": monitor.say,
            "force": settings.force,
        }
        return deploy.go_on(Path(settings.folder), carrier, monitor, **how)


def wait_for(carrier: Carrier, names: tuple[str, ...], quorum: int, patience_s: float) -> None:
    """Wait until all are connected; after a while the quorum will do, and without it the run ends.

    Raises:
      QuorumError: Too few are there.
    """
    from polyfed.errors import QuorumError

    began = time.monotonic()
    while len(there := set(carrier.clients()) & set(names)) < len(names):
        if time.monotonic() - began > patience_s:
            missing = ", ".join(name for name in names if name not in there)
            if len(there) >= quorum:
                return
            raise QuorumError(
                f"Only {len(there)} of {len(names)} sites are connected after {patience_s:g} s, and {quorum} are the "
                f"quorum: {missing} did not come. Start them, then resume."
            )
        time.sleep(1.0)


def read_outcome(folder: Path) -> dict[str, Any] | None:
    """How a run ended; None while it goes on."""
    path = folder / OUTCOME
    return json.loads(path.read_text()) if path.is_file() else None
