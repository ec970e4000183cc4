"""Reading released folders: every form, and one sentence for each that is not whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file

from avem.errors import AvemError, CheckpointError, FingerprintError, PromptError, SettingError
from avem.train import load_model
from avem.train.checkpoints.load import load_skeleton
from avem.train.families.qwen_omni.model import QwenOmniModel
from avem.train.model.media import StreamRow
from tests.train.families.qwen_omni.qwen_omni_kit import FAMILIES, WIDTH, clip, save_checkpoint, thinker


def rewrite(folder: Path, change: Any) -> None:
    """Change the tensors of a folder of one file."""
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("full", "shards"), [(True, 1), (True, 3), (False, 1)])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_form_gives_the_thinkers_own_weights(
    tmp_path: Path, family: str, full: bool, shards: int, dtype: torch.dtype
) -> None:
    reference = thinker(family, dtype=torch.float32)
    model = cast(
        "QwenOmniModel", load_model(save_checkpoint(reference, tmp_path, full=full, shards=shards), dtype=dtype)
    )
    assert (model.family, model.dtype) == (family, dtype)
    state = {name.replace("model.language_model.", "model."): value for name, value in reference.state_dict().items()}
    own = model.language_model.state_dict()
    assert own.keys() == {name for name in state if name == "lm_head.weight" or name.startswith("model.")} - {
        name for name in state if name.startswith(("model.visual.", "model.audio_tower."))
    }
    for name, tensor in own.items():
        assert torch.equal(tensor, state[name].to(dtype)), name


@pytest.mark.parametrize("family", FAMILIES)
def test_the_towers_weights_are_not_read(tmp_path: Path, family: str) -> None:
    model = load_model(save_checkpoint(thinker(family), tmp_path))
    names = [name for name, _ in model.named_parameters()]
    assert names
    assert not [name for name in names if "visual" in name or "audio_tower" in name or "talker" in name]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_skeleton_has_shapes_alone(tmp_path: Path, family: str) -> None:
    folder = save_checkpoint(thinker(family), tmp_path)
    skeleton, whole = load_skeleton(folder), load_model(folder)
    assert {tensor.device.type for tensor in skeleton.parameters()} == {"meta"}
    shapes = {name: tensor.shape for name, tensor in whole.named_parameters()}
    assert {name: tensor.shape for name, tensor in skeleton.named_parameters()} == shapes
    assert skeleton.streams == whole.streams


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tied_output_layer_is_the_embedding_table(tmp_path: Path, family: str) -> None:
    reference = thinker(family)
    folder = save_checkpoint(reference, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["thinker_config"]["tie_word_embeddings"] = True
    (folder / "config.json").write_text(json.dumps(config))
    rewrite(folder, lambda state: state.pop("thinker.lm_head.weight"))
    model = load_model(folder)
    assert model.language_model.lm_head.weight is model.language_model.model.embed_tokens.weight


def faults(family: str) -> list[tuple[str, Any, str]]:
    part = "mlp.up_proj.weight" if family == "qwen2_5_omni" else "mlp.experts.3.up_proj.weight"
    name = f"thinker.model.layers.1.{part}"
    return [
        ("missing", lambda state: state.pop(name), f"missing: model.layers.1.{part}"),
        ("misshapen", lambda state: state.update({name: torch.ones(2, 2)}), r"misshapen: .* is \[2, 2\], not \["),
        (
            "unknown",
            lambda state: state.update({"thinker.model.layers.9.x": torch.ones(2)}),
            r"unknown: model.layers.9.x",
        ),
        (
            "talker only",
            lambda state: [state.pop(key) for key in list(state) if key.startswith("thinker.")],
            "no weights of a thinker, only of talker, token2wav",
        ),
    ]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_do_not_fit_are_one_sentence(tmp_path: Path, family: str, number: int) -> None:
    folder = save_checkpoint(thinker(family), tmp_path)
    _, change, message = faults(family)[number]
    rewrite(folder, change)
    with pytest.raises(CheckpointError, match=message):
        load_model(folder)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = save_checkpoint(thinker("qwen2_5_omni"), tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="convert the weights to safetensors"):
        load_model(folder)


def test_a_tokenizer_with_other_ids_is_refused(tmp_path: Path) -> None:
    folder = save_checkpoint(thinker("qwen2_5_omni"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["thinker_config"]["audio_token_index"] = 262
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"no placeholder for audio that is token 262 \(here '<\|IMAGE\|>'\)"):
        load_model(folder)


def test_the_template_may_lie_in_the_processors_file(tmp_path: Path) -> None:
    folder = save_checkpoint(thinker("qwen2_5_omni"), tmp_path)
    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    assert load_model(folder).tokenizer.chat_template == template


@pytest.mark.parametrize("family", FAMILIES)
def test_features_that_can_not_be_the_models_are_refused(tmp_path: Path, family: str) -> None:
    reference = thinker(family)
    model = cast("QwenOmniModel", load_model(save_checkpoint(reference, tmp_path), dtype=torch.float64))
    rows = clip(family).rows(reference)
    video, audio = f"video/{family}", f"audio/{family}"
    with pytest.raises(FingerprintError, match=rf"audio features are \[5, 7\] and this model reads \[n, {WIDTH}\]"):
        model.sequence("Why?", "Joy.", streams={audio: torch.ones(5, 7)})
    with pytest.raises(PromptError, match="without its grid"):
        model.sequence("Why?", "Joy.", streams={video: rows["video"].features})
    cut = StreamRow(rows["video"].features[:-1], rows["video"].companions)
    with pytest.raises(FingerprintError, match="makes 12 tokens and its row holds 11"):
        model.sequence("Why?", "Joy.", streams={video: cut})
    long = StreamRow(torch.ones(5000, WIDTH))
    with pytest.raises(PromptError, match=r"fills \d+ positions, media included, and the context holds 4096"):
        model.sequence("Why?", "Joy.", streams={audio: long})


def test_dropout_on_experts_is_refused(tmp_path: Path) -> None:
    model = load_model(save_checkpoint(thinker("qwen3_omni"), tmp_path))
    with pytest.raises(SettingError, match="experts can't drop inputs"):
        model.add_lora(dropout=0.1)


def test_windows_can_not_share_prefixes_but_train_without(tmp_path: Path) -> None:
    reference = thinker("qwen2_5_omni", use_sliding_window=True, sliding_window=8, max_window_layers=1)
    model = load_model(save_checkpoint(reference, tmp_path), dtype=torch.float64)
    scored = [model.sequence("Why does he smile?", answer) for answer in ("He is glad.", "He is sad.")]
    with pytest.raises(SettingError, match="share_prefixes=False"):
        model.response_logprobs(scored)
    assert model.response_logprobs(scored, share_prefixes=False).shape == (2,)


def test_saving_the_whole_model_gives_the_released_layout(tmp_path: Path) -> None:
    folder = save_checkpoint(thinker("qwen3_omni"), tmp_path / "base", shards=2)
    model = load_model(folder, dtype=torch.float64)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.mul_(1.5)
    model.save(tmp_path / "saved")
    again = load_model(tmp_path / "saved", dtype=torch.float64)
    for (name, one), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(one, other), name
    assert again.fingerprint() == model.fingerprint()
    for path in folder.glob("*.safetensors"):
        assert load_file(path).keys() == load_file(tmp_path / "saved" / path.name).keys()


def test_a_folder_that_avem_did_not_write_is_kept(tmp_path: Path) -> None:
    model = load_model(save_checkpoint(thinker("qwen2_5_omni"), tmp_path / "base"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(AvemError):
        model.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_training_does_not_import_torchvision() -> None:
    code = "import sys, avem.train, avem.train.families.qwen_omni.family; sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
