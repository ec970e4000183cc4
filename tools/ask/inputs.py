"""What is asked about what: clips, folders and questions from the command line; a wrong path is said before torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.errors import DataError, MediaError, MissingFileError, SettingError, UnknownClipError
from avem.extract.defaults import SOUND_SUFFIXES, VIDEO_SUFFIXES
from avem.guards.inputs import need_file
from avem.reading import irregular, parse_json
from avem.text.csv_tables import read_table_text
from avem.tools.ask.near import near_files, need_clips

MEDIA_SUFFIXES = (*VIDEO_SUFFIXES, *SOUND_SUFFIXES)
LONGEST_QUESTION = 4000
"""Characters."""


@dataclass(frozen=True, slots=True)
class AskedClip:
    """One clip to ask about."""

    name: str
    """As it is shown: the path or the id that was given."""
    path: Path | None = None
    """The media file; None for a clip of a store that is named by its id."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about what."""

    clips: tuple[AskedClip, ...]
    questions: tuple[str, ...]
    """Empty: the model's usual question."""


def find_asked(items: Sequence[str], questions: Path | None = None, *, store: Path | None = None) -> Asked:
    """Sort the command line's arguments into clips and a question.

    The last argument is the question, unless it is a path or looks like a media file, or a file of questions is given.

    Args:
        items: Files, folders, clip ids and the question.
        questions: A file of questions.
        store: A store, in which a clip may be named by its id.

    Raises:
        MissingFileError: A file or folder is not there, or a folder holds no clips.
        UnknownClipError: The store holds no clip of a name.
        SettingError: There is no clip.
        DataError: The file of questions holds none.
    """
    asked = [] if questions is None else read_questions(questions)
    names = list(items)
    if questions is None and names and not _is_clip(names[-1], store is not None):
        asked = [check_question(names.pop())]
    if not names:
        raise SettingError("There is no clip to ask about; give a file or a folder, then the question.")
    try:
        clips = [clip for name in names for clip in _clips(name, store)]
    except (MissingFileError, UnknownClipError) as error:
        words = [name for name in names if not _exists(name) and name.strip("?!.,").isalpha()]
        if len(words) < 2:
            raise
        said = " ".join(words)
        raise SettingError(
            f'There is no clip {words[0]!r}; if that belongs to the question, put it in quotes: "{said} ...".'
        ) from error
    return Asked(tuple(dict.fromkeys(clips)), tuple(asked))


def find_clip(name: str, *, store: Path | None = None) -> AskedClip:
    """One clip by its path, or by its id where a store is given.

    Raises:
        MissingFileError: There is no such file.
        UnknownClipError: The store holds no such clip.
        SettingError: It is a folder.
    """
    if Path(name).is_dir():
        raise SettingError(f"{name} is a folder; give one clip.")
    return _clips(name, store)[0]


@contextmanager
def as_other(clip: AskedClip) -> Iterator[None]:
    """Say of an error that it is about the clip that others are compared with.

    Raises:
        SettingError: Instead of any error about the clip.
    """
    try:
        yield
    except (MediaError, DataError, UnknownClipError, MissingFileError) as error:
        raise SettingError(f"The other clip, {clip.name}, can't be used: {str(error).rstrip('.')}.") from error


def check_question(text: str) -> str:
    """A question without outer white space.

    Raises:
        SettingError: It is empty, or longer than any question.
    """
    text = text.strip()
    if not text:
        raise SettingError("The question is empty; write one after the clip.")
    if len(text) > LONGEST_QUESTION:
        raise SettingError(f"The question has {len(text)} characters; {LONGEST_QUESTION} are allowed.")
    return text


def read_questions(path: Path) -> list[str]:
    """Questions from a file: one a line, or JSON: a list, or an object a line, with `question` in each.

    Raises:
        MissingFileError: There is no such file.
        DataError: It holds no question, or an entry has none.
    """
    need_file(path, "--questions", "file of questions")
    text = read_table_text(path).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    if path.suffix == ".json":
        entries = parse_json(text.encode(), str(path), list)
    elif path.suffix == ".jsonl":
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        entries = [parse_json(line.encode(), f"{path} line {number}") for number, line in lines]
    else:
        entries = [line for line in text.splitlines() if line.strip()]
    found = [_question(entry, f"{path} entry {number}") for number, entry in enumerate(entries, start=1)]
    if not found:
        raise DataError(f"{path} holds no question; write one a line.")
    return list(dict.fromkeys(found))


def _question(entry: Any, where: str) -> str:
    text = entry.get("question") if isinstance(entry, dict) else entry
    if not isinstance(text, str) or not text.strip():
        raise DataError(f"{where} has no question; give text, or an object with `question`.")
    return check_question(text)


def _is_clip(name: str, ids: bool) -> bool:
    """Whether an argument names a clip, there or not."""
    return _exists(name) or name.lower().endswith(MEDIA_SUFFIXES) or (ids and "/" in name and " " not in name)


def _exists(name: str) -> bool:
    try:
        return bool(name) and Path(name).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # longer than any name, with a NUL, or of an unknown user
        return False


def _clips(name: str, store: Path | None) -> list[AskedClip]:
    path = Path(name).expanduser() if _exists(name) else None
    if path is None and store is not None and not name.lower().endswith(MEDIA_SUFFIXES):
        need_clips([name], store)
        return [AskedClip(name)]
    if path is None:
        near = near_files(name)
        advice = (
            f"did you mean {' or '.join(near)}?"
            if near
            else "give a media file or a folder, then the question in quotes."
        )
        raise MissingFileError(f"There is no clip {name}; {advice}")
    if path.is_dir():
        found = sorted(each for each in path.rglob("*") if each.name.lower().endswith(MEDIA_SUFFIXES))
        clips = [AskedClip(str(each), each) for each in found if each.is_file() and not each.name.startswith(".")]
        if not clips:
            raise MissingFileError(f"There are no clips below {name}; avem reads {', '.join(MEDIA_SUFFIXES)}.")
        return clips
    if problem := irregular(path.stat().st_mode):
        raise MissingFileError(f"{name} {problem}; give a media file.")
    return [AskedClip(name, path)]
