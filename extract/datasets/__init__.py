"""The datasets that avem reads, each known by its layout on disk; one small module a dataset."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from avem.errors import DataError, MissingFileError, SettingError
from avem.extract.datasets import (
    clips_csv,
    cremad,
    dfew,
    emotion_folders,
    ferv39k,
    iemocap,
    mafw,
    media_files,
    meld,
    mer2023,
    mer2025,
    mer2026,
    ravdess,
)
from avem.extract.datasets.base import DatasetReader
from avem.records import Clip
from avem.text.escaping import terminal_text
from avem.text.names import storable

READERS: dict[str, DatasetReader] = {
    module.READER.name: module.READER
    for module in (
        clips_csv,
        dfew,
        mafw,
        mer2023,
        mer2026,
        mer2025,
        meld,
        iemocap,
        cremad,
        ravdess,
        emotion_folders,
        ferv39k,
        media_files,
    )
}
"""Readers by name, in the order in which layouts are tried: a table of clips first, the loosest layouts last."""


def read_dataset(root: str | Path, dataset: str | None = None) -> list[Clip]:
    """All clips of a dataset's root folder, recognised by its layout.

    Args:
        root: The folder.
        dataset: Name of a reader to use whatever the layout looks like; None recognises.

    Returns:
        The clips, in the order in which they will be extracted; never empty, ids unique.

    Raises:
        MissingFileError: There is no such folder.
        SettingError: No reader has that name.
        DataError: No reader knows the layout, the folder holds no clips, or two clips share an id.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise MissingFileError(f"There is no folder {root}; give a dataset's folder, or a folder of clips.")
    if not root.is_dir():
        raise DataError(f"{root} is a file; give the root folder of a dataset.")
    try:
        reader = _pick(root, dataset)
        clips = reader.read(root)
    except OSError as error:
        raise DataError(f"{error.filename or root} can't be read ({error.strerror}).") from error
    if not clips:
        raise DataError(f"{root} holds no clips of the layout {reader.name}: looked for {reader.looked_for}.")
    clips = [_storable(clip) for clip in clips]
    _check_unique(root, clips)
    return clips


def find_reader(root: str | Path, dataset: str | None = None) -> DatasetReader:
    """The reader that `read_dataset` uses for a folder.

    Raises:
        SettingError: No reader has that name.
        DataError: No reader knows the layout.
    """
    return _pick(Path(root).expanduser(), dataset)


def _storable(clip: Clip) -> Clip:
    """The clip with ids and labels that UTF-8 can hold, whatever its file is called; paths stay, to be opened."""
    return replace(
        clip,
        clip_id=storable(clip.clip_id),
        dataset=storable(clip.dataset),
        emotions_raw=storable(clip.emotions_raw),
        split=storable(clip.split),
        source=storable(clip.source),
    )


def _pick(root: Path, dataset: str | None) -> DatasetReader:
    if dataset is not None:
        if dataset not in READERS:
            raise SettingError(f"--dataset {dataset} is not known; known are {', '.join(READERS)}.")
        return READERS[dataset]
    for reader in READERS.values():
        if reader.recognises(root):
            return reader
    looked_for = "; ".join(reader.looked_for for reader in READERS.values())
    raise DataError(f"No dataset is recognised in {root}: looked for {looked_for}. Add a clips.csv to any other tree.")


def _check_unique(root: Path, clips: list[Clip]) -> None:
    paths: dict[str, str] = {}
    for clip in clips:
        other = paths.setdefault(clip.clip_id, clip.path)
        if other != clip.path or not clip.clip_id:
            raise DataError(
                f"{root}: {terminal_text(other)} and {terminal_text(clip.path)} have the same clip id "
                f"{terminal_text(clip.clip_id)}; ids must be unique."
            )
    if len(paths) != len(clips):
        raise DataError(f"{root} names a clip twice; each clip is listed once.")
