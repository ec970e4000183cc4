"""Adapters back to peft and transformers: under released names, alone and merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import Qwen2_5OmniThinkerForConditionalGeneration, Qwen3OmniMoeThinkerForConditionalGeneration
from typer.testing import CliRunner

from avem.cli import app
from avem.errors import AvemError, SettingError
from avem.train import load_model
from avem.train.checkpoints.merge import MergeOptions, merge_model
from avem.train.families.qwen_omni.model import QwenOmniModel
from avem.train.model.sequences import ScoredSequence
from tests.train.families.qwen_omni.qwen_omni_kit import FAMILIES, clip, save_checkpoint, thinker
from tests.train.families.qwen_omni.test_equality import with_towers

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*pattern keys did not match:RuntimeWarning",  # peft looks for stacked experts under their released names
    "ignore:.*is_gradient_checkpointing:FutureWarning",
)
THINKERS: dict[str, Any] = {
    "qwen2_5_omni": Qwen2_5OmniThinkerForConditionalGeneration,
    "qwen3_omni": Qwen3OmniMoeThinkerForConditionalGeneration,
}


def trained(folder: Path, run: Path, layout: str = "separate", seed: int = 1) -> QwenOmniModel:
    """A model with an adapter whose update is not zero, saved as a run saves it."""
    model = cast("QwenOmniModel", load_model(folder, dtype=torch.float64))
    model.layout_name = layout  # type: ignore[assignment]
    model.add_lora(rank=3, scale=1.5, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=0.2, generator=generator)
    model.save_adapter(run, provenance={"seed": seed})
    return model


def example(model: QwenOmniModel, reference: Any) -> tuple[ScoredSequence, Any]:
    shown = clip(model.family, grid=(2, 4, 4), mel=150, seed=7)
    rows = {f"{side}/{model.family}": row for side, row in shown.rows(reference).items()}
    return model.sequence("How does he sound?", "Angry.", streams=rows), shown


@pytest.mark.parametrize("full", [True, False], ids=["full", "thinker"])
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_the_adapter_into_transformers_thinker(tmp_path: Path, family: str, full: bool) -> None:
    reference = thinker(family)
    folder = save_checkpoint(reference, tmp_path / "base", full=full)
    model = trained(folder, tmp_path / "run")
    scored, shown = example(model, reference)
    with torch.no_grad():
        before = with_towers(reference, scored, shown, "separate")
        ours = model.response_logprobs([scored])[0]
        adapted = peft.PeftModel.from_pretrained(reference, str(tmp_path / "run")).eval()
        theirs = with_towers(adapted, scored, shown, "separate")
    assert abs(float(ours - before)) > 1e-3
    assert abs(float(ours - theirs)) < 1e-9


@pytest.mark.parametrize("family", FAMILIES)
def test_adapter_files_name_what_the_released_files_name(tmp_path: Path, family: str) -> None:
    folder = save_checkpoint(thinker(family), tmp_path / "base")
    trained(folder, tmp_path / "run")
    weights = {name.removesuffix(".weight") for name in load_file(folder / "model.safetensors")}
    adapted = load_file(tmp_path / "run" / "adapter_model.safetensors")
    modules = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in adapted}
    assert modules <= weights
    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    in_layers = {name for name in weights if name.startswith("thinker.model.layers.") and name.endswith(linear)}
    assert modules == in_layers
    config = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "../base"
    assert set(config["target_modules"]) == set(linear)
    assert (config["r"], config["lora_alpha"]) == (3, 4.5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_loads_as_it_was_saved(tmp_path: Path, family: str) -> None:
    reference = thinker(family)
    folder = save_checkpoint(reference, tmp_path / "base", shards=3)
    model = trained(folder, tmp_path / "run", "audio_in_video")
    scored, _ = example(model, reference)
    again = cast("QwenOmniModel", load_model(tmp_path / "run", dtype=torch.float64))
    assert again.layout_name == "audio_in_video"
    with torch.no_grad():
        difference = model.response_logprobs([scored]) - again.response_logprobs([scored])
    assert float(difference.abs().max()) < 1e-12


@pytest.mark.parametrize("full", [True, False], ids=["full", "thinker"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_folder_is_read_by_transformers_and_by_avem(tmp_path: Path, family: str, full: bool) -> None:
    reference = thinker(family)
    folder = save_checkpoint(reference, tmp_path / "base", full=full, shards=2)
    model = trained(folder, tmp_path / "run", "audio_in_video")
    scored, shown = example(model, reference)
    merge_model(tmp_path / "run", tmp_path / "merged")
    again = cast("QwenOmniModel", load_model(tmp_path / "merged", dtype=torch.float64))
    assert again.layout_name == "audio_in_video"
    config = reference.config
    theirs = THINKERS[family].from_pretrained(tmp_path / "merged", config=config, dtype=torch.float64).eval()
    if family == "qwen3_omni":
        theirs.set_experts_implementation("eager")
    with torch.no_grad():
        ours = model.response_logprobs([scored])
        assert float((ours - again.response_logprobs([scored])).abs().max()) < 1e-9
        assert abs(float(ours[0] - with_towers(theirs, scored, shown, "audio_in_video"))) < 1e-9
    for file in sorted(path.name for path in folder.glob("*.safetensors")):
        before, after = load_file(folder / file), load_file(tmp_path / "merged" / file)
        assert before.keys() == after.keys()
        for name, tensor in before.items():
            changed = "layers." in name and "_proj.weight" in name and "visual" not in name and "audio" not in name
            assert torch.equal(tensor, after[name]) != changed, name


def test_adapters_on_adapters_are_summed(tmp_path: Path) -> None:
    reference = thinker("qwen2_5_omni")
    folder = save_checkpoint(reference, tmp_path / "base")
    trained(folder, tmp_path / "first", seed=1)
    second = trained(tmp_path / "first", tmp_path / "second", seed=2)
    scored, _ = example(second, reference)
    merge_model(tmp_path / "second", tmp_path / "merged")
    with torch.no_grad():
        wanted = second.response_logprobs([scored])
        found = load_model(tmp_path / "merged", dtype=torch.float64).response_logprobs([scored])
    assert float((wanted - found).abs().max()) < 1e-9


def test_an_adapter_of_transformers_own_names_merges_too(tmp_path: Path) -> None:
    """peft's own files of transformers' thinker: `model.language_model.` in names, experts stacked."""
    reference = thinker("qwen3_omni")
    folder = save_checkpoint(reference, tmp_path / "base")
    model = trained(folder, tmp_path / "run")
    scored, _ = example(model, reference)
    adapted = peft.PeftModel.from_pretrained(thinker("qwen3_omni"), str(tmp_path / "run"))
    adapted.save_pretrained(tmp_path / "theirs", save_embedding_layers=False)
    keys = load_file(tmp_path / "theirs" / "adapter_model.safetensors")
    assert any("language_model" in key and "experts.base_layer" in key for key in keys)
    merge_model(tmp_path / "theirs", tmp_path / "merged", MergeOptions(base=str(folder)))
    with torch.no_grad():
        found = load_model(tmp_path / "merged", dtype=torch.float64).response_logprobs([scored])
        assert float((model.response_logprobs([scored]) - found).abs().max()) < 1e-9


def test_an_adapter_of_another_shape_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(thinker("qwen2_5_omni"), tmp_path / "base")
    trained(folder, tmp_path / "run")
    other = save_checkpoint(thinker("qwen2_5_omni", intermediate_size=80), tmp_path / "other")
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    (tmp_path / "run" / "config.json").write_text(json.dumps({**settings, "base": str(other)}))
    (tmp_path / "run" / "checksums.json").unlink()
    with pytest.raises(AvemError, match=r"down_proj\.weight \[48, 64\] and the base in .* has \[48, 80\]"):
        merge_model(tmp_path / "run", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    with pytest.raises(AvemError, match="does not fit its base"):
        load_model(tmp_path / "run")


def test_the_merge_command_writes_the_released_layout_and_refuses_others(tmp_path: Path) -> None:
    """Twice to one folder: a checkpoint that avem wrote is replaced. A folder of the user's is kept."""
    folder = save_checkpoint(thinker("qwen2_5_omni"), tmp_path / "base")
    trained(folder, tmp_path / "run")
    commands = CliRunner()
    for _ in range(2):
        result = commands.invoke(app, ["models", "merge", str(tmp_path / "run"), str(tmp_path / "merged")])
        assert result.exit_code == 0, result.output
    card = (tmp_path / "merged" / "README.md").read_text()
    assert '"seed": 1' in card
    assert str(tmp_path) not in card
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    result = commands.invoke(app, ["models", "merge", str(tmp_path / "run"), str(tmp_path / "mine")])
    assert isinstance(result.exception, SettingError)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(AvemError, match="AVERE's layout can't hold a model of this family"):
        merge_model(tmp_path / "run", tmp_path / "avere", MergeOptions(layout="avere"))
    with pytest.raises(AvemError):  # the base itself is never replaced
        merge_model(tmp_path / "run", folder)
