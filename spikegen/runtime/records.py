"""Small JSON files of this package: one document each, which names its format and version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from spikegen.errors import RecordError


def read_record(path: Path, kind: str, made_by: str, form: tuple[str, int], bytes_max: int) -> dict[str, Any]:
    """The document in ``path``; what is in it beside format and version is not checked.

    Args:
        path: the file.
        kind: what it is, for messages, such as "counts file".
        made_by: the command that makes one.
        form: its ``format`` and ``version``.
        bytes_max: size limit [bytes], checked before anything is read.

    Raises:
        RecordError: missing, too large, no JSON, or of another format or version.
    """
    if not path.is_file():
        raise RecordError(f"{path}: there is no such {kind}; make one with {made_by}")
    size = path.stat().st_size
    if size > bytes_max:
        raise RecordError(f"{path}: {size} bytes, a {kind} has at most {bytes_max}")
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a readable {kind}: {error}") from error
    name, version = form
    if not isinstance(document, dict) or document.get("format") != name:
        raise RecordError(f"{path}: not a {kind} (its format is not {name!r})")
    if document.get("version") != version:
        raise RecordError(f"{path}: version is {document.get('version')!r}, this spikegen reads version {version}")
    return document
