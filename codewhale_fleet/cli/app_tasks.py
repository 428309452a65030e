"""The command line, continued: what tasks call, and what answers them. Declared as in app.py."""

from typing import Annotated

import typer

from .app import Arg, Opt, app, command
from .reach import ONE


def _group(name: str, help: str) -> typer.Typer:
    made = typer.Typer(name=name, help=help, rich_markup_mode=None, no_args_is_help=True)
    app.add_typer(made)
    return made


artifact = _group("artifact", "Hand over files, as a task.")
usage = _group("usage", "Say what was used, as a task.")
data = _group("data", "Values that the tasks of a run share.")
secret = _group("secret", "Keep secrets; get one, as a task.")
_RUN = Annotated[
    str | None, Opt("--run", "The run, where no task of it calls this.", metavar="RUN")
]


@command("fleet answer @last/deploy@1 'yes'", reach=ONE)
def answer(
    id: Annotated[str, Arg("The attempt that asks, as fleet status shows it.", "ID")],
    text: Annotated[str, Arg("The answer.", "TEXT")],
) -> None:
    """Answer what a task asks; it goes on with it."""


@command('fleet ask "Deploy to which site?" --choices eu,us --timeout 600', reach=ONE)
def ask(
    question: Annotated[str, Arg("What a person is to decide.", "QUESTION")],
    choices: Annotated[str | None, Opt("--choices", "What may be answered.", metavar="A,B")] = None,
    timeout: Annotated[
        float | None, Opt("--timeout", "Give up after so long.", metavar="SECONDS", min=0)
    ] = None,
) -> None:
    """Ask a person, as a task, and print the answer."""


@command('fleet progress 40 "linking"', reach=ONE)
def progress(
    words: Annotated[list[str], Arg("How far, and what is done now.", "[PERCENT] TEXT")],
) -> None:
    """Say how far it is, as a task."""


@command("fleet checkpoint notes.md", reach=ONE)
def checkpoint(
    note: Annotated[str, Arg("A file of the workspace; else text.", "PATH|TEXT")],
) -> None:
    """Leave a note for the next attempt, as a task."""


@command("fleet artifact add report out/report.html", reach=ONE, group=artifact)
def artifact_add(
    kind: Annotated[str, Arg("What it is.", "KIND")],
    path: Annotated[str, Arg("A file of the workspace.", "PATH")],
) -> None:
    """Hand over a file, as a task."""


@command("fleet usage add --tokens-in 1200 --tokens-out 300", reach=ONE, group=usage)
def usage_add(
    tokens_in: Annotated[
        int | None, Opt("--tokens-in", "Tokens read, those from a cache too.", metavar="N", min=0)
    ] = None,
    tokens_out: Annotated[
        int | None, Opt("--tokens-out", "Tokens written.", metavar="N", min=0)
    ] = None,
    tokens_cached: Annotated[
        int | None, Opt("--tokens-cached", "Of those read, from a cache.", metavar="N", min=0)
    ] = None,
    tool_calls: Annotated[
        int | None, Opt("--tool-calls", "Calls of tools.", metavar="N", min=0)
    ] = None,
    cost_usd: Annotated[float | None, Opt("--cost-usd", "US dollars.", metavar="X", min=0)] = None,
) -> None:
    """Add to what the attempt has used, as a task."""


@command("fleet data put site eu --tags stage=live --run @last", reach=ONE, group=data)
def data_put(
    name: Annotated[str, Arg("Its name.", "NAME")],
    value: Annotated[str | None, Arg("The value; - reads stdin.", "VALUE")] = None,
    file: Annotated[str | None, Opt("--file", "Take it from a file.", metavar="PATH")] = None,
    tags: Annotated[list[str] | None, Opt("--tags", "Tags.", metavar="K=V")] = None,
    run: _RUN = None,
) -> None:
    """Put a value under the next version of its name."""


@command("fleet data get site --version 1 --run @last", reach=ONE, group=data)
def data_get(
    name: Annotated[str, Arg("Its name.", "NAME")],
    version: Annotated[int | None, Opt("--version", "Not the newest.", metavar="N", min=1)] = None,
    run: _RUN = None,
) -> None:
    """Print a value as it was put."""


@command("fleet data list --run @last", reach=ONE, group=data)
def data_list(run: _RUN = None) -> None:
    """List names with their newest version."""


@command("fleet data query 'stage=live,!old' --run @last", reach=ONE, group=data)
def data_query(
    tagexpr: Annotated[
        str, Arg("KEY, !KEY, KEY=VALUE or KEY!=VALUE; several with commas.", "TAGEXPR")
    ],
    run: _RUN = None,
) -> None:
    """List the values whose tags fit."""


@command("fleet data delete site --run @last", reach=ONE, group=data)
def data_delete(
    name: Annotated[str, Arg("Its name.", "NAME")],
    run: _RUN = None,
) -> None:
    """Show a name no more; its versions keep their numbers."""


_KEY = Annotated[str, Arg("Its name.", "KEY")]
_SOURCE = Annotated[str | None, Opt("--source", "file or keyring.", metavar="WHERE")]


@command("fleet secret set NPM_TOKEN", reach=ONE, group=secret)
def secret_set(key: _KEY, source: _SOURCE = None) -> None:
    """Keep a secret; its value comes from stdin, or is asked for."""


@command("fleet secret list", reach=ONE, group=secret)
def secret_list() -> None:
    """List the names of the secrets that are kept."""


@command("fleet secret rm NPM_TOKEN", reach=ONE, group=secret)
def secret_rm(key: _KEY, source: _SOURCE = None) -> None:
    """Keep a secret no more."""


@command("fleet secret get NPM_TOKEN", reach=ONE, group=secret)
def secret_get(key: _KEY) -> None:
    """Print a secret that the task was granted, as that task."""
