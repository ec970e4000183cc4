"""Emotion recognition metrics: UAR, WAR, F1 and per-class numbers, as DFEW, RAVDESS and MER2023 are reported (C.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avem.errors import DataError
from avem.evaluate.bootstrap import percentiles, resample_counts

LABEL_METRICS = ("uar", "war", "weighted_f1", "macro_f1")

ENOUGH_SOURCES = 10
"""From this many speakers or sources on, intervals resample them: clips of one speaker are correlated."""


def recognition_metrics(labels: Sequence[str], predictions: Sequence[str]) -> dict[str, Any]:
    """Metrics of single-label emotion recognition, as fractions.

    Classes are the union of labels seen in truth and predictions, so a label that is only ever predicted has recall 0
    and lowers the unweighted averages, as in scikit-learn and the reference.

    Args:
        labels: True label of each clip.
        predictions: Predicted label of each clip, in the same order.

    Returns:
        `overall_accuracy`, `overall_f1` (macro), `overall_f1_weighted`, `unweighted_avg_recall` (UAR),
        `weighted_avg_recall` (WAR, equal to accuracy), `metrics_per_class` (label to `precision, recall, f1_score,
        accuracy`, the last None for a label that never occurs), `classes` and `confusion` (rows: truth).

    Raises:
        DataError: The two differ in length, or there is nothing to score.
    """
    if not labels or len(labels) != len(predictions):
        raise DataError(
            f"There are {len(labels)} labels and {len(predictions)} predictions; give one prediction for each label."
        )
    classes, codes = np.unique([*labels, *predictions], return_inverse=True)
    truth, said = codes[: len(labels)], codes[len(labels) :]
    confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(confusion, (truth, said), 1)
    hits, support = np.diag(confusion), confusion.sum(axis=1)
    precision, recall = _ratio(hits, confusion.sum(axis=0)), _ratio(hits, support)
    f1 = _ratio(2 * precision * recall, precision + recall)
    per_class = {
        str(name): {
            "precision": float(precision[index]),
            "recall": float(recall[index]),
            "f1_score": float(f1[index]),
            "accuracy": float(recall[index]) if support[index] else None,
        }
        for index, name in enumerate(classes)
    }
    return {
        "overall_accuracy": float(hits.sum() / support.sum()),
        "overall_f1": float(f1.mean()),
        "overall_f1_weighted": float(f1 @ support / support.sum()),
        "unweighted_avg_recall": float(recall.mean()),
        "weighted_avg_recall": float(recall @ support / support.sum()),
        "metrics_per_class": per_class,
        "classes": [str(name) for name in classes],
        "confusion": confusion.tolist(),
    }


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Element by element, 0 where there is nothing to divide by."""
    ratio = np.zeros(len(part))
    np.divide(part, whole, out=ratio, where=whole != 0)
    return ratio


def label_counts(labels: Sequence[str], predictions: Sequence[str | None], classes: Sequence[str]) -> NDArray[np.int64]:
    """One clip a row: int64 [clips, C, C + 1] with a single 1 in the cell of truth and prediction.

    Args:
        labels: True label of each clip, one of `classes`.
        predictions: Predicted label, or None where there is none or it can't be read: the last column.
        classes: C labels.
    """
    column: dict[str | None, int] = {label: index for index, label in enumerate(classes)}
    counts = np.zeros((len(labels), len(classes), len(classes) + 1), dtype=np.int64)
    rows = [column[label] for label in labels]
    columns = [column.get(label, len(classes)) for label in predictions]
    counts[np.arange(len(labels)), rows, columns] = 1
    return counts


def label_rates(confusion: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """UAR, WAR and F1 of confusion counts, in percent.

    Args:
        confusion: [..., C, C + 1]; rows are truth, the last column holds clips without a readable prediction.

    Returns:
        `uar` (mean recall of the labels that occur), `war` (accuracy), `weighted_f1` (by support), `macro_f1` (of the
        labels that occur), each float64 [...]; `recall, precision, f1`, float64 [..., C], nan where a label does not
        occur.
    """
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    support, said = confusion.sum(axis=-1), confusion[..., :-1].sum(axis=-2)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = hits / support
        precision = np.where(said > 0, hits / said, 0.0)
        f1 = np.where(hits > 0, 2 * hits / (support + said), 0.0)
        f1 = np.where(support > 0, f1, np.nan)
        total = support.sum(axis=-1)
        rates = {
            "uar": np.nanmean(recall, axis=-1),
            "war": hits.sum(axis=-1) / total,
            "weighted_f1": np.nansum(f1 * support, axis=-1) / total,
            "macro_f1": np.nanmean(f1, axis=-1),
            "recall": recall,
            "precision": np.where(support > 0, precision, np.nan),
            "f1": f1,
        }
    return {name: 100 * value for name, value in rates.items()}


def score_labels(
    labels: Sequence[str],
    predictions: Sequence[str | None],
    classes: Sequence[str],
    *,
    sources: Sequence[str] = (),
    resamples: int = 0,
    seed: int = 0,
) -> dict[str, Any]:
    """Score predicted labels; a missing or unreadable one is wrong. All numbers in percent.

    Args:
        labels: True label of each clip, one of `classes`.
        predictions: Predicted label of each clip, or None.
        classes: The labels of the dataset.
        sources: Speaker or source of each clip; with ten or more of them, whole sources are resampled, else clips.
        resamples: Bootstrap resamples for 95 % intervals; 0 for none.
        seed: Seed of the bootstrap.

    Returns:
        `n`, `chance` (UAR of blind guessing), `uar, war, weighted_f1, macro_f1`, `recall, precision, f1` (label to
        number, None for a label that does not occur), `classes`, `confusion` (rows: truth; last column: no readable
        prediction), `unreadable`, and `intervals` (metric to `[low, high]`) with `resampled` (clips or sources).

    Raises:
        DataError: There is nothing to score, or the two differ in length.
    """
    if not labels or len(labels) != len(predictions):
        raise DataError(
            f"There are {len(labels)} labels and {len(predictions)} predictions; give one prediction for each label."
        )
    counts = label_counts(labels, predictions, classes)
    confusion = counts.sum(axis=0)
    rates = label_rates(confusion)
    per_class = {
        name: {label: _or_none(value) for label, value in zip(classes, rates[name], strict=True)}
        for name in ("recall", "precision", "f1")
    }
    result: dict[str, Any] = {
        "n": len(labels),
        "chance": 100 / len(classes),
        **{name: float(rates[name]) for name in LABEL_METRICS},
        **per_class,
        "classes": list(classes),
        "confusion": confusion.tolist(),
        "unreadable": int(confusion[:, -1].sum()),
    }
    return result | (_label_intervals(counts, sources, resamples, seed) if resamples else {})


def _label_intervals(counts: NDArray[np.int64], sources: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    known = sources if len(sources) == len(counts) else [""] * len(counts)
    names, cluster = np.unique(known, return_inverse=True)
    by_source = len(names) >= ENOUGH_SOURCES
    drawn_from = counts.astype(np.float64)
    if by_source:
        drawn_from = np.zeros((len(names), *counts.shape[1:]))
        np.add.at(drawn_from, cluster, counts)
    rates = label_rates(resample_counts(drawn_from, resamples, seed))
    edges = {name: percentiles(rates[name]) for name in LABEL_METRICS}
    return {"intervals": edges, "resampled": "sources" if by_source else "clips"}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
