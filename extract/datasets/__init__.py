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
    meld,
    mer2023,
    mer2025,
    mer2026,
    plain_clips,
    ravdess,
)
from avem.extract.datasets.base import SOUND_SUFFIXES, VIDEO_SUFFIXES, DatasetReader, unlistable
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
        plain_clips,
    )
}
"""Readers by name, in the order in which layouts are tried: a table of clips first, the loosest layouts last."""


TABLES = (".csv", ".tsv", ".txt")
"""Suffixes of a file that is taken for a table of clips; any other file is one clip."""


def read_dataset(root: str | Path, dataset: str | None = None, name: str | None = None) -> list[Clip]:
    """All clips of a dataset's root folder, recognised by its layout; or those of a table, or of one media file.

    Folders below the root that can't be listed are left out; `avem.extract.survey.survey` names them.

    Args:
        root: The folder; or a CSV file as `clips.csv`, under any name; or one clip. The paths of a file's clips are
            relative to its folder (`dataset_folder`).
        dataset: Name of a reader to use whatever the layout looks like; None recognises.
        name: What to call the dataset instead of its own name, also in the ids of its clips.

    Returns:
        The clips, in the order in which they will be extracted; never empty, ids unique.

    Raises:
        MissingFileError: There is no such folder.
        SettingError: No reader has that name.
        DataError: No reader knows the layout, the folder can't be listed or holds no clips, or two clips share an id.
    """
    root = Path(root).expanduser()
    if not root.exists():
        raise MissingFileError(
            f"There is no file or folder {root}; give a folder of clips, a table of them, or a clip."
        )
    try:
        clips = _read_folder(root, dataset) if root.is_dir() else _read_file(root, dataset)
    except OSError as error:
        raise _unreadable(error, root) from error
    clips = [_storable(clip if name is None else _renamed(clip, name)) for clip in clips]
    _check_unique(root, clips)
    return clips


def dataset_folder(root: str | Path) -> Path:
    """The folder that the paths of `read_dataset`'s clips are relative to."""
    root = Path(root).expanduser()
    return root if root.is_dir() else root.parent


def _read_folder(root: Path, dataset: str | None) -> list[Clip]:
    next(root.iterdir(), None)  # a root that can't be listed has no clips that could be left out
    reader = _pick(root, dataset)
    clips = reader.read(root)
    if not clips:
        if closed := unlistable(root):
            raise _unreadable(closed[0], root)
        raise DataError(f"{root} holds no clips of the layout {reader.name}: looked for {reader.looked_for}.")
    return clips


def _read_file(path: Path, dataset: str | None) -> list[Clip]:
    """The clips of a table, or the one clip that a media file is: with the label that its folder gives it."""
    if path.suffix.lower() in TABLES:
        clips = clips_csv.read_clips_table(path)
        if not clips:
            raise DataError(f"{path} lists no clips.")
        return clips
    if path.suffix.lower() not in (*VIDEO_SUFFIXES, *SOUND_SUFFIXES):
        raise DataError(f"{path} is neither a folder, nor a CSV table of clips, nor a video or a sound.")
    reader = plain_clips.READER if path.name.startswith(".") else _pick(path.parent, dataset)
    listed = [] if reader is plain_clips.READER else reader.read(path.parent)
    found = next((clip for clip in listed if clip.path == path.name), None)
    if found is None and (dataset is None or reader is plain_clips.READER):
        found = plain_clips.read_one(path)
    if found is None:
        raise DataError(f"{path} is not a clip of the layout {reader.name}: looked for {reader.looked_for}.")
    return [found]


def _renamed(clip: Clip, name: str) -> Clip:
    """The clip in a dataset of another name."""
    own = clip.clip_id.removeprefix(f"{clip.dataset}/")
    return replace(clip, dataset=name, clip_id=f"{name}/{own}")


def find_reader(root: str | Path, dataset: str | None = None) -> DatasetReader:
    """The reader that `read_dataset` uses for a folder.

    Raises:
        SettingError: No reader has that name.
        DataError: No reader knows the layout.
    """
    return _pick(dataset_folder(root), dataset)


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
        if _recognises(reader, root):
            return reader
    if closed := unlistable(root):
        raise _unreadable(closed[0], root)
    looked_for = "; ".join(reader.looked_for for reader in READERS.values())
    raise DataError(f"No dataset is recognised in {root}: looked for {looked_for}.")


def _recognises(reader: DatasetReader, root: Path) -> bool:
    """Whether a root has a reader's layout; what it has in folders that let nobody look does not count."""
    try:
        return reader.recognises(root)
    except OSError:
        return False


def _unreadable(error: OSError, root: Path) -> DataError:
    return DataError(f"{error.filename or root} can't be read ({error.strerror}).")


def _check_unique(root: Path, clips: list[Clip]) -> None:
    paths: dict[str, str] = {}
    for clip in clips:
        if clip.clip_id in paths and paths[clip.clip_id] == clip.path:
            raise DataError(f"{root} names the clip {terminal_text(clip.clip_id)} twice; list it once.")
        other = paths.setdefault(clip.clip_id, clip.path)
        if other != clip.path or not clip.clip_id:
            raise DataError(
                f"{root}: {terminal_text(other)} and {terminal_text(clip.path)} have the same clip id "
                f"{terminal_text(clip.clip_id)}; ids must be unique."
            )
