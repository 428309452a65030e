"""Names that a real resolver looks up on loopback, and what alerts to them come to.

Run as a module in a network and a mount namespace of its own, where nothing leads outside and
/etc/resolv.conf names the server that it starts here. Prints one JSON object: name -> what came of
it.
"""

import json
import socket
import sys
import tempfile
import threading
from collections import Counter
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from codewhale_fleet.alerts.road import Request, Trouble, post
from codewhale_fleet.alerts.send import deliver
from codewhale_fleet.core.alert_config import Webhook

from .builders import MESSAGE
from .receiver import Receiver, a_receiver

ZONE: dict[str, list[list[str]]] = {
    "plain": [["127.0.0.1"]],
    "turns-bad": [["127.0.0.1"], ["169.254.169.254"]],
    "turns-good": [["169.254.169.254"], ["127.0.0.1"]],
    "mixed": [["169.254.169.254", "127.0.0.1"]],
    "refused-first": [["127.0.0.9", "127.0.0.1"]],
    "metadata6": [["fd00:ec2::254"]],
    "mapped": [["::ffff:169.254.169.254"]],
    "local": [["169.254.7.7"]],
}
"""Name below alerts.test -> its addresses, by how often it was asked for; the last ones stay."""
SILENT = "silent.alerts.test"


class Names:
    """A server of names on 127.0.0.1; `asked` counts questions by name and type."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, int]] = Counter()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        while True:
            query, client = self.socket.recvfrom(4096)
            if answer := self.answer(query):
                self.socket.sendto(answer, client)

    def answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode())
            at += 1 + size
        name, kind = ".".join(labels), int.from_bytes(query[at + 1 : at + 3])
        number = self.asked[name, kind]
        self.asked[name, kind] += 1
        if name == SILENT:
            return b""
        turns = ZONE.get(labels[0]) if name.endswith(".alerts.test") else None
        found = [ip_address(text) for text in (turns or [[]])[min(number, len(turns or [[]]) - 1)]]
        wanted = [one.packed for one in found if (one.version == 4) == (kind == 1)]
        flags = b"\x81\x80" if turns else b"\x81\x83"
        head = query[:2] + flags + b"\0\1" + len(wanted).to_bytes(2) + b"\0\0\0\0"
        body = b"".join(
            b"\xc0\x0c" + kind.to_bytes(2) + b"\0\1\0\0\0\0" + len(one).to_bytes(2) + one
            for one in wanted
        )
        return head + query[12 : at + 5] + body


def tried(name: str, receiver: Receiver, names: Names, *allowed: str) -> dict[str, Any]:
    """What came of one message to a name."""
    adapter = Webhook(url_env="URL", allow_networks=list(allowed))
    before = receiver.connections
    url = f"https://{name}.alerts.test:{receiver.port}/hooks/x"
    outcome = deliver(adapter, MESSAGE, {**receiver.values, "URL": url})
    return {
        "state": outcome.state,
        "words": outcome.words,
        "connections": receiver.connections - before,
        "asked": names.asked[f"{name}.alerts.test", 1],
    }


def main() -> None:
    """Try them all."""
    names = Names()
    with (
        tempfile.TemporaryDirectory() as folder,
        a_receiver(Path(folder), host="0.0.0.0") as receiver,
    ):
        receiver.secret = ""
        made = {name: tried(name, receiver, names) for name in [*ZONE, "nobody"]}
        made["local, allowed"] = tried("local", receiver, names, "169.254.7.0/24")
        request = Request(url=f"https://{SILENT}/", headers={}, body=b"")
        try:
            post(request, receiver.values, seconds=0.5)
        except Trouble as trouble:
            made["silent"] = {"words": trouble.words}
    json.dump(made, sys.stdout)


if __name__ == "__main__":
    main()
