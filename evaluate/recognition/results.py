"""The result of an emotion recognition bench: every clip with the model's answer, and the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from avem.errors import DataError, MissingFileError
from avem.evaluate import choice
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emorealm.results import Headline
from avem.evaluate.recognition.labels import SPELLINGS
from avem.evaluate.recognition.scoring import score_labels
from avem.sealed.files import read_sealed, write_sealed

FORMAT = "avem-recognition-1"

LABEL_METHODS = ("likelihood", "generation")
"""The likeliest label, and the one the model writes."""


@dataclass(frozen=True, slots=True)
class LabelItem:
    """One clip and the model's answers."""

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
    windows: tuple[str, ...] = ()
    """Ids of the windows that the answer is pooled over; empty where the clip is one row."""


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
    """Method to numbers (see `avem.evaluate.recognition.scoring.score_labels`); only the methods that were run."""
    split: str = ""
    left_out: dict[str, int] = field(default_factory=dict)
    """Raw label to clips that carry none of the classes and are not scored."""
    prompt: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)
    pooling: dict[str, Any] = field(default_factory=dict)
    """How many clips are pooled over their windows, and how (`avem.evaluate.predict.pooling`); empty for none."""

    def write(self, path: Path) -> None:
        """Write the result as JSON, whole or not at all."""
        write_sealed(path, {"format": FORMAT, **asdict(self)})


def label_logprobs(values: Sequence[float], classes: Sequence[str]) -> tuple[float, ...]:
    """Log-probability of each label from those of its spellings (`labels.spellings`), in nats."""
    left = list(values)
    sums = []
    for label in classes:
        own, left = left[: len(SPELLINGS[label])], left[len(SPELLINGS[label]) :]
        sums.append(float(np.logaddexp.reduce(own)))
    return tuple(sums)


def likeliest(item: LabelItem, classes: Sequence[str]) -> str | None:
    """The label with the highest log-probability; None without any, or where two share it."""
    chosen = None if item.logprobs is None else choice.likeliest(item.logprobs)
    return None if chosen is None else classes[chosen]


def score_clips(
    items: Sequence[LabelItem], classes: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Score clips by every method that they have answers of; a clip without an answer is wrong."""
    predictions = {
        "likelihood": [likeliest(item, classes) for item in items],
        "generation": [item.reply_label for item in items],
    }
    present = {
        "likelihood": any(item.logprobs is not None for item in items),
        "generation": any(item.reply is not None for item in items),
    }
    chosen = [method for method in LABEL_METHODS if present[method]] or ["generation"]
    labels, sources = [item.label for item in items], [item.source for item in items]
    return {
        method: score_labels(labels, predictions[method], classes, sources=sources, resamples=resamples, seed=seed)
        for method in chosen
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
        content = read_sealed(path)
        if content.pop("format") != FORMAT:
            raise ValueError("it has another format")
        items = tuple(_item(entry) for entry in content.pop("items"))
        classes = tuple(content.pop("classes"))
        return RecognitionResult(items=items, classes=classes, **content)
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path} is not a recognition result ({error}); `avem bench ravdess` makes one.") from error


def _item(entry: Mapping[str, Any]) -> LabelItem:
    logprobs = entry["logprobs"]
    read = {"logprobs": None if logprobs is None else tuple(logprobs), "windows": tuple(entry.get("windows", ()))}
    return LabelItem(**{**entry, **read})
