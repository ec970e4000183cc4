"""4-bit weights: what is converted, what it costs, how near it stays, and where it is refused."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from model_kit import random_audio, random_video, tiny_language_model, tiny_model
from torch import nn

from avem.errors import SettingError
from avem.train import load_model, quantise
from avem.train.config import SupervisedConfig
from avem.train.quantise import check_four_bit, four_bit_bytes, is_four_bit, quantise_linears


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_loading_in_4_bits(tmp_path):
    pytest.importorskip("bitsandbytes", reason="the extra avem[4bit] is not installed")
    tiny_model("llama-gqa", torch.bfloat16).save(tmp_path / "model")
    model = load_model(tmp_path / "model", "cuda", torch.bfloat16, four_bit=True)
    scores = model.response_logprobs([model.sequence("Why?", "Joy.", random_video(0), random_audio(0))])
    assert scores.isfinite().all()
    assert quantise.is_four_bit(model.language_model)
