"""Asking models that are shown media files: the clips' files, what such a model is, and the questioner around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from avem.cache.windows import whole_ids
from avem.errors import MediaError, MissingFileError
from avem.evaluate.emorealm.questions import prompt_text
from avem.evaluate.predict.clips import Clips, resolve_clips
from avem.evaluate.predict.feature_model import STREAMS, Ask, Keep, check_style, options_of
from avem.extract.datasets.base import VIDEO_SUFFIXES
from avem.extract.decode.media import read_waveform, sample_frames
from avem.files import file_sha256, json_sha256
from avem.guards.secrets import mask
from avem.records import Question

if TYPE_CHECKING:
    from avem.cache.store import FeatureStore

KEY_VERSION = 1
"""Raised when the same key would mean another answer."""

INSTRUCTION = "Answer with the letter of the right option alone."
"""Added to questions that show their options: chat models otherwise explain themselves at length."""

CHAT_TOKENS = 64
"""Longest reply in tokens."""

FRAMES = 8
"""Frames of a clip, as many as the paper's models see."""

Take: TypeAlias = Callable[[str, dict[str, Any]], None]
"""Takes one answer: its key, and `{"reply": text}` or `{"logprobs": [...]}`."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One request to a model that is shown media files."""

    key: str
    way: str
    text: str
    options: tuple[str, ...]
    path: Path | None
    """None: text alone."""
    streams: tuple[str, ...]
    max_new_tokens: int

    def media(self, frames: int) -> ShownMedia:
        """Decode what the model is to be shown.

        Raises:
            MediaError: None of the wanted streams can be decoded.
        """
        if self.path is None:
            return ShownMedia()
        problems, video, audio = [], None, None
        if "video" in self.streams:
            try:
                video = sample_frames(self.path, frames)
            except MediaError as error:
                problems.append(str(error))
        if "audio" in self.streams:
            try:
                audio = read_waveform(self.path)
            except MediaError as error:
                problems.append(str(error))
        if video is None and audio is None:
            raise MediaError(" ".join(problems))
        return ShownMedia(video, audio)


@dataclass(frozen=True, slots=True)
class ShownMedia:
    """What a model is shown of a clip."""

    frames: npt.NDArray[np.uint8] | None = None
    """uint8 [T, H, W, 3], RGB."""
    samples: npt.NDArray[np.float32] | None = None
    """float32 [samples] at 16 kHz, mono."""


class MediaModel(Protocol):
    """A model that is shown media files."""

    source: str
    """Folder, hub id or address."""
    sees: tuple[str, ...]
    """Streams it can take."""
    ways: tuple[str, ...]
    """Those of `avem.evaluate.emorealm.results.WAYS` that it can answer in."""

    def identity(self) -> dict[str, Any]:
        """Everything besides the question and the clip that its answers depend on, as JSON."""

    def answer_all(self, requests: Sequence[Shown], take: Take) -> dict[str, str]:
        """Answer requests, handing each answer to `take` as it comes; gives keys without one, with the reason."""


class MediaAsker:
    """Puts questions to a model that is shown media files.

    Args:
        model: Who is asked.
        names: Media file to the clip's name and path as results show them.
        style: `letters` (options shown, and an instruction to name the letter) or `cloze` (question alone).
        max_new_tokens: Longest reply in tokens.
        streams: What the model is to be shown; of these, what it can take.
        roots: Dataset to the folder that clips' paths are relative to.
        place: What the clips came from, for the result.
    """

    def __init__(
        self,
        model: MediaModel,
        names: Mapping[Path, tuple[str, str]],
        style: str,
        max_new_tokens: int = CHAT_TOKENS,
        streams: Sequence[str] = STREAMS,
        *,
        roots: Mapping[str, str] | None = None,
        place: str = "",
    ) -> None:
        check_style(style)
        self.model, self.names, self.style, self.max_new_tokens = model, names, style, max_new_tokens
        self.streams = tuple(stream for stream in streams if stream in model.sees)
        self.ways = model.ways
        self._store = {"path": place, "clips": len(names), "roots": dict(roots or {})}
        self._identity = model.identity()
        self._hashes: dict[Path, str] = {}

    def has_media(self, place: Path | None) -> bool:
        """Whether the model can take anything of a clip."""
        return place is not None and bool(self.streams)

    def ask(self, question: Question, way: str, place: Path | None) -> Ask:
        """Name one thing to ask; the key covers model, clip file, streams, prompt, options and reply length."""
        depends = {
            "version": KEY_VERSION,
            "model": self._identity,
            "style": self.style,
            "way": way,
            "prompt": self._text(question),
            "options": options_of(question, self.style),
            "max_new_tokens": self.max_new_tokens if way == "generation" else 0,
            "streams": self.streams if place else (),
            "clip": self._hash(place) if place else "",
        }
        return Ask(question, way, place, json_sha256(depends))

    def answer_all(self, asks: Sequence[Ask], keep: Keep) -> dict[str, str]:
        """Ask the model; clips that can't be decoded, and requests it refuses, go without an answer."""
        by_key = {ask.key: ask for ask in asks}

        def take(key: str, answer: dict[str, Any]) -> None:
            keep({key: {"id": by_key[key].question.id, "way": by_key[key].way, **answer}})

        requests = [
            Shown(
                ask.key,
                ask.way,
                self._text(ask.question),
                options_of(ask.question, self.style),
                ask.place,
                self.streams,
                self.max_new_tokens,
            )
            for ask in asks
        ]
        return self.model.answer_all(requests, take)

    def clip(self, place: Path) -> tuple[str, str]:
        """A clip's name and path."""
        return self.names[place]

    def about(self) -> dict[str, dict[str, Any]]:
        """The model's source and identity, and where the clips came from."""
        return {"model": {"source": self.model.source, "identity": self._identity}, "store": self._store}

    def _text(self, question: Question) -> str:
        text = prompt_text(question, self.style)
        return text if self.style == "cloze" else f"{text}\n{INSTRUCTION}"

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = file_sha256(path)
        return self._hashes[path]


@dataclass(frozen=True, slots=True)
class MediaFiles:
    """Media files that questions or labels are about."""

    names: dict[Path, tuple[str, str]]
    """File to the clip's name and path."""
    roots: dict[str, str]
    place: str


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
    """The media files that a store was made of, where they still are; the file of windows is their whole clip's."""
    ids, paths = whole_ids(store.clips), store.clips["path"].to_pylist()
    names = {}
    for row, (clip_id, path) in enumerate(zip(ids, paths, strict=True)):
        if (file := store.media_path(row)).is_file():
            names[file] = (clip_id, path)
    if not names:
        raise MissingFileError(
            f"None of the media files that {store.location.url} was made of is there; name their folder with --media."
        )
    return MediaFiles(names, store.roots, mask(store.location.url))


def place_questions(files: MediaFiles, questions: Sequence[Question]) -> Clips:
    """Find the file of every question's clip; see `avem.evaluate.predict.clips.resolve_clips`."""
    import pyarrow as pa

    paths = list(files.names)
    table = pa.table({"clip_id": [n for n, _ in files.names.values()], "path": [p for _, p in files.names.values()]})
    found = resolve_clips(table, questions)
    absent = {name: reason.replace("in the store", f"in {files.place}") for name, reason in found.absent.items()}
    return Clips({name: paths[row] for name, row in found.rows.items()}, absent)
