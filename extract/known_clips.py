"""Clips as a store's manifest knows them, so that they can be extracted again whatever their folder is called now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from avem.cache import FeatureStore
from avem.files import file_sha256
from avem.guards.inside import is_inside
from avem.records import Clip, Emotion
from avem.text.names import named_path

Entry = dict[str, Any]
"""A row of the manifest."""


def known_clips(store: FeatureStore, clip_ids: Collection[str], root: str | Path | None) -> dict[Path, list[Clip]]:
    """The clips of these ids by the folder that has their files; clips whose file is gone or changed are left out.

    Args:
        store: The store.
        clip_ids: Which clips.
        root: Where the files are now; None: where they were at the extraction.
    """
    folders: dict[Path, list[Clip]] = defaultdict(list)
    wanted = frozenset(clip_ids)
    for entry in store.clips.to_pylist():
        folder = folder_of(store, entry, root) if entry["clip_id"] in wanted else None
        if folder is not None:
            folders[folder].append(_clip(entry, folder))
    return folders


def folder_of(store: FeatureStore, entry: Entry, root: str | Path | None) -> Path | None:
    """The folder that has a clip's file as it was extracted; a dataset may have come from several."""
    name = entry["dataset"]
    known = [Path(path) for key, path in store.roots.items() if key == name or key.startswith(f"{name} (")]
    folders = known if root is None else [Path(root)]
    if root is not None and is_inside(Path(root), name):
        folders.append(Path(root) / name)  # where the folder around the dataset's was named
    return next((folder for folder in folders if _is_unchanged(named_path(folder, entry["path"]), entry)), None)


def _is_unchanged(source: Path, entry: Entry) -> bool:
    """Whether a file is the one that was extracted; its content is read only where its size or time is another."""
    try:
        state = source.stat()
        if (state.st_size, state.st_mtime_ns) == (entry["size_bytes"], entry["modified_ns"]):
            return True
        return bool(file_sha256(source) == entry["sha256"])
    except OSError:
        return False


def _clip(entry: Entry, folder: Path) -> Clip:
    """The clip of an entry; its paths have the files' real names, which may not be UTF-8."""
    emotion = None if entry["emotion"] is None else Emotion(entry["emotion"])
    texts = {name: entry[name] or "" for name in ("clip_id", "dataset", "emotions_raw", "split", "source")}
    paths = {name: entry[name] or "" for name in ("path", "audio_path")}
    real = {name: str(named_path(folder, path).relative_to(folder)) if path else "" for name, path in paths.items()}
    return Clip(emotion=emotion, **texts, **real)
