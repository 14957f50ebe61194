"""What Flower starts for every message: it hands the message to the agent that lives at the site, and ends.

It must start quickly: flwr and a socket, no JAX. Which socket is the SuperNode's to say (`--node-config
'socket="/path"'`), not the server's.
"""

from __future__ import annotations

from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from polyfed.deployment.local_socket import SocketError, call

RECORD = "polyfed"
app = ClientApp()


@app.query()
def relay(message: Message, context: Context) -> Message:
    """The agent's answer, or a sentence that says why there is none."""
    record = message.content.config_records[RECORD]
    phase, data = str(record["phase"]), record["message"]
    socket = str(context.node_config.get("socket", ""))
    try:
        if not isinstance(data, bytes):
            raise SocketError("what came is no message of polyfed")
        answer = call(Path(socket), phase, data)
    except SocketError as error:
        answer = b"-" + str(error).encode()
    return Message(RecordDict({RECORD: ConfigRecord({"answer": answer})}), reply_to=message)
