"""What a dataset's folder holds besides its clips: folders that can't be listed, links in circles, unknown folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from avem.cache.records import ClipFailure
from avem.emotions import parse_emotion
from avem.extract.datasets.base import SOUND_SUFFIXES, VIDEO_SUFFIXES, skipped
from avem.extract.labels import MOST, did_you_mean
from avem.reading import irregular
from avem.records import Clip
from avem.text.escaping import terminal_text
from avem.text.names import storable


def survey(root: Path, clips: Sequence[Clip], *, by_folder: bool) -> tuple[list[ClipFailure], list[str]]:
    """Look through a dataset's whole folder for what its reader can't read or skips.

    Hidden folders, and the `lost+found` of a file system's root, hold no clips. Links to folders are not followed.

    Args:
        root: The dataset's folder.
        clips: What the reader found there.
        by_folder: Whether labels are the names of folders, so that videos elsewhere have an unknown label.

    Returns:
        Folders whose clips nobody can see; and sentences that name what else was skipped.
    """
    failures: list[ClipFailure] = []
    listed = {path for clip in clips for path in (clip.path, clip.audio_path)}
    strange: list[str] = []
    unlisted: Counter[str] = Counter()
    for folder, entry in _entries(root, failures):
        path = f"{folder}/{entry.name}" if folder else entry.name
        media = entry.name.lower().endswith((*VIDEO_SUFFIXES, *SOUND_SUFFIXES))
        if path in listed:
            continue
        if problem := _problem(entry, media):
            strange.append(f"{terminal_text(path)} {problem}")
        elif by_folder and folder and entry.name.lower().endswith(VIDEO_SUFFIXES):
            unlisted[folder] += 1
    return failures, [*_folder_lines(unlisted), *_listing("Passed over", strange)]


def _entries(root: Path, failures: list[ClipFailure]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that is not a folder below a root, and links, with the folder that each is in; unreadable ones are noted."""
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(root / folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            name = storable(folder or root.name)
            reason = f"{terminal_text(name)} can't be read ({error.strerror}); its clips are missing"
            failures.append(ClipFailure(f"{name}/", "file", reason))
            continue
        for entry in entries:
            if skipped(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(f"{folder}/{entry.name}" if folder else entry.name)
            else:
                yield folder, entry


def _problem(entry: os.DirEntry[str], media: bool) -> str:
    """Why an entry is skipped; empty for an ordinary file."""
    if entry.is_symlink():
        try:
            target = Path(entry.path).resolve(strict=True)
        except (OSError, RuntimeError):  # RuntimeError is what Python 3.11 says of a loop
            return "is a link that leads nowhere, or to itself" if media or _loops(entry) else ""
        if target.is_dir() and Path(entry.path).parent.resolve().is_relative_to(target):
            return "is a link back to a folder that it is in"
    if not media or entry.is_file():
        return ""
    return irregular(Path(entry.path).stat().st_mode)


def _loops(entry: os.DirEntry[str]) -> bool:
    """Whether following a link never ends; a link to nothing does."""
    try:
        Path(entry.path).stat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _folder_lines(unlisted: Counter[str]) -> list[str]:
    """A sentence about folders whose videos have no label because their name is not an emotion."""
    named = [
        f"{terminal_text(folder)}/ "
        f"({count} {'video' if count == 1 else 'videos'}{did_you_mean(folder.rpartition('/')[2])})"
        for folder, count in sorted(unlisted.items())
        if not parse_emotion(folder.rpartition("/")[2])
    ]
    return _listing("Folders whose name is not an emotion, skipped", named)


def _listing(what: str, named: Sequence[str]) -> list[str]:
    more = f", and {len(named) - MOST} more" if len(named) > MOST else ""
    return [f"{what}: {', '.join(named[:MOST])}{more}."] if named else []
