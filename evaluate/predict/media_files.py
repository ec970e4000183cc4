"""The media files that questions or labels are about: below a folder, or the ones that a store names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from avem.cache.windows import whole_ids
from avem.errors import MissingFileError
from avem.evaluate.predict.clips import ResolvedClips, resolve_clips
from avem.evaluate.predict.subtitles import file_subtitles
from avem.extract.datasets.base import VIDEO_SUFFIXES
from avem.guards.secrets import mask
from avem.records import Question

if TYPE_CHECKING:
    from avem.cache import FeatureStore


@dataclass(frozen=True, slots=True)
class MediaFiles:
    """Media files that questions or labels are about."""

    names: dict[Path, tuple[str, str]]
    """File to the clip's name and path."""
    roots: dict[str, str]
    """Dataset to the folder that clips' paths are relative to."""
    source: str
    """The folder or store that the clips came from."""
    store: FeatureStore | None = None
    """The store, where they came from one."""

    def subtitles(self) -> dict[Path, str]:
        """What is said in each file, see `avem.evaluate.predict.subtitles.file_subtitles`."""
        return file_subtitles(self.names, self.store)

    def resolve(self, questions: Sequence[Question]) -> ResolvedClips:
        """Find the file of every question's clip; see `avem.evaluate.predict.clips.resolve_clips`."""
        import pyarrow as pa

        named = self.names.values()
        table = pa.table({"clip_id": [name for name, _ in named], "path": [path for _, path in named]})
        return resolve_clips(table, questions, self.source, list(self.names))


def find_files(media_root: Path | None, cache: Path) -> MediaFiles:
    """The clips' files: below a folder if one is named, else the ones that a store names.

    Raises:
        MissingFileError: There are none.
    """
    from avem.cache import FeatureStore

    return files_of_folder(media_root) if media_root else files_of_store(FeatureStore.open(cache))


def files_of_folder(root: Path) -> MediaFiles:
    """Every video file below a folder.

    Raises:
        MissingFileError: There is no such folder, or no video in it.
    """
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES) if root.is_dir() else []
    if not paths:
        raise MissingFileError(f"There are no video files below {root}; name the clips' folder with --media.")
    names = {}
    for path in paths:
        inside = path.relative_to(root)
        names[path] = (inside.with_suffix("").as_posix(), inside.as_posix())
    return MediaFiles(names, {"media": str(root)}, str(root))


def files_of_store(store: FeatureStore) -> MediaFiles:
    """The media files that a store was made from, where they still exist; windows share their whole clip's file.

    Raises:
        MissingFileError: None of them exists any more.
    """
    ids, paths = whole_ids(store.clips), store.clips["path"].to_pylist()
    names = {}
    for row, (clip_id, path) in enumerate(zip(ids, paths, strict=True)):
        if (file := store.media_path(row)).is_file():
            names[file] = (clip_id, path)
    if not names:
        raise MissingFileError(
            f"None of the media files that {store.location.url} was made from exists; name their folder with --media."
        )
    return MediaFiles(names, store.roots, mask(store.location.url), store)
