"""`captions.jsonl` of an earlier build: captions that are paid for, with the emotions that were told from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.errors import DataError
from avem.files import read_json_lines
from avem.records import Clip, Emotion, Modality


@dataclass(frozen=True, slots=True)
class CaptionedClip:
    """A clip with its captions."""

    clip_id: str
    emotion: Emotion | None
    captions: Mapping[Modality, str]
    predicted: Mapping[Modality, Emotion]
    """Emotion told from each caption alone, as far as it is known."""

    @property
    def clip(self) -> Clip:
        """The clip as a dataset reader gives it, without its file."""
        return Clip(self.clip_id, self.clip_id.partition("/")[0], "", self.emotion)


def read_captions(path: Path) -> list[CaptionedClip]:
    """Read what `avem prefs build`, `emorealm build` or `instruct build` wrote.

    Raises:
        MissingFileError: There is no such file.
        DataError: A line is something else, a clip stands there twice, or no clip has a caption.
    """
    found = read_json_lines(path, _entry)
    ids = [clip.clip_id for clip in found]
    if twice := [name for name in ids if ids.count(name) > 1][:1] if len(set(ids)) < len(ids) else []:
        raise DataError(f"{path} has captions of {twice[0]} twice; keep one of them.")
    if not any(clip.captions for clip in found):
        raise DataError(f"{path} holds no captions.")
    return found


def _entry(item: dict[str, Any]) -> CaptionedClip:
    clip_id, emotion = item["clip_id"], item.get("emotion")
    if not isinstance(clip_id, str) or not clip_id.strip():
        raise ValueError("the clip_id is empty")
    captions = {Modality(side): text for side, text in _object(item["captions"]).items()}
    predicted = {Modality(side): Emotion(name) for side, name in _object(item.get("predicted") or {}).items()}
    if Modality.AUDIOVISUAL in (*captions, *predicted):
        raise ValueError(f"{clip_id} has a caption of both sides at once; captions are of audio or visual")
    if bad := [side for side, text in captions.items() if not isinstance(text, str) or not text.strip()]:
        raise ValueError(f"the {bad[0]} caption of {clip_id} is empty")
    return CaptionedClip(clip_id, None if emotion is None else Emotion(emotion), captions, predicted)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("captions and predicted should be objects of audio and visual")
    return value
