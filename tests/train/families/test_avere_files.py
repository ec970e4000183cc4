"""AVERE checkpoints on disk: layouts, damage, and the way back."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from avem.errors import CheckpointError, MissingFileError, SettingError
from avem.train import AudiovisualConfig, AudiovisualLM, load_model
from avem.train.families.avere.checkpoint import _llama_config, avere_name
from avem.train.families.avere.export import save_avere


@pytest.fixture
def copied(golden: Path, tmp_path: Path) -> Path:
    """A checkpoint that a test may change; safetensors only."""
    folder = tmp_path / "avere"
    shutil.copytree(golden / "avere_tiny", folder)
    (folder / "pytorch_model.bin").unlink()
    (folder / "io.npz").unlink()
    return folder


def rewrite(folder: Path, change) -> None:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def same_weights(first: AudiovisualLM, second: AudiovisualLM) -> bool:
    states = first.state_dict(), second.state_dict()
    if states[0].keys() != states[1].keys():
        return False
    return all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_pytorch_file_gives_the_same_model(copied, golden, avere_model):
    (copied / "model.safetensors").unlink()
    shutil.copyfile(golden / "avere_tiny" / "pytorch_model.bin", copied / "pytorch_model.bin")
    assert same_weights(load_model(copied), avere_model)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_give_the_same_model(copied, avere_model, suffix):
    state = load_file(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    names, weight_map = sorted(state), {}
    for number, part in enumerate((names[::2], names[1::2]), start=1):
        file = f"{stem}-{number:05}-of-00002.{suffix}"
        tensors = {name: state[name].clone() for name in part}
        save_file(tensors, copied / file) if suffix == "safetensors" else torch.save(tensors, copied / file)
        weight_map |= dict.fromkeys(part, file)
    (copied / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert same_weights(load_model(copied), avere_model)
    (copied / weight_map[names[0]]).unlink()
    with pytest.raises(MissingFileError, match="00001-of-00002"):
        load_model(copied)


def test_missing_tensor_is_named(copied):
    rewrite(copied, lambda state: state.pop("model.speech_projector.ln_speech.bias"))
    with pytest.raises(CheckpointError, match=r"missing: model\.speech_projector\.ln_speech\.bias"):
        load_model(copied)


def test_unknown_tensor_is_named(copied):
    rewrite(copied, lambda state: state.update({"model.surprise.weight": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match=r"unknown: model\.surprise\.weight"):
        load_model(copied)


def test_misshapen_tensor_is_named(copied):
    rewrite(copied, lambda state: state.update({"model.mm_projector.0.weight": torch.zeros(64, 31)}))
    with pytest.raises(CheckpointError, match=r"model\.mm_projector\.0\.weight is \[64, 31\], not \[64, 32\]"):
        load_model(copied)


def test_towers_and_buffers_may_be_absent(copied, avere_model):
    def strip(state):
        for name in [name for name in state if "_tower." in name or "inv_freq" in name or "position_ids" in name]:
            del state[name]

    rewrite(copied, strip)
    assert same_weights(load_model(copied), avere_model)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_never_run(copied, tmp_path, zipped):
    witness = tmp_path / "witness"

    class Attack:
        def __reduce__(self):
            return (Path.touch, (witness,))

    (copied / "model.safetensors").unlink()
    if zipped:
        torch.save({"weight": Attack()}, copied / "pytorch_model.bin")
    else:
        (copied / "pytorch_model.bin").write_bytes(pickle.dumps({"weight": Attack()}))
    with pytest.raises(CheckpointError, match="pickle can run code"):
        load_model(copied)
    assert not witness.exists()


def test_torn_file_is_refused(copied):
    whole = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        load_model(copied)


def test_unknown_number_of_heads_is_not_guessed(copied):
    shutil.rmtree(copied / "backbones")
    with pytest.raises(MissingFileError, match="attention heads"):
        load_model(copied)


def test_folders_that_are_no_models(tmp_path):
    with pytest.raises(MissingFileError):
        load_model(tmp_path / "nothing")
    with pytest.raises(MissingFileError, match=r"no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match="neither an AVERE"):
        load_model(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_round_trip_keeps_every_tensor(copied, tmp_path, dtype):
    def narrow(state):
        for name, tensor in state.items():
            if tensor.is_floating_point() and "inv_freq" not in name:
                state[name] = tensor.to(dtype)

    rewrite(copied, narrow)
    settings = json.loads((copied / "config.json").read_text())
    settings["torch_dtype"] = str(dtype).removeprefix("torch.")
    (copied / "config.json").write_text(json.dumps(settings))
    load_model(copied).save(tmp_path / "ours")
    back = tmp_path / "back"
    save_avere(load_model(tmp_path / "ours"), back, towers=copied)
    before, after = load_file(copied / "model.safetensors"), load_file(back / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype, name
        assert after[name].numpy().tobytes() == tensor.numpy().tobytes(), name
    assert json.loads((back / "config.json").read_text()) == settings
    for name in ("tokenizer.model", "tokenizer.json"):
        assert (back / name).read_bytes() == (copied / name).read_bytes()


PEAK = """
import sys, torch
from avem.train import load_model

def kilobytes(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field))
    return int(line.split()[1])

load_model(sys.argv[1])  # imports everything
before = kilobytes("VmRSS")
model = load_model(sys.argv[2], dtype=torch.float32)
size = sum(p.numel() * p.element_size() for p in model.parameters()) / 1024
print((kilobytes("VmHWM") - before) / size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_loading_takes_little_more_than_the_model(copied, golden, tmp_path):
    """A float16 file of 90 MB read as float32: at most 1.2 times the model's size at any moment."""
    settings = json.loads((copied / "config.json").read_text())
    settings |= {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 12, "vocab_size": 8000}
    (copied / "config.json").write_text(json.dumps(settings))
    tiny = load_file(copied / "model.safetensors")
    config = AudiovisualConfig(
        video_hidden_size=32,
        audio_hidden_size=64,
        qformer_hidden_size=36,
        qformer_num_attention_heads=3,
        qformer_intermediate_size=96,
    )
    model = AudiovisualLM(LlamaForCausalLM(_llama_config(settings)), None, config)
    towers = {name: tensor for name, tensor in tiny.items() if "_tower." in name}
    state = {avere_name(name): tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state | towers, copied / "model.safetensors", metadata={"format": "pt"})
    command = [sys.executable, "-c", PEAK, str(golden / "avere_tiny"), str(copied)]
    ratio = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert 0.9 < ratio <= 1.2


def test_export_needs_encoders(avere_model, tmp_path):
    with pytest.raises(MissingFileError, match="towers="):
        save_avere(avere_model, tmp_path / "out", towers=tmp_path)
    assert not (tmp_path / "out").exists()
    avere_model.source, source = "", avere_model.source
    try:
        with pytest.raises(MissingFileError, match="made in memory"):
            save_avere(avere_model, tmp_path / "out")
    finally:
        avere_model.source = source


def test_export_refuses_adapters(copied, tmp_path):
    model = load_model(copied)
    model.add_lora(2)
    with pytest.raises(SettingError, match="merge"):
        save_avere(model, tmp_path / "out")
