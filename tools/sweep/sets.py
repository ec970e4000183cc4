"""A sweep's columns of emotion sets (Table 2): recognition on the clips that the store holds of each set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avem.evaluate.comparison import RECOGNITION
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.loading import open_model
from avem.evaluate.recognition.bench import LABEL_TOKENS, bench_recognition
from avem.evaluate.recognition.labelled import clips_of_store
from avem.evaluate.recognition.labels import emotion_set
from avem.evaluate.recognition.results import LABEL_METHODS
from avem.files import json_sha256
from avem.sealed.files import read_sealed, write_sealed

if TYPE_CHECKING:
    from avem.cache import FeatureStore


def sets_of(columns: Sequence[str]) -> tuple[str, ...]:
    """The emotion sets that some columns of a grid are about.

    Example:
        >>> sets_of(["basic", "dfew_uar", "dfew_war", "mer2023_f1"])
        ('dfew', 'mer2023')
    """
    return tuple(name for name, metrics in RECOGNITION.items() if {column for _, column, _ in metrics} & set(columns))


def set_measures(
    model: str,
    store: FeatureStore,
    sets: Sequence[str],
    folder: Path,
    asked: Sequence[Any],
    device: str,
    *,
    subtitles: bool = False,
) -> dict[str, float]:
    """A model's columns of emotion sets; those that the store has no clips of are left out.

    Args:
        model: Folder or hub id.
        store: The clips.
        sets: Names of the sets.
        folder: Where answers go, and the numbers, which are found again for the same model and store.
        asked: What else the numbers depend on, as JSON.
        device: Where the model runs.
        subtitles: Whether prompts show what is said as text too.
    """
    held = set(store.columns(["dataset"])["dataset"].to_pylist())
    there = [name for name in sets if name in held]
    file, stamp = folder / "sets.json", json_sha256([there, *asked])
    if not there:
        return {}
    if file.is_file() and (known := read_sealed(file)).get("asked") == stamp:
        return dict(known["measures"])
    predictor = FeaturePredictor(open_model(model, device), store, "cloze", LABEL_TOKENS, subtitles=subtitles)
    measures: dict[str, float] = {}
    for name in there:
        dataset = emotion_set(name)
        result = bench_recognition(
            predictor,
            dataset,
            clips_of_store(store, dataset),
            out_dir=folder / name,
            name=folder.name,
            methods=LABEL_METHODS[:1],
            resamples=0,
        )
        measures |= {column: result.score[metric] for metric, column, _ in RECOGNITION[name]}
    write_sealed(file, {"asked": stamp, "measures": measures})
    return measures
