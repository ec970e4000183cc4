"""Predictions of models that are shown media files: what such a model is, its requests, and the predictor around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from avem.errors import MediaError, PromptError
from avem.evaluate.emorealm.questions import prompt_text
from avem.evaluate.predict.predictor import STREAMS, Answer, Keep, PredictionRequest, check_style, options_of
from avem.extract import probe, read_waveform, sample_frames
from avem.files import file_sha256, json_sha256
from avem.guards.special_tokens import find_special
from avem.records import Question
from avem.text.subtitles import with_subtitle

KEY_VERSION = 1
"""Raised when the same key would mean another answer."""

INSTRUCTION = "Answer with the letter of the right option alone."
"""Added to questions that show their options if wanted; the paper adds nothing (D.4)."""

CHAT_TOKENS = 128
"""Longest reply in tokens."""

FRAMES = 8
"""Frames of a clip, as many as the paper's models see."""

Take: TypeAlias = Callable[[str, Answer], None]
"""Takes one answer and the key of its request."""


@dataclass(frozen=True, slots=True)
class ClipMedia:
    """The decoded parts of a clip that a model is shown."""

    frames: npt.NDArray[np.uint8] | None = None
    """uint8 [T, H, W, 3], RGB."""
    samples: npt.NDArray[np.float32] | None = None
    """float32 [samples] at 16 kHz, mono."""
    duration_s: float | None = None
    """Length of the clip, over which the frames are spread; None where it is not known."""

    @property
    def frames_per_s(self) -> float | None:
        """Frames shown a second of the clip, by which models place them in time."""
        if self.frames is None or not self.duration_s:
            return None
        return len(self.frames) / self.duration_s


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """One request to a model that is shown media files."""

    key: str
    method: str
    text: str
    options: tuple[str, ...]
    path: Path | None
    """None: text alone."""
    streams: tuple[str, ...]
    max_new_tokens: int

    def media(self, frames: int) -> ClipMedia:
        """Decode what the model is to be shown.

        Raises:
            MediaError: None of the wanted streams can be decoded.
        """
        if self.path is None:
            return ClipMedia()
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
        return ClipMedia(video, audio, None if video is None else probe(self.path).duration_s)


class MediaModel(Protocol):
    """A model that is shown media files."""

    source: str
    """Folder, hub id or address."""
    sees: tuple[str, ...]
    """Streams it can take."""
    system: str
    """The system message; empty for none besides what the model's chat template adds."""
    methods: tuple[str, ...]
    """Those of `avem.evaluate.emorealm.results.METHODS` that it supports."""

    def identity(self) -> dict[str, Any]:
        """Everything besides the question and the clip that its answers depend on, as JSON."""

    def predict(self, requests: Sequence[MediaRequest], take: Take) -> dict[str, str]:
        """Answer requests, handing each answer to `take` as it arrives; returns failed keys with their reasons."""


class MediaPredictor:
    """Answers questions with a model that is shown media files.

    Args:
        model: The model.
        names: Media file to the clip's name and path as results show them.
        style: `letters` (options shown) or `cloze` (question alone).
        max_new_tokens: Longest reply in tokens.
        streams: What the model is to be shown; streams that it can't take are left out.
        roots: Dataset to the folder that clips' paths are relative to.
        source: The folder or store that the clips came from, for the result.
        instruction: Whether `letters` asks for the letter alone; the paper, and the vendors' examples, do not.
        subtitles: Media file to what is said in it, which prompts then show as text; None shows none.
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
        source: str = "",
        instruction: bool = False,
        subtitles: Mapping[Path, str] | None = None,
    ) -> None:
        check_style(style)
        self.model, self.names, self.style, self.max_new_tokens = model, names, style, max_new_tokens
        self.streams = tuple(stream for stream in streams if stream in model.sees)
        self.methods = model.methods
        self._store = {"path": source, "clips": len(names), "roots": dict(roots or {})}
        self.instruction = instruction and style != "cloze"
        self._identity = model.identity()
        self._subtitles = subtitles
        self._hashes: dict[Path, str] = {}

    def has_media(self, position: Path | None) -> bool:
        """Whether the model can be shown anything of a clip."""
        return position is not None and bool(self.streams)

    def request(self, question: Question, method: str, position: Path | None) -> PredictionRequest:
        """Describe one prediction; the key covers model, clip file, streams, prompt, options and reply length."""
        depends = {
            "version": KEY_VERSION,
            "model": self._identity,
            "style": self.style,
            "way": method,
            "prompt": self._text(question, position),
            "options": options_of(question, self.style),
            "max_new_tokens": self.max_new_tokens if method == "generation" else 0,
            "streams": self.streams if position else (),
            "clip": self._hash(position) if position else "",
        }
        return PredictionRequest(question, method, position, json_sha256(depends))

    def predict(self, requests: Sequence[PredictionRequest], keep: Keep) -> dict[str, str]:
        """Run the model; a clip that can't be decoded fails, and so does a request that the model refuses."""
        given = [
            MediaRequest(
                request.key,
                request.method,
                self._text(request.question, request.position),
                options_of(request.question, self.style),
                request.position,
                self.streams,
                self.max_new_tokens,
            )
            for request in requests
        ]
        return self.model.predict(given, lambda key, answer: keep({key: answer}))

    def clip(self, position: Path) -> tuple[str, str]:
        """A clip's name and path."""
        return self.names[position]

    def about(self) -> dict[str, dict[str, Any]]:
        """The model's source and identity, and where the clips came from."""
        known: dict[str, Any] = {"source": self.model.source, "identity": self._identity}
        prompt = {"system": self.model.system, "instruction": INSTRUCTION if self.instruction else ""}
        if self._subtitles is not None:
            known["subtitles"] = True
        return {"model": {**known, "prompt": prompt}, "store": self._store}

    def _text(self, question: Question, path: Path | None) -> str:
        subtitle = None if self._subtitles is None or path is None else self._subtitles.get(path)
        if subtitle and (found := find_special(subtitle)):
            raise PromptError(
                f"The subtitle of {path} holds {found!r}, a special token or placeholder and no text to the model; "
                "correct it where it comes from."
            )
        text = with_subtitle(prompt_text(question, self.style), subtitle)
        return f"{text}\n{INSTRUCTION}" if self.instruction else text

    def _hash(self, path: Path) -> str:
        if path not in self._hashes:
            self._hashes[path] = file_sha256(path)
        return self._hashes[path]
