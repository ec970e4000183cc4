"""What an emotion recognition bench found: every clip with the model's answer, and the numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avem.errors import DataError, MissingFileError
from avem.evaluate.recognition.labels import SPELLINGS
from avem.evaluate.recognition.scoring import score_labels
from avem.evaluate.results import Headline
from avem.evaluate.statistics import RESAMPLES
from avem.files import write_atomic
from avem.reading import read_json

FORMAT = "avem-recognition-1"

LABEL_WAYS = ("likelihood", "generation")
"""The likeliest label, and the one the model writes."""


@dataclass(frozen=True, slots=True)
class LabelItem:
    """One clip and what the model said."""

    clip_id: str
    clip_path: str
    label: str
    source: str = ""
    absent: str = ""
    """Why there is no answer; empty where there is one."""
    logprobs: tuple[float, ...] | None = None
    """Log-probability of each label in nats: that the reply begins with one of its spellings."""
    reply: str | None = None
    reply_label: str | None = None
    """The one label that the reply names; None where it can't be read."""


@dataclass(frozen=True, slots=True)
class RecognitionResult(Headline):
    """One model on one dataset, shown some streams."""

    name: str
    dataset: str
    streams: str
    """`audiovisual`, `video` or `audio`."""
    classes: tuple[str, ...]
    items: tuple[LabelItem, ...]
    scores: dict[str, dict[str, Any]]
    """Way to numbers (see `avem.evaluate.recognition.scoring.score_labels`); only the ways that were run."""
    split: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    """Raw label to clips that carry none of the classes and are not judged."""
    prompt: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_atomic(path, json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1) + "\n")


def label_logprobs(values: Sequence[float], classes: Sequence[str]) -> tuple[float, ...]:
    """Log-probability of each label from those of its spellings (`labels.spellings`), in nats."""
    left = list(values)
    sums = []
    for label in classes:
        own, left = left[: len(SPELLINGS[label])], left[len(SPELLINGS[label]) :]
        sums.append(float(np.logaddexp.reduce(own)))
    return tuple(sums)


def likeliest(item: LabelItem, classes: Sequence[str]) -> str | None:
    """The label with the highest log-probability, or None."""
    return None if item.logprobs is None else classes[int(np.argmax(item.logprobs))]


def judge_labels(
    items: Sequence[LabelItem], classes: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Score clips in every way they allow; a clip without an answer is wrong in each."""
    predictions = {
        "likelihood": [likeliest(item, classes) for item in items],
        "generation": [item.reply_label for item in items],
    }
    present = {
        "likelihood": any(item.logprobs is not None for item in items),
        "generation": any(item.reply is not None for item in items),
    }
    chosen = [way for way in LABEL_WAYS if present[way]] or ["generation"]
    labels, sources = [item.label for item in items], [item.source for item in items]
    return {
        way: score_labels(labels, predictions[way], classes, sources=sources, resamples=resamples, seed=seed)
        for way in chosen
    }


def read_recognition(path: Path | str) -> RecognitionResult:
    """Read a recognition bench's result.

    Args:
        path: A file that `RecognitionResult.write` made.

    Raises:
        MissingFileError: There is none.
        DataError: It is something else.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"There is no recognition result at {path}; `avem bench ravdess` makes one.")
    try:
        content = read_json(path, dict)
        if content.pop("format") != FORMAT:
            raise ValueError("it has another format")
        items = tuple(_item(entry) for entry in content.pop("items"))
        classes = tuple(content.pop("classes"))
        return RecognitionResult(items=items, classes=classes, **content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a recognition result ({error}); `avem bench ravdess` makes one.") from error


def _item(entry: Mapping[str, Any]) -> LabelItem:
    logprobs = entry["logprobs"]
    return LabelItem(**{**entry, "logprobs": None if logprobs is None else tuple(logprobs)})
