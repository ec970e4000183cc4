"""4-bit weights on the pretended GPU: loading, scoring and training, against the same on the CPU."""

from __future__ import annotations

import json

import accelerate
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorDeviceMismatchError

from avem.train import load_model
from avem.train.model.quantise import is_four_bit
from avem.train.settings.config import SupervisedConfig
from avem.train.supervised import train_supervised
from tests.gpu.four_bit import four_bit_on_gpu
from tests.gpu.pretended import GPU, pretended_gpu
from tests.train.families.qwen_omni import qwen_omni_kit
from tests.train.model_kit import random_audio, random_video, tiny_model
from tests.train.training_kit import make_kit, weights_of

bitsandbytes = pytest.importorskip("bitsandbytes", reason="the extra avem[4bit] is not installed")


@pytest.fixture(autouse=True)
def allowed_on_cpu(monkeypatch):
    """The CPU's side of each comparison, which users are refused."""
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: False)
    monkeypatch.setattr("avem.train.checkpoints.load.check_four_bit", lambda device: None)


def scores(model):
    asked = [("Why?", "Joy.", 0), ("Why?", "Rain.", 0), ("What cue?", "tears", 1)]
    sequences = [model.sequence(q, a, random_video(n), random_audio(0)) for q, a, n in asked]
    with torch.no_grad():
        return [model.response_logprobs(sequences, share_prefixes=shared) for shared in (True, False)]


def linears(model):
    return {name: layer for name, layer in model.language_model.named_modules() if type(layer).__name__ == "Linear4bit"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_loads_and_scores(tmp_path, dtype):
    tiny_model("llama-gqa", dtype).save(tmp_path / "model")
    expected = load_model(tmp_path / "model", dtype=dtype, four_bit=True)
    one = scores(expected)
    with pretended_gpu() as gpu, four_bit_on_gpu():
        model = load_model(tmp_path / "model", gpu, dtype, four_bit=True)
        assert is_four_bit(model.language_model)
        assert linears(model).keys() == linears(expected).keys()
        for name, layer in linears(model).items():
            assert layer.weight.device == layer.weight.quant_state.absmax.device == GPU, name
            assert layer.weight.dtype == torch.uint8
            assert torch.equal(layer.weight.cpu(), linears(expected)[name].weight)
        assert {value.device for value in (*model.parameters(), *model.buffers())} == {GPU}
        other = scores(model)
        for left, right in zip(one, other, strict=True):
            assert right.device == GPU
            torch.testing.assert_close(right.cpu(), left, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.15)
        some = next(iter(linears(model).values()))
        with pytest.raises(FakeTensorDeviceMismatchError):
            some(torch.ones(1, some.in_features, dtype=dtype))


@pytest.mark.parametrize("family", qwen_omni_kit.FAMILIES)
def test_qwen_omni_keeps_experts_as_they_are(tmp_path, family):
    reference = qwen_omni_kit.thinker(family, dtype=torch.float32)
    folder = qwen_omni_kit.save_checkpoint(reference, tmp_path)
    shown = qwen_omni_kit.clip(family, seed=0, dtype=torch.float32).rows(reference)
    rows = {f"{side}/{family}": row for side, row in shown.items()}

    def scored(model):
        if family == "qwen3_omni":
            model.language_model.set_experts_implementation("eager")
        sequences = [model.sequence("What cue?", answer, streams=rows) for answer in ("tears", "a smile")]
        with torch.no_grad():
            return model.response_logprobs(sequences)

    expected = scored(load_model(folder, four_bit=True))
    with pretended_gpu() as gpu, four_bit_on_gpu():
        model = load_model(folder, gpu, four_bit=True)
        experts = [value for name, value in model.named_parameters() if ".experts." in name]
        assert bool(experts) == (family == "qwen3_omni")
        assert {value.dtype for value in experts} <= {torch.float32}
        assert {value.device for value in model.parameters()} == {GPU}
        torch.testing.assert_close(scored(model).cpu(), expected, rtol=1e-4, atol=1e-3)


def test_adapters_learn(tmp_path, monkeypatch):
    kit = make_kit(tmp_path)

    def run(name):
        settings = kit.supervised_settings(tmp_path / name, tune="lora", quantise="4bit", max_steps=3, reliance_rows=0)
        out = train_supervised(SupervisedConfig(**settings))
        return weights_of(out), [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]

    weights, lines = run("cpu")
    with pretended_gpu() as gpu, four_bit_on_gpu():
        monkeypatch.setattr(accelerate.Accelerator, "device", property(lambda _: gpu))
        found, others = run("gpu")
    assert len(lines) == len(others) == 3
    for left, right in zip(lines, others, strict=True):
        assert right["loss"] == pytest.approx(left["loss"], rel=1e-4)
        assert right["grad_norm"] == pytest.approx(left["grad_norm"], rel=1e-3)
    for name, tensor in weights.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-4)
