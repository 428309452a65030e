"""The MIME type that a file's name stands for; what the host's own tables say is not asked.

Promises the same answer on every machine. It reads no file.
"""

from __future__ import annotations

import os

_MIME = {
    ".txt": "text/plain",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".toml": "application/toml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".patch": "text/x-diff",
    ".diff": "text/x-diff",
}
"""Kinds that `mimetypes` does not know on every Python, or that spare its import."""


def mime_of(path: str) -> str:
    """The MIME type that the file's name stands for; the host's own tables are not asked."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in _MIME:
        return _MIME[suffix]
    if not suffix:
        return "application/octet-stream"
    import mimetypes

    return mimetypes.MimeTypes(filenames=()).guess_type(path)[0] or "application/octet-stream"
