"""Two processes that share a Qwen-Omni model's weights (FSDP) train as one process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from avem.files import write_json_lines
from avem.train import PreferenceConfig, SupervisedConfig, train_preferences
from tests.train.families.qwen_omni.qwen_omni_kit import FAMILIES, save_checkpoint, thinker
from tests.train.families.qwen_omni.test_training import make_store, measured, settings
from tests.train.run.test_fsdp import assert_alike, train_together
from tests.train.training_kit import instruction_rows, preference_rows

pytestmark = pytest.mark.filterwarnings("ignore:.*pattern keys did not match:RuntimeWarning")
COMMON: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-3, "tokens_per_batch": 400, "save_every": 2}


def preferences(root: Path, out: str, **changes: Any) -> PreferenceConfig:
    return PreferenceConfig(prefs=root / "prefs.jsonl", **settings(root, out, **COMMON, **changes))


def supervised(root: Path, out: str, **changes: Any) -> SupervisedConfig:
    chosen = settings(root, out, **COMMON, tune="full", train_projectors=False, **changes)
    return SupervisedConfig(data=root / "rows.jsonl", **chosen)


@pytest.fixture(scope="module", params=FAMILIES)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, its store, and runs of two processes on it: weights spread for `spread`, whole for `whole`."""
    root: Path = tmp_path_factory.mktemp(request.param)
    reference = thinker(request.param)
    make_store(root / "store", reference, save_checkpoint(reference, root / "base"))
    write_json_lines(root / "prefs.jsonl", [row.to_json() for row in preference_rows()])
    write_json_lines(root / "rows.jsonl", [row.to_json() for row in instruction_rows()])
    train_together(
        [
            (preferences(root, "prefs-spread"), True),
            (preferences(root, "prefs-less-memory", gradient_checkpointing=True), True),
            (supervised(root, "full-spread"), True),
            (supervised(root, "full-whole"), False),
        ]
    )
    return root


@pytest.mark.slow
def test_spread_weights_train_as_one_process_does(root: Path) -> None:
    one = train_preferences(preferences(root, "one", batch_size=12))
    assert len([line for line in measured(one) if "loss" in line]) > 1
    for run in ("prefs-spread", "prefs-less-memory"):
        assert_alike(one, root / run, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_all_weights_learn_spread_as_they_do_whole(root: Path) -> None:
    assert_alike(root / "full-whole", root / "full-spread")
