"""avem's own layout on disk: models, adapters, fingerprints, and damage."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from model_kit import byte_tokenizer, random_audio, random_video, tiny_config, tiny_language_model, tiny_model
from safetensors.torch import load_file, save_file

from avem.errors import CheckpointError, FingerprintError, MissingFileError, SettingError
from avem.sealed.checksums import CHECKSUMS
from avem.train import AudiovisualLM, load_model
from avem.train.checkpoints.merge import merge_model
from avem.train.model.language_models import load_language_model

VIDEO, AUDIO = random_video(0), random_audio(0)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[AudiovisualLM, Path]:
    model = tiny_model("llama-gqa", torch.float32)
    model.save(tmp_path / "base", provenance={"data": "made up"})
    return model, tmp_path / "base"


@pytest.fixture
def unsealed(saved) -> Path:
    """The saved folder as one from before checksums, so that what is wrong with a file itself is found."""
    (saved[1] / CHECKSUMS).unlink()
    return saved[1]


def score(model: AudiovisualLM) -> torch.Tensor:
    with torch.no_grad():
        return model.response_logprobs([model.sequence("Why?", answer, VIDEO, AUDIO) for answer in ("Joy.", "Rain.")])


def disturb(model: AudiovisualLM) -> None:
    """Give everything that takes gradients other values."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)


def assert_same_adapted(loaded: AudiovisualLM, model: AudiovisualLM) -> None:
    """The same weights; scores agree but for rounding, as new adapters are added to the weights and loaded ones not."""
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in loaded.state_dict().items())
    torch.testing.assert_close(score(loaded), score(model), atol=5e-5, rtol=0)


@pytest.mark.parametrize("family", ["llama-gqa", "smollm2", "qwen3", "gemma"])
def test_saved_models_come_back(tmp_path, family):
    model = tiny_model(family, torch.float32, prompt_format="chat")
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.config == model.config
    assert torch.equal(score(loaded), score(model))
    assert loaded.fingerprint() == model.fingerprint()
    assert not loaded.training


def test_seed_decides_the_projectors_and_nothing_else():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    made = [AudiovisualLM.create(tiny_language_model(), byte_tokenizer(), tiny_config(), seed) for seed in (0, 0, 1)]
    torch.manual_seed(5)
    AudiovisualLM.create(made[0].language_model, byte_tokenizer(), tiny_config(), 7)
    assert torch.equal(torch.rand(3), expected)
    assert made[0].fingerprint() == made[1].fingerprint() != made[2].fingerprint()


def test_the_language_model_stands_alone(saved):
    model, folder = saved
    language_model, tokenizer = load_language_model(folder / "language_model")
    assert torch.equal(language_model.lm_head.weight, model.language_model.lm_head.weight)
    assert tokenizer("Why?").input_ids == model.tokenizer("Why?").input_ids


def test_model_card_names_origin(saved):
    card = (saved[1] / "README.md").read_text()
    assert '"data": "made up"' in card
    assert "license: other" in card
    assert str(saved[1].parent) not in card


def test_adapter_goes_beside_its_base(saved, tmp_path):
    model, folder = saved
    base_scores = score(model)
    model.add_lora(rank=2, scale=4.0)
    disturb(model)
    model.save_adapter(tmp_path / "run" / "final")
    assert not (tmp_path / "run" / "final" / "projectors.safetensors").exists()
    settings = json.loads((tmp_path / "run" / "final" / "config.json").read_text())
    assert settings["base"] == "../../base"
    assert str(tmp_path) not in (tmp_path / "run" / "final" / "adapter_config.json").read_text()
    loaded = load_model(tmp_path / "run" / "final")
    assert_same_adapted(loaded, model)
    assert loaded.fingerprint() == model.fingerprint()
    with loaded.adapter_disabled():
        assert torch.equal(score(loaded), base_scores)
    (tmp_path / "moved").mkdir()
    (tmp_path / "run").rename(tmp_path / "moved" / "run")
    folder.rename(tmp_path / "moved" / "base")
    assert_same_adapted(load_model(tmp_path / "moved" / "run" / "final"), model)


