"""Folding adapters in: runs, bare adapters, number formats, AVERE's layout, and what can't be merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import typer
from model_kit import byte_tokenizer, random_audio, random_video, tiny_config, tiny_language_model, tiny_model
from safetensors.torch import load_file
from typer.testing import CliRunner

from avem.commands.merge import merge
from avem.errors import CheckpointError, MissingFileError, SettingError
from avem.train import AudiovisualLM, load_model
from avem.train.checkpoints.merge import MergeOptions, merge_model

VIDEO, AUDIO = random_video(0), random_audio(0)


def score(model: AudiovisualLM) -> torch.Tensor:
    with torch.no_grad():
        return model.response_logprobs([model.sequence("Why?", answer, VIDEO, AUDIO) for answer in ("Joy.", "Rain.")])


def adapted(model: AudiovisualLM) -> AudiovisualLM:
    """With an adapter that changes the answers, and one trained projector."""
    model.add_lora(rank=2, scale=4.0)
    model.video_projector.requires_grad_(True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)), alpha=0.1)
    return model


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory on a base that names its licence."""
    tiny_model("llama-gqa", torch.float32).save(tmp_path / "base", licence="cc-by-nc-4.0")
    model = adapted(load_model(tmp_path / "base"))
    model.save_adapter(tmp_path / "run" / "final", provenance={"training": {"seed": 7}})
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    return tmp_path / "run"


def test_a_merged_run_answers_as_the_run_did(run, tmp_path):
    app = typer.Typer()
    app.command()(merge)
    shown = CliRunner().invoke(app, [str(run), str(tmp_path / "merged")], catch_exceptions=False)
    assert shown.exit_code == 0
    assert "merged" in shown.output
    merged = load_model(tmp_path / "merged")
    assert merged.peft_model is None
    torch.testing.assert_close(score(merged), score(load_model(run)), atol=1e-4, rtol=0)
    assert (score(merged) - score(load_model(tmp_path / "base"))).abs().max() > 1e-2


def test_the_card_names_origin_and_licence(run, tmp_path):
    merge_model(run, tmp_path / "merged")
    settings = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert settings["licence"] == "cc-by-nc-4.0"
    assert settings["provenance"] == {"training": {"seed": 7}, "merged": {"adapter": "run", "base": "base"}}
    card = (tmp_path / "merged" / "README.md").read_text()
    assert "license: cc-by-nc-4.0" in card
    assert '"adapter": "run"' in card
    assert str(tmp_path) not in card
    merge_model(run, tmp_path / "merged", MergeOptions(licence="mit"))
    assert load_model(tmp_path / "merged").licence == "mit"


def test_a_bare_adapter_and_its_base(run, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(run / "final" / name, bare / name)
    shutil.rmtree(run)
    with pytest.raises(MissingFileError, match="no model at"):
        merge_model(bare, tmp_path / "merged")
    merge_model(bare, tmp_path / "merged", MergeOptions(base=str(tmp_path / "base")))
    expected = adapted(load_model(tmp_path / "base"))
    expected.video_projector.load_state_dict(load_model(tmp_path / "base").video_projector.state_dict())
    torch.testing.assert_close(score(load_model(tmp_path / "merged")), score(expected), atol=1e-4, rtol=0)


def test_adapters_piled_up_come_down_to_one_model(run, tmp_path):
    second = adapted(load_model(run / "final"))
    second.save_adapter(tmp_path / "second")
    merge_model(tmp_path / "second", tmp_path / "merged")
    torch.testing.assert_close(score(load_model(tmp_path / "merged")), score(second), atol=1e-4, rtol=0)
    settings = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert settings["provenance"]["merged"]["base"] == "base"


@pytest.mark.parametrize(("asked", "expected"), [(None, torch.bfloat16), ("float32", torch.float32)])
def test_the_number_format_is_the_bases_unless_asked(tmp_path, asked, expected):
    tiny_model("llama-gqa", torch.bfloat16).save(tmp_path / "base")
    adapted(load_model(tmp_path / "base")).save_adapter(tmp_path / "final")
    merge_model(tmp_path / "final", tmp_path / "merged", MergeOptions(dtype=asked))
    kept = load_file(tmp_path / "merged" / "language_model" / "model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {expected}
    wanted = load_model(tmp_path / "final")
    wanted.merge()
    weight = wanted.language_model.model.layers[0].mlp.up_proj.weight.to(expected)
    assert torch.equal(kept["model.layers.0.mlp.up_proj.weight"], weight)  # rounded once, from float32 sums


def test_merged_into_averes_layout(golden, tmp_path):
    model = load_model(golden / "avere_tiny")
    model.add_lora(rank=2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.05)
    model.save_adapter(tmp_path / "final")
    merge_model(tmp_path / "final", tmp_path / "merged", MergeOptions(layout="avere"))
    before, after = (
        load_file(golden / "avere_tiny" / "model.safetensors"),
        load_file(tmp_path / "merged" / "model.safetensors"),
    )
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(".layers." in name and "_tower" not in name and "_projector" not in name for name in changed)


def test_what_cant_be_merged(run, tmp_path):
    tiny_model("gemma", torch.float32).save(tmp_path / "gemma")
    with pytest.raises(SettingError, match="hold a Llama, not a gemma"):
        merge_model(tmp_path / "gemma", tmp_path / "out", MergeOptions(layout="avere"))
    with pytest.raises(MissingFileError, match="is not an AVERE checkpoint"):
        merge_model(run, tmp_path / "out", MergeOptions(layout="avere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match="neither a model nor an adapter"):
        merge_model(tmp_path / "empty", tmp_path / "out")
    other = AudiovisualLM.create(tiny_language_model(intermediate_size=64), byte_tokenizer(), tiny_config())
    other.save(tmp_path / "base")
    with pytest.raises(CheckpointError, match="does not fit its base"):
        merge_model(run, tmp_path / "out")
    shutil.rmtree(run / "final")
    with pytest.raises(MissingFileError, match="no final/ yet"):
        merge_model(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
