"""Qwen-Omni in 4 bits: what is converted, how near scores stay, and that adapters learn beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from avem.cache import FeatureStore
from avem.errors import SettingError
from avem.files import write_json_lines
from avem.train import PreferenceConfig, load_model, score_answers, train_preferences
from avem.train.checkpoints import load as checkpoint
from avem.train.model.quantise import BLOCK, is_four_bit
from tests.train.families.qwen_omni.qwen_omni_kit import FAMILIES, save_checkpoint, thinker
from tests.train.families.qwen_omni.test_training import make_store, measured, settings
from tests.train.training_kit import preference_rows

pytestmark = pytest.mark.filterwarnings("ignore:.*pattern keys did not match:RuntimeWarning")
LINEARS = {"qwen2_5_omni": 2 * 7, "qwen3_omni": 4 * 4}
"""Two layers of queries, keys, values, outputs, gates, ups and downs; four of the first four, whose experts stay."""
ASKED = [
    (f"toy/{number:03d}", "What is the mood?", answer) for number in (0, 3, 7) for answer in ("Joy, I think.", "Anger.")
]


@pytest.fixture(scope="module", params=FAMILIES)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp(request.param)
    reference = thinker(request.param)
    make_store(root / "store", reference, save_checkpoint(reference, root / "base"))
    write_json_lines(root / "prefs.jsonl", [row.to_json() for row in preference_rows()])
    return root


@pytest.fixture
def allowed_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in tests/train/model/test_quantise.py: a CPU can do it, slowly, and users are refused."""
    bitsandbytes: Any = pytest.importorskip("bitsandbytes", reason="the extra avem[4bit] is not installed")
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
    monkeypatch.setattr(checkpoint, "check_four_bit", lambda device: None)


@pytest.mark.usefixtures("allowed_on_cpu")
def test_scores_stay_near_and_packing_does_not_change_them(root: Path) -> None:
    model, whole = load_model(root / "base", four_bit=True), load_model(root / "base")
    layers, converted = dict(whole.language_model.named_modules()), 0
    for name, layer in model.language_model.named_modules():
        if type(layer).__name__ == "Linear4bit":
            weight: Any = layers[name].weight
            bias: Any = layer.bias if layer.bias is not None else 0.0
            error = ((layer(torch.eye(layer.in_features)) - bias).T - weight).abs().mean() / weight.abs().mean()
            if layer.in_features % BLOCK == 0:  # bitsandbytes 0.50 reads other rows wrongly on a CPU
                assert 0 < error < 0.15, name  # NF4 keeps a normal distribution to about a tenth
            converted += 1
    assert converted == LINEARS[model.family]
    experts = {name: value for name, value in model.named_parameters() if ".experts." in name}
    assert bool(experts) == (model.family == "qwen3_omni")
    assert all(torch.equal(value, whole.get_parameter(name)) for name, value in experts.items())
    store = FeatureStore.open(root / "store")
    with torch.no_grad():
        packed = score_answers(model, store, ASKED)
        alone = score_answers(model, store, ASKED, share_prefixes=False)
        exact = score_answers(whole, store, ASKED)
    torch.testing.assert_close(packed, alone, atol=1e-3, rtol=0)
    torch.testing.assert_close(packed, exact, rtol=0.05, atol=0)
    assert not torch.equal(packed, exact)


@pytest.mark.usefixtures("allowed_on_cpu")
def test_preferences_are_learned_beside_4_bits(root: Path) -> None:
    run = train_preferences(PreferenceConfig(prefs=root / "prefs.jsonl", **settings(root, "run", quantise="4bit")))
    losses = [line["loss"] for line in measured(run) if "loss" in line]
    assert sum(losses[-3:]) < sum(losses[:3])
    model = load_model(run, four_bit=True)
    assert is_four_bit(model.language_model)
    with torch.no_grad():
        store = FeatureStore.open(root / "store")
        learned = score_answers(model, store, ASKED)
        before = score_answers(load_model(root / "base", four_bit=True), store, ASKED)
    assert not torch.allclose(learned, before, atol=1e-3)
    with pytest.raises(SettingError, match="in 4 bits"):
        load_model(root / "base", four_bit=True).save(root / "copy")