def test_a_copied_run_says_where_its_base_is_looked_for_and_what_helps(saved, tmp_path):
    model, folder = saved
    model.add_lora(rank=2, scale=4.0)
    model.save_adapter(tmp_path / "project" / "runs" / "one" / "final")
    copy = shutil.copytree(tmp_path / "project" / "runs" / "one" / "final", tmp_path / "away" / "one" / "final")
    with pytest.raises(MissingFileError) as said:
        load_model(copy)
    place = (copy / json.loads((copy / "config.json").read_text())["base"]).resolve()
    assert f"which is not at {place};" in str(said.value)
    assert "`avem models merge RUN OUT`" in str(said.value)
    shutil.copytree(folder, place)  # the first cure
    assert_same_adapted(load_model(copy), model)
    shutil.rmtree(place)
    merged = merge_model(tmp_path / "project" / "runs" / "one" / "final", tmp_path / "merged")  # and the second one
    moved = shutil.copytree(merged, tmp_path / "elsewhere" / "merged")
    merged_scores = score(load_model(moved))
    assert torch.allclose(merged_scores, score(model), atol=1e-4)


def test_trained_projectors_travel_with_the_run(saved, tmp_path):
    model, _ = saved
    model.requires_grad_(False)
    model.audio_projector.requires_grad_(True)
    disturb(model)
    model.save_adapter(tmp_path / "final")
    names = load_file(tmp_path / "final" / "projectors.safetensors")
    assert names
    assert all(name.startswith("audio_projector.") for name in names)
    assert torch.equal(score(load_model(tmp_path / "final")), score(model))


def test_merged_adapter_scores_alike_and_can_be_saved(saved, tmp_path):
    model, _ = saved
    model.add_lora(rank=2, scale=4.0)
    disturb(model)
    adapted = score(model)
    with pytest.raises(SettingError, match="merge it first"):
        model.save(tmp_path / "merged")
    model.merge()
    model.save(tmp_path / "merged")
    torch.testing.assert_close(score(load_model(tmp_path / "merged")), adapted, atol=1e-4, rtol=0)


def test_adapters_on_adapters(saved, tmp_path):
    model, _ = saved
    model.add_lora(rank=2)
    disturb(model)
    model.save_adapter(tmp_path / "first")
    second = load_model(tmp_path / "first")
    second.add_lora(rank=3, scale=1.0)
    disturb(second)
    second.save_adapter(tmp_path / "second")
    torch.testing.assert_close(score(load_model(tmp_path / "second")), score(second), atol=1e-5, rtol=0)


def test_only_the_adapter_learns(saved):
    model, _ = saved
    model.add_lora(rank=2)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert len(trained) == 2 * 7 * 2


def test_lora_scale_is_alpha_over_rank(saved):
    """One layer by hand: x W' + scale x A' B'."""
    model, _ = saved
    layer = model.language_model.model.layers[0].mlp.up_proj
    weight = layer.weight.clone()
    model.add_lora(rank=2, scale=4.0)
    disturb(model)
    adapted = model.language_model.model.layers[0].mlp.up_proj
    inputs = torch.randn(3, 32)
    down, up = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
    torch.testing.assert_close(adapted(inputs), inputs @ weight.T + 4.0 * inputs @ down.T @ up.T)


def test_adapter_seed(saved):
    _, folder = saved
    prints = []
    for seed in (0, 0, 1):
        model = load_model(folder)
        model.add_lora(rank=2, seed=seed)
        prints.append(model.fingerprint())
    assert prints[0] == prints[1] != prints[2]


def test_fingerprint_sees_what_matters(saved):
    model, folder = saved
    prints = {model.fingerprint(), load_model(folder, dtype=torch.float64).fingerprint()}
    for change in ("llava_v1", "chat"):
        language_model = tiny_language_model("llama-gqa")
        made = AudiovisualLM.create(language_model, byte_tokenizer(), tiny_config(prompt_format=change), seed=1)
        prints.add(made.fingerprint())
    with torch.no_grad():
        model.audio_projector.network.queries[0, 0, 0] += 1e-6
    prints.add(model.fingerprint())
    for rank, scale in ((2, 4.0), (2, 1.0)):
        model.add_lora(rank=rank, scale=scale)
        prints.add(model.fingerprint())
    assert len(prints) == 7


def test_features_of_another_store():
    model = tiny_model(video_fingerprint="a" * 64)
    model.check_features("video", "a" * 64)
    model.check_features("audio", "b" * 64)
    with pytest.raises(FingerprintError, match=r"bbbbbbbbbbbb.*aaaaaaaaaaaa"):
        model.check_features("video", "b" * 64)


