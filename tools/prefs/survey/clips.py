"""The clips of a survey: which files they are, which are missing, and copies of those that are there."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from avem.cache import FeatureStore
from avem.errors import MissingFileError, PartialFailure
from avem.evaluate.predict.media_files import files_by_name
from avem.guards.inside import inside, media_file
from avem.text.lists import counted
from avem.tools.prefs.survey.items import SurveyItem


@dataclass(frozen=True, slots=True)
class SurveyClips:
    """The clips that a survey's items are about."""

    asked: Mapping[str, str]
    """Clip as items name it to an item that does."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """Those whose file is there."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Those whose file is not, and why; empty where neither a folder nor a store names files."""
    none_because: str = ""
    """Why a store has none of the files; empty if it has some, or there is none."""

    def copy(self, folder: Path) -> dict[str, str]:
        """Copy the files into a survey's folder; returns their paths there."""
        videos: dict[str, str] = {}
        for video, source in self.files.items():
            name = f"{PurePosixPath(video).with_suffix(source.suffix)}"  # a store's name may lack its file's suffix
            target = inside(folder / "media", name, self.asked[video])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            videos[video] = f"media/{name}"
        return videos

    @property
    def remark(self) -> str:
        """That the survey has no clips, where nothing says where they are or a store has none of them; else empty.

        Example:
            >>> SurveyClips({"a.mp4": "q1"}).remark
            'The survey has no clips, and expects them beside it; --media FOLDER or --cache STORE copies them.'
        """
        if not self.asked or self.files or self.absent:
            return ""
        if self.none_because:
            return f"The survey has no clips, and expects them beside it: {self.none_because}."
        return "The survey has no clips, and expects them beside it; --media FOLDER or --cache STORE copies them."

    def check_complete(self) -> None:
        """Say which clips are missing.

        Raises:
            PartialFailure: Some are.
        """
        if self.absent:
            raise PartialFailure(
                f"The survey has no copy of {len(self.absent)} of {counted(len(self.asked), 'clip')}, such as "
                f"{_example(self.absent)}; name the folder of all clips with --media, and run the same command again."
            )


def find_clips(items: Iterable[SurveyItem], media: Path | None, cache: Path | None) -> SurveyClips:
    """Find the files of the clips that items are about.

    Args:
        items: All of the survey.
        media: The clips' folder or the one around it, as of `avem.guards.inside.media_file`, or None.
        cache: A store that names the files, where no folder is given.

    Raises:
        MissingFileError: A folder is given, and none of the files is there; or the store is not there.
        DataError: An item names a clip outside the folder.
    """
    asked: dict[str, str] = {}
    for item in items:
        if item.video:
            asked.setdefault(item.video, item.source or item.id)
    if asked and media is not None:
        found, absent = _below(asked, media)
        if not found:
            raise MissingFileError(
                f"None of the survey's clips is there, such as {_example(absent)}; name with --media the clips' "
                "folder, or the one around it."
            )
        return SurveyClips(asked, found, absent)
    return _of_store(asked, cache) if asked and cache is not None else SurveyClips(asked)


def _of_store(asked: Mapping[str, str], cache: Path) -> SurveyClips:
    """The files as a store names them; it may have none, as where it was made elsewhere or from arrays."""
    store = FeatureStore.open(cache)
    try:
        found, absent = files_by_name(sorted(asked), store)
    except MissingFileError as error:
        return SurveyClips(asked, none_because=str(error).rstrip("."))
    if not found:
        return SurveyClips(asked, none_because=f"{cache} names no file of them, such as {_example(absent)}")
    return SurveyClips(asked, found, absent)


def _below(asked: Mapping[str, str], media: Path) -> tuple[dict[str, Path], dict[str, str]]:
    paths = {video: media_file(media, video, named) for video, named in asked.items()}
    found = {video: path for video, path in paths.items() if path.is_file()}
    return found, {video: f"there is no {video} in {media}/" for video in paths if video not in found}


def _example(absent: Mapping[str, str]) -> str:
    """A missing clip, and why it is missing without what to do about it."""
    name = min(absent)
    return f"{name} ({absent[name].partition('; ')[0].rstrip('.')})"
