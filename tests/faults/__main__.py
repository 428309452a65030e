"""`python -m tests.faults`: a server of experiments, with every import done before the first."""

from . import tap

tap.install()
tap.install_sockets()

import gc  # noqa: E402
import importlib  # noqa: E402

from .experiment import serve  # noqa: E402

for module in (
    "cli.app", "cli.run", "cli.resume", "cli.wait", "cli.manager", "cli.ledger", "cli.live",
    "cli.summary", "cli.stop", "cli.interrupt", "cli.each", "engine.session", "engine.runs",
    "ledger.store", "ledger.verify",
    "wire.specfile", "scoring", "scoring.file_exists", "hosts.local",
):  # fmt: skip
    importlib.import_module(f"codewhale_fleet.{module}")
from codewhale_fleet.cli import app  # noqa: E402

app.read(["ledger", "verify"])  # only read: what that imports is imported once
gc.freeze()
serve()
