"""Clips from a browser: read within limits into a private folder, and removed as soon as they are answered."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any

from avem.errors import AvemError, DataError, SettingError
from avem.extract.defaults import SOUND_SUFFIXES, VIDEO_SUFFIXES
from avem.reading import parse_json
from avem.tools.ask.inputs import AskedClip, check_question

PREFIX = "avem-serve-"
"""Of the private folder, followed by the process that owns it."""
HEAD_BYTES = 64 * 1024
"""Longest description in front of the files."""
LONGEST_NAME = 200
"""Characters of a file's name that are shown."""
CHUNK = 1 << 20
CLEARINGS = 5
"""Tries to remove the private folder, in which a thread may still be making a file."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What a browser sent."""

    question: str
    clip: AskedClip
    against: AskedClip | None
    ticket: str
    """Names the request, for its place in the queue."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for uploads that only this user can read; removed with all that is in it.

    Folders of processes that were killed are removed as well.
    """
    _sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        yield folder
    finally:
        for _ in range(CLEARINGS):
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break


@contextmanager
def received(body: BufferedIOBase, length: int, folder: Path, most_bytes: int) -> Iterator[Upload]:
    """Read an upload; its files are there while the block runs.

    The body is one line of JSON, `{"question", "ticket", "files": [{"name", "size"}, ...]}`, and the files' bytes right
    after it. Names are shown and never used as paths.

    Args:
        body: Where it comes from.
        length: Bytes that the request promises.
        folder: The private folder.
        most_bytes: Limit of all files together.

    Raises:
        DataError: It is not such a body, or ends early.
        SettingError: It is too large, or the question is empty.
    """
    if length > most_bytes + HEAD_BYTES:
        raise SettingError(
            f"The clip is larger than {most_bytes / 1e6:.0f} MB; start avem serve with a larger --limit."
        )
    line = body.readline(min(HEAD_BYTES, length))
    if not line.endswith(b"\n"):
        raise DataError("The request is not one of this page's.")
    question, ticket, files = _described(line)
    if len(line) + sum(size for _, size in files) != length:
        raise DataError("The request's files are not as long as it says.")
    room = Path(tempfile.mkdtemp(dir=folder))
    try:
        clips = [_stored(body, name, size, room / str(number)) for number, (name, size) in enumerate(files)]
        yield Upload(question, clips[0], clips[1] if len(clips) > 1 else None, ticket)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _described(line: bytes) -> tuple[str, str, list[tuple[str, int]]]:
    """Question, ticket, and name and size of each file."""
    head: dict[str, Any] = parse_json(line, "The request", dict)
    files = head.get("files")
    if not isinstance(files, list) or not 1 <= len(files) <= 2 or not all(isinstance(file, dict) for file in files):
        raise DataError("The request has no clip; drop one on the page.")
    described = [(file.get("name"), file.get("size")) for file in files]
    question, ticket = head.get("question"), head.get("ticket")
    if not isinstance(question, str) or not isinstance(ticket, str) or len(ticket) > LONGEST_NAME:
        raise DataError("The request has no question.")
    found = [
        (name, size)
        for name, size in described
        if isinstance(name, str) and isinstance(size, int) and not isinstance(size, bool) and size >= 0
    ]
    if len(found) != len(files):
        raise DataError("The request does not say how large its files are.")
    return check_question(question), ticket, found


def _stored(body: BufferedIOBase, name: str, size: int, path: Path) -> AskedClip:
    """Write one file under a name of ours, with the suffix of its kind."""
    suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    path = path.with_suffix(suffix if suffix in (*VIDEO_SUFFIXES, *SOUND_SUFFIXES) else ".bin")
    left = size
    with path.open("xb") as file:
        while left:
            block = body.read(min(CHUNK, left))
            if not block:
                raise DataError("The upload ended early; drop the clip again.")
            file.write(block)
            left -= len(block)
    shown = name.replace("\\", "/").rpartition("/")[2][:LONGEST_NAME]
    return AskedClip(shown or "clip", path)


def _sweep(folder: Path) -> None:
    """Remove private folders whose process is gone."""
    for old in folder.glob(f"{PREFIX}*"):
        owner = old.name.removeprefix(PREFIX).partition("-")[0]
        with suppress(OSError, AvemError):
            if owner.isdigit() and not _lives(int(owner)) and _is_ours(old):
                shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether a real folder, and no link, belongs to this user."""
    return not folder.is_symlink() and (os.name == "nt" or folder.lstat().st_uid == os.getuid())


def _lives(process: int) -> bool:
    if os.name == "nt":
        return True  # asking could end it
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
