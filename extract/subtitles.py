"""What a dataset says of its clips' speech: a column of `clips.csv`, or a subtitle file beside a clip."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from avem.cache import ClipRecord
from avem.cache.manifest.subtitles import TABLE, Subtitle
from avem.cache.windows import whole_id
from avem.errors import AvemError
from avem.extract.datasets.subtitle_files import SUFFIXES, Cue, read_cues, spoken
from avem.records import Clip
from avem.text.escaping import terminal_text

SHOWN = 3
"""Subtitle files that can't be used and are named; the rest is counted."""


@dataclass(slots=True)
class DatasetSubtitles:
    """Subtitles of a dataset's clips and windows."""

    found: dict[str, Subtitle | None] = field(default_factory=dict)
    """Clip id to its subtitle; None where the dataset has none."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Subtitle file to what is wrong with it, as a sentence."""
    without_times: int = 0
    """Windows of clips whose subtitle comes from a table and so does not say when it is spoken."""

    def notes(self) -> list[str]:
        """The same in sentences; none where there are no subtitles."""
        lines = []
        sources = Counter(subtitle.source for subtitle in self.found.values() if subtitle is not None)
        if sources:
            named = ", ".join(f"{count} from {source}" for source, count in sources.items())
            lines.append(f"{sources.total()} of {len(self.found)} clips have a subtitle ({named}).")
        if self.without_times:
            lines.append(
                f"{self.without_times} windows have no subtitle: {TABLE} does not say when it is spoken; put subtitle "
                "files beside the clips, or transcribe them with `avem cache subtitles`."
            )
        if self.unreadable:
            first = " ".join(terminal_text(reason) for reason in list(self.unreadable.values())[:SHOWN])
            more = f" And {len(self.unreadable) - SHOWN} more." if len(self.unreadable) > SHOWN else ""
            count = len(self.unreadable)
            number = "1 subtitle file" if count == 1 else f"{count} subtitle files"
            lines.append(f"{number} can't be used: {first}{more}")
        return lines


def dataset_subtitles(root: Path, clips: Sequence[Clip], records: Sequence[ClipRecord]) -> DatasetSubtitles:
    """Find the subtitles of clips.

    A text in the dataset's table comes first, then `NAME.srt` and `NAME.vtt` beside `NAME.mp4`. Folders are listed once
    each, so that a dataset without subtitle files costs next to nothing.

    Args:
        root: The dataset's folder.
        clips: Its clips, whole.
        records: What the store holds of them: clips and windows.
    """
    beside = _files(root, clips)
    given = {clip.clip_id: clip for clip in clips}
    read: dict[str, list[Cue]] = {}
    result = DatasetSubtitles()
    for record in records:
        clip = given.get(record.clip_id) or given.get(whole_id(record.clip_id))
        subtitle = None
        if clip is None:
            continue
        if clip.subtitle and record.span is None:
            subtitle = Subtitle(clip.subtitle, TABLE)
        elif clip.subtitle:
            result.without_times += 1
        elif (name := beside.get(clip.path)) is not None:
            if name not in read:
                read[name] = _cues(root / name, name, result)
            if name in result.unreadable:
                continue  # what the store holds stays as it is
            said = spoken(read[name], record.span)
            subtitle = Subtitle(said, SUFFIXES[PurePosixPath(name).suffix.lower()]) if said else None
        result.found[record.clip_id] = subtitle
    return result


def _cues(path: Path, name: str, result: DatasetSubtitles) -> list[Cue]:
    try:
        return read_cues(path)
    except AvemError as error:
        result.unreadable[name] = str(error)
        return []


def _files(root: Path, clips: Sequence[Clip]) -> dict[str, str]:
    """The subtitle file of each clip's path, both relative to the root."""
    wanted: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        path = PurePosixPath(clip.path)
        wanted[str(path.parent)][path.stem].append(clip.path)
    found: dict[str, str] = {}
    for folder, stems in wanted.items():
        try:
            names = sorted(path.name for path in (root / folder).iterdir())
        except OSError:
            continue  # its clips can't be read either, which is said of them
        for suffix in reversed(SUFFIXES):  # the first suffix wins
            for name in names:
                path = PurePosixPath(name)
                if path.suffix.lower() == suffix:
                    found |= {clip: str(PurePosixPath(folder, name)) for clip in stems.get(path.stem, ())}
    return found
