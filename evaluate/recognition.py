"""Emotion recognition metrics: UAR, WAR, F1 and per-class numbers, as DFEW, RAVDESS and MER2023 are reported (C.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avem.errors import DataError


def recognition_metrics(labels: Sequence[str], predictions: Sequence[str]) -> dict[str, Any]:
    """Metrics of single-label emotion recognition, as fractions.

    Classes are the union of labels seen in truth and predictions, so a label that is only ever predicted has recall 0
    and weighs on the unweighted averages, as in scikit-learn and the reference.

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
        raise DataError(f"Recognition needs one prediction a label; there are {len(labels)} and {len(predictions)}.")
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
