"""What is copied to a host so that work can run there: the worker runtime, named by its digest.

Promises: the same source gives the same bytes, so a host that has a digest is never sent it again;
what runs there needs nothing but python3 of version 3.9 or newer, and so does the part of the
command line that tasks call. `command` starts a relay from what the host has, and asks for the
bundle over its own stdout and stdin where it is missing. Of those that are there the three used
last stay, and those that something runs from.
"""

from __future__ import annotations

import io
import shlex
import zipfile
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

import codewhale_fleet

_ENTRY = (
    "import os,sys\n"
    "if sys.version_info<(3,9):\n"
    " v='%d.%d'%sys.version_info[:2]\n"
    ' sys.exit(print(\'\\n!unreached {"sentence":"its python3 is %s, not 3.9 or newer",\'\n'
    ' \'"hint":"Install a newer one there, first on PATH","final":true}\'%v))\n'
    "d=sys.argv.pop(1)\n"
    "c=os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')\n"
    "p=c+'/codewhale-fleet/'+d\n"
    "if not os.path.isdir(p):\n"
    " import io,shutil,time,zipfile\n"
    " def take(n):\n"
    "  b=b''\n"
    "  while len(b)<n:\n"
    "   r=os.read(0,n-len(b))\n"
    "   if not r: sys.exit(1)\n"
    "   b+=r\n"
    "  return b\n"
    " print('\\n!need {}',flush=True)\n"
    " b=take(int(take(12)))\n"
    " t=p+'.%d'%os.getpid()\n"
    " try:\n"
    "  os.makedirs(t,0o700)\n"
    "  zipfile.ZipFile(io.BytesIO(b)).extractall(t)\n"
    " except OSError as e:\n"
    '  sys.exit(print(\'\\n!unreached {"sentence":"the runtime cannot be kept in its %s: %s"}\'\n'
    "   %(c,e.strerror)))\n"
    " try: os.rename(t,p)\n"
    " except OSError: shutil.rmtree(t)\n"
    " try:\n"
    "  a=os.path.realpath(os.path.dirname(p))\n"
    "  used=b''\n"
    "  for n in filter(str.isdigit,os.listdir('/proc')):\n"
    "   try:\n"
    "    with open('/proc/'+n+'/cmdline','rb') as f: used+=f.read()\n"
    "   except OSError: pass\n"
    "  names=os.listdir(a)\n"
    "  kept=sorted((a+'/'+n for n in names if '.' not in n),key=os.path.getmtime)[:-3]\n"
    "  for n in names:\n"
    "   o=a+'/'+n\n"
    "   if '.' in n and os.path.getmtime(o)<time.time()-3600: kept.append(o)\n"
    "  for o in kept:\n"
    "   if os.fsencode(o) not in used: shutil.rmtree(o,ignore_errors=True)\n"
    " except OSError: pass\n"
    "else: os.utime(p)\n"
    "sys.path.insert(0,p)\n"
    "from codewhale_fleet.worker.relay import main\n"
    "main()\n"
)
"""What python runs there first. What copying needs is imported where a copy is asked for."""

_OF_TASKS = (
    "__init__", "artifact", "ask", "checkpoint", "common", "data", "hot", "inside", "progress",
    "secret", "table", "there", "usage",
)  # fmt: skip
"""The part of the command line that tasks call there."""

RELAY = "--relay"
"""What `fleet` is called with to become a relay."""


@cache
def digest() -> str:
    """What the bundle is called: a digest of its files' names and contents."""
    whole = sha256()
    for name, data in _files():
        whole.update(b"%s %d\n" % (name.encode(), len(data)) + data)
    return whole.hexdigest()


@cache
def bundle() -> bytes:
    """A zip of the package's part that runs on hosts; packed once a host lacks it."""
    found = io.BytesIO()
    with zipfile.ZipFile(found, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in _files():
            made.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return found.getvalue()


def _files() -> Iterator[tuple[str, bytes]]:
    top = Path(codewhale_fleet.__file__).parent
    parts = ["__init__", "errors", *(f"cli/{one}" for one in _OF_TASKS)]
    for path in [*(top / f"{one}.py" for one in parts), *sorted((top / "worker").glob("*.py"))]:
        yield f"codewhale_fleet/{path.relative_to(top)}", path.read_bytes()


def command(state: str, root: str, *, trial: bool = False, program: str = "") -> str:
    """The command line, for a POSIX shell, that becomes a relay there; a trial leaves no traces.

    `program`: a `fleet` that is there, and whose own runtime is taken instead.
    """
    if program:
        first = shlex.quote(program)
        if program.startswith("~/"):
            first = f'"$HOME"/{shlex.quote(program[2:])}'
        words = [RELAY]
    else:
        first = "python3"
        script = f'exec(bytes.fromhex("{_ENTRY.encode().hex()}"))'  # csh and fish expand nothing
        words = ["-I", "-S", "-c", script, digest()]
    words += [state, root, *(["trial"] if trial else [])]
    return " ".join(("exec", first, *map(shlex.quote, words)))
