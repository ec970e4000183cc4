"""JSON files of one sealed object: written with a checksum, and never read as something else than what was written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.files import write_atomic
from avem.guards.secrets import mask_json
from avem.reading import advise, read_json
from avem.sealed.checksums import seal, unseal


def write_sealed(path: Path, record: dict[str, Any], indent: int | None = 1) -> None:
    """Write a JSON object with its checksum, without the secrets of this run, whole or not at all.

    Args:
        path: The file; its folder is made if missing.
        record: The object.
        indent: Spaces a level; None for one line.
    """
    write_atomic(path, json.dumps(seal(mask_json(plain(record))), ensure_ascii=False, indent=indent) + "\n")


def plain(record: dict[str, Any]) -> dict[str, Any]:
    """The record as reading its JSON gives it: keys are text, which decides their order in a checksum."""
    content: dict[str, Any] = json.loads(json.dumps(record))
    return content


def read_sealed(path: Path, error: Callable[[str], Exception] = DataError) -> dict[str, Any]:
    """Read a JSON object and compare it with its checksum; one from before checksums passes.

    Args:
        path: The file.
        error: What to raise where it is no JSON object.

    Raises:
        DataError: It is not what was written; the message names the file.
    """
    try:
        content = read_json(path, dict, surrogates=True)
    except DataError as fault:
        raise error(advise(fault, "restore it from a copy, or make it again")) from fault
    return unseal(content, str(path))
