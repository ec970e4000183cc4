"""The media files that questions or labels are about: below a folder, or the ones that a store names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from avem.cache.windows import whole_ids
from avem.errors import MissingFileError
from avem.evaluate.predict.clips import ResolvedClips, resolve_clips
from avem.evaluate.predict.subtitles import file_subtitles
from avem.extract.datasets.base import VIDEO_SUFFIXES
from avem.guards.inside import below_dataset
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
    gone: dict[Path, tuple[str, str]] = field(default_factory=dict)
    """Files that the store names and that no longer exist, with the clip's name and path."""

    def subtitles(self) -> dict[Path, str]:
        """What is said in each file, see `avem.evaluate.predict.subtitles.file_subtitles`."""
        return file_subtitles(self.names, self.store)

    def resolve(self, questions: Sequence[Question]) -> ResolvedClips:
        """Find the file of every question's clip; see `avem.evaluate.predict.clips.resolve_clips`."""
        resolved = _resolve(self.names, questions, self.source)
        if self.store is None:
            self._find_below_dataset(resolved, questions)
        if self.gone and resolved.absent:
            left = [question for question in questions if question.id in resolved.absent]
            for name, path in _resolve(self.gone, left, self.source).positions.items():
                resolved.absent[name] = f"its media file {path} does not exist; name the clips' folder with --media"
        return resolved

    def _find_below_dataset(self, resolved: ResolvedClips, questions: Sequence[Question]) -> None:
        """Find clips whose path begins with the folder's old name; see `avem.guards.inside.media_file`."""
        (root,) = map(Path, self.roots.values())
        files: dict[str, list[Path]] = {}
        for file, forms in self.names.items():
            for form in dict.fromkeys(forms):
                files.setdefault(form, []).append(file)
        for question in questions:
            if question.id in resolved.absent:
                found = files.get(below_dataset(root, question.video), [])
                if len(found) == 1:
                    resolved.positions[question.id] = found[0]
                    del resolved.absent[question.id]


def _resolve(files: Mapping[Path, tuple[str, str]], questions: Sequence[Question], source: str) -> ResolvedClips:
    import pyarrow as pa

    table = pa.table({"clip_id": [name for name, _ in files.values()], "path": [path for _, path in files.values()]})
    return resolve_clips(table, questions, source, list(files))


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
    names: dict[Path, tuple[str, str]] = {}
    gone: dict[Path, tuple[str, str]] = {}
    for row, (clip_id, path) in enumerate(zip(ids, paths, strict=True)):
        file = store.media_path(row)
        (names if file.is_file() else gone)[file] = (clip_id, path)
    if not names:
        raise MissingFileError(
            f"None of the media files that {store.location.url} was made from exists; name their folder with --media."
        )
    return MediaFiles(names, store.roots, mask(store.location.url), store, gone)


def files_by_name(videos: Iterable[str], store: FeatureStore) -> tuple[dict[str, Path], dict[str, str]]:
    """The media files of clips, as a store names them, and why others have none.

    Args:
        videos: Clips by name, as a question's `video` is; those without one are left out.
        store: The store.

    Raises:
        MissingFileError: Every file that it was made from is gone.
    """
    questions = [Question(video, video, "", "", (), "") for video in dict.fromkeys(videos) if video]
    resolved = files_of_store(store).resolve(questions)
    files = {name: path for name, path in resolved.positions.items() if isinstance(path, Path)}
    return files, dict(resolved.absent)
