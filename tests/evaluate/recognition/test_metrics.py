"""Recognition metrics against the reference's numbers."""

import json

import pytest

from avem.errors import DataError
from avem.evaluate.recognition.scoring import recognition_metrics


@pytest.mark.parametrize("name", ["dfew", "ravdess", "mer2023"])
def test_reference_numbers(golden, name):
    data = json.loads((golden / "emotion_metrics" / f"{name}.json").read_text())
    rows = [row for row in data["rows"] if row["id"] not in data["skipped"]]
    metrics = recognition_metrics([row["label"] for row in rows], [row["mapped"] for row in rows])
    for key, wanted in data["metrics"].items():
        if key == "metrics_per_class":
            assert {label: pytest.approx(values, abs=1e-9) for label, values in wanted.items()} == metrics[key]
        else:
            assert metrics[key] == pytest.approx(wanted, abs=1e-9), key


def test_label_only_ever_predicted_weighs_on_the_mean():
    metrics = recognition_metrics(["a", "a", "b"], ["a", "c", "b"])
    assert metrics["unweighted_avg_recall"] == pytest.approx((0.5 + 1 + 0) / 3)
    assert metrics["weighted_avg_recall"] == pytest.approx(2 / 3)
    assert metrics["metrics_per_class"]["c"]["accuracy"] is None
    assert metrics["confusion"] == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]


def test_lengths_differ():
    with pytest.raises(DataError, match="1 labels and 0 predictions"):
        recognition_metrics(["a"], [])
