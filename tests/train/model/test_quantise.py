"""4-bit weights: what is converted, what it costs, how near it stays, and where it is refused."""

from __future__ import annotations

import importlib.util
import json

import pytest
import torch
from model_kit import random_audio, random_video, tiny_language_model, tiny_model
from torch import nn

from avem.errors import SettingError
from avem.train import load_model
from avem.train.checkpoints import load as checkpoint
from avem.train.model import quantise
from avem.train.model.quantise import check_four_bit, four_bit_bytes, is_four_bit, quantise_linears
from avem.train.preference import train_preferences
from avem.train.settings.config import PreferenceConfig, SupervisedConfig
from avem.train.supervised import train_supervised
from tests.train.training_kit import make_kit


@pytest.fixture
def allowed_on_cpu(monkeypatch):
    """Lets a CPU keep 4-bit weights, which bitsandbytes can do slowly and users are refused.

    Its kernels for AVX-512, which pack the weights once more and ask for wider layers, stay off.
    """
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="the extra avem[4bit] is not installed")
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
    monkeypatch.setattr(checkpoint, "check_four_bit", lambda device: None)


def score(model):
    """Log-probabilities of two answers on one clip."""
    sequences = [model.sequence("Why?", answer, random_video(0), random_audio(0)) for answer in ("Joy.", "Rain.")]
    with torch.no_grad():
        return model.response_logprobs(sequences)


def assert_same_weights(model, expected):
    ours, theirs = model.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_refused_on_a_cpu(tmp_path):
    with pytest.raises(SettingError, match="4-bit weights need an NVIDIA GPU and the device is cpu"):
        load_model(tmp_path, four_bit=True)


def test_refused_without_the_package(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"pip install 'avem\[4bit\]'"):
        check_four_bit("cuda")


def test_refused_where_the_weights_are_trained(tmp_path):
    with pytest.raises(SettingError, match="freezes the weights that tune=full trains"):
        SupervisedConfig(cache=tmp_path, model="m", out=tmp_path, data=tmp_path, tune="full", quantise="4bit")


def test_bytes_by_hand():
    # 4096 x 64 weights: 131072 bytes of nibbles, 4096 scales, 16 scales of scales, an offset, two tables
    assert four_bit_bytes(4096 * 64) == 131072 + 4096 + 16 * 4 + 4 + (16 + 256) * 4


def test_linear_layers_but_the_last_are_converted():
    pytest.importorskip("bitsandbytes", reason="the extra avem[4bit] is not installed")
    language_model = tiny_language_model("llama-gqa", hidden_size=128, intermediate_size=256)
    before = language_model.model.layers[0].mlp.up_proj.weight.clone()
    quantise_linears(language_model, "cpu")
    assert is_four_bit(language_model)
    assert type(language_model.lm_head) is nn.Linear
    layer = language_model.model.layers[0].mlp.up_proj
    assert layer.weight.dtype == torch.uint8
    assert layer.weight.numel() == before.numel() // 2
    inputs = torch.eye(128)
    error = (layer(inputs).T - before).abs().mean() / before.abs().mean()
    assert 0 < error < 0.15  # NF4 keeps a normal distribution to about a tenth


def test_adapters_learn_on_frozen_4_bit_weights():
    pytest.importorskip("bitsandbytes", reason="the extra avem[4bit] is not installed")
    model = tiny_model("llama-gqa", torch.float32)
    sequences = [model.sequence("Why?", answer, random_video(0), random_audio(0)) for answer in ("Joy.", "Rain.")]
    quantise_linears(model.language_model, "cpu")
    with torch.no_grad():
        shared, plain = (model.response_logprobs(sequences, share_prefixes=share) for share in (True, False))
    torch.testing.assert_close(shared, plain, atol=1e-3, rtol=0)
    model.add_lora(rank=2)
    model.response_logprobs(sequences).sum().backward()
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert len(learning) == 2 * 7 * 2
    assert all(parameter.grad is not None for parameter in learning)
    model._adapter.clear()
    with pytest.raises(SettingError, match="in 4 bits"):
        model.save("unused")


def test_our_layout_loads_in_4_bits(allowed_on_cpu, tmp_path):
    tiny_model("llama-gqa", torch.float32).save(tmp_path / "model")
    model, plain = load_model(tmp_path / "model", four_bit=True), load_model(tmp_path / "model")
    assert is_four_bit(model.language_model)
    assert not is_four_bit(plain.language_model)
    assert model.fingerprint() != plain.fingerprint()
    whole = score(plain)
    quantise_linears(plain.language_model, "cpu")
    assert_same_weights(model, plain)
    assert torch.equal(score(model), score(plain))
    assert not torch.equal(score(model), whole)
    assert model.generate([model.prompt("Why?", random_video(0), random_audio(0))], max_new_tokens=3)


def test_averes_layout_loads_in_4_bits(allowed_on_cpu, golden, avere_golden):
    model, plain = load_model(golden / "avere_tiny", four_bit=True), load_model(golden / "avere_tiny")
    assert is_four_bit(model.language_model)
    features = avere_golden.tensor("video_features")[:1]
    assert torch.equal(model.video_projector(features), plain.video_projector(features))
    quantise_linears(plain.language_model, "cpu")
    assert_same_weights(model, plain)


def test_the_layers_of_averes_layout_stay_near(allowed_on_cpu, golden, avere_model):
    model = load_model(golden / "avere_tiny", four_bit=True)
    layers, converted = dict(avere_model.language_model.named_modules()), 0
    for name, layer in model.language_model.named_modules():
        if type(layer).__name__ == "Linear4bit":
            weight = layers[name].weight
            error = (layer(torch.eye(layer.in_features)).T - weight).abs().mean() / weight.abs().mean()
            assert 0 < error < 0.15, name
            converted += 1
    assert converted == 7 * avere_model.language_model.config.num_hidden_layers


def test_supervised_runs_learn_beside_4_bits(allowed_on_cpu, tmp_path):
    kit = make_kit(tmp_path)
    settings = kit.supervised_settings(
        tmp_path / "run", tune="lora", quantise="4bit", learning_rate=1e-2, max_steps=6, reliance_rows=0
    )
    run = train_supervised(SupervisedConfig(**settings))
    losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < 0.8 * losses[0]
    model, whole = load_model(run / "final", four_bit=True), load_model(run / "final")
    assert is_four_bit(model.language_model)
    assert not torch.equal(score(model), score(whole))


def test_preference_runs_learn_beside_4_bits(allowed_on_cpu, tmp_path):
    kit = make_kit(tmp_path)
    settings = kit.preference_settings(tmp_path / "run", quantise="4bit", epochs=1, max_steps=2, reliance_rows=0)
    run = train_preferences(PreferenceConfig(**settings))
    first, last = (json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines())
    assert first["loss"] != last["loss"]
    assert (run / "final" / "adapter_model.safetensors").is_file()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_loading_in_4_bits(tmp_path):
    pytest.importorskip("bitsandbytes", reason="the extra avem[4bit] is not installed")
    tiny_model("llama-gqa", torch.bfloat16).save(tmp_path / "model")
    model = load_model(tmp_path / "model", "cuda", torch.bfloat16, four_bit=True)
    scores = model.response_logprobs([model.sequence("Why?", "Joy.", random_video(0), random_audio(0))])
    assert scores.isfinite().all()
    assert quantise.is_four_bit(model.language_model)