def test_adapter_needs_a_base_on_disk(tmp_path):
    model = tiny_model()
    model.add_lora(2)
    with pytest.raises(SettingError, match="in memory only"):
        model.save_adapter(tmp_path / "final")


@pytest.mark.parametrize("numbers", [{"rank": 0}, {"scale": 0.0}, {"dropout": 1.0}])
def test_lora_numbers_out_of_range(numbers):
    with pytest.raises(SettingError, match="LoRA needs"):
        tiny_model().add_lora(**numbers)


def test_lost_base_is_named(saved, tmp_path):
    model, folder = saved
    model.add_lora(2)
    model.save_adapter(tmp_path / "final")
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(MissingFileError, match=r"which is not at .*/base; if the run was moved"):
        load_model(tmp_path / "final")


def test_adapter_of_another_model_is_refused(saved, tmp_path):
    model, folder = saved
    model.add_lora(2)
    model.save_adapter(tmp_path / "final")
    other = AudiovisualLM.create(tiny_language_model(intermediate_size=64), byte_tokenizer(), tiny_config())
    other.save(folder)
    with pytest.raises(CheckpointError, match="does not fit its base"):
        load_model(tmp_path / "final")


def rewrite(path: Path, change) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("projectors.safetensors", "video_projector.network.0.weight"),
        ("language_model/model.safetensors", "model.norm.weight"),
    ],
)
def test_damaged_weights_are_named(unsealed, file, name):
    path = unsealed / file
    whole = path.read_bytes()
    rewrite(path, lambda state: state.pop(name))
    with pytest.raises(CheckpointError, match=f"missing: {name}"):
        load_model(unsealed)
    path.write_bytes(whole)
    rewrite(path, lambda state: state.update({name: torch.zeros(5)}))
    with pytest.raises(CheckpointError, match=f"misshapen: {name}"):
        load_model(unsealed)
    path.write_bytes(whole)
    rewrite(path, lambda state: state.update({"model.surprise": torch.zeros(5)}))
    with pytest.raises(CheckpointError, match=r"unknown: model\.surprise"):
        load_model(unsealed)
    path.write_bytes(whole[:-8])
    with pytest.raises(CheckpointError):
        load_model(unsealed)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_in_a_language_model_is_never_run(unsealed, tmp_path, zipped):
    witness = tmp_path / "witness"

    class Attack:
        def __reduce__(self):
            return (Path.touch, (witness,))

    weights = unsealed / "language_model" / "pytorch_model.bin"
    (unsealed / "language_model" / "model.safetensors").unlink()
    if zipped:
        torch.save({"model.norm.weight": Attack()}, weights)
    else:
        weights.write_bytes(pickle.dumps({"model.norm.weight": Attack()}))
    with pytest.raises(CheckpointError, match="pickle can run code"):
        load_model(unsealed)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        ("config.json", MissingFileError, r"no config\.json"),
        ("projectors.safetensors", MissingFileError, r"projectors\.safetensors"),
        ("language_model/tokenizer.json", CheckpointError, "tokenizer"),
        ("language_model/config.json", CheckpointError, "language model"),
        ("language_model/model.safetensors", CheckpointError, "language model"),
    ],
)
def test_missing_files_are_named(unsealed, file, error, message):
    (unsealed / file).unlink()
    with pytest.raises(error, match=message):
        load_model(unsealed)


@pytest.mark.parametrize("content", ["{", "[]", '{"model_type": "avem", "format_version": 99}'])
def test_broken_configuration(unsealed, content):
    (unsealed / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"not JSON|should hold an object|format version 99"):
        load_model(unsealed)


def test_importing_the_room_loads_nothing_heavy():
    code = "import sys, avem.train; print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_unknown_names_of_the_room():
    import avem.train

    with pytest.raises(AttributeError, match="magic"):
        _ = avem.train.magic


def test_adapters_and_checkpointing_warn_of_nothing(saved, recwarn):
    model, folder = saved
    model.add_lora(rank=2)
    model.checkpoint_activations()
    model.save_adapter(folder.parent / "final")
    load_model(folder.parent / "final")
    assert not [warning.message for warning in recwarn if issubclass(warning.category, FutureWarning)]
