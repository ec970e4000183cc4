"""Memory before loading: skeletons are the model without its weights, and counted bytes are the real ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import typer
from model_kit import random_audio, random_video, tiny_model
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from avem.commands.train import train
from avem.errors import CheckpointError
from avem.train import AudiovisualLM, load_model
from avem.train.checkpoints.load import load_skeleton
from avem.train.model.quantise import four_bit_bytes
from avem.train.run.live_bytes import LiveBytes
from avem.train.run.memory import MemoryEstimate, estimate_memory, make_weightless, pass_bytes, weight_bytes
from avem.train.run.session import prepare_model
from avem.train.settings.config import SupervisedConfig
from avem.train.stages import preview_stage
from tests.train.training_kit import Kit, make_kit


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("memory"))


def parts(model: AudiovisualLM) -> dict[str, tuple]:
    return {name: (tuple(value.shape), value.dtype) for name, value in model.named_parameters()}


def score(model: AudiovisualLM, dtype: torch.dtype) -> torch.Tensor:
    video, audio = random_video(0).to(dtype), random_audio(0).to(dtype)
    return model.response_logprobs([model.sequence("Why?", answer, video, audio) for answer in ("Joy.", "Just rain.")])


def test_a_skeleton_is_the_model_without_its_weights(kit, golden):
    for place in (kit.model, golden / "avere_tiny"):
        skeleton, model = load_skeleton(place), load_model(place)
        assert parts(skeleton) == parts(model)
        assert {value.device.type for value in skeleton.parameters()} == {"meta"}
        assert skeleton.config == model.config
        assert weight_bytes(skeleton) == sum(value.numel() * value.element_size() for value in model.parameters())
        assert skeleton.fingerprint() == ""


def test_a_skeleton_of_a_run_is_that_of_its_base(kit, tmp_path):
    model = load_model(kit.model)
    model.add_lora(2)
    model.save_adapter(tmp_path / "final")
    assert parts(load_skeleton(tmp_path / "final")) == parts(load_model(kit.model))


def test_a_skeleton_refuses_what_does_not_fit(golden, tmp_path):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "backbones.json"):
        (tmp_path / name).write_bytes((golden / "avere_tiny" / name).read_bytes())
    (tmp_path / "backbones").symlink_to(golden / "avere_tiny" / "backbones")
    state = load_file(golden / "avere_tiny" / "model.safetensors")
    state["model.norm.weight"] = torch.zeros(3)
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"misshapen: model\.norm\.weight is \[3\]"):
        load_skeleton(tmp_path)


def test_live_bytes_by_hand():
    """Two tensors of 64 bytes live at once, then one; a view and a change in place take nothing."""
    known = torch.zeros(100)
    with LiveBytes([known]) as live:
        kept = torch.zeros(4, 4) + 1
        assert (live.now, live.most) == (64, 128)
        view = kept.view(16)[:8]
        kept.mul_(2)
        known.add_(1)
        assert (live.now, live.most) == (64, 128)
        del kept
        assert live.now == 64
        del view
        assert (live.now, live.most) == (0, 128)


def network_of(*layers: nn.Module) -> SimpleNamespace:
    network = nn.Sequential(*layers)
    return SimpleNamespace(
        language_model=network, parameters=network.parameters, zero_grad=network.zero_grad, run=network.forward
    )


def test_a_pass_by_hand():
    """3 x 4 outputs and their ReLU are 48 bytes each; gradients of weight and bias, 4 x 8 and 4, are 144 together."""
    model, inputs = network_of(nn.Linear(8, 4), nn.ReLU()), torch.zeros(3, 8)
    gradients = (4 * 8 + 4) * 4
    with LiveBytes([inputs, *model.parameters()]) as live:
        loss = model.run(inputs).sum()
        assert (live.now, live.most) == (48 + 4, 96)  # only the ReLU's output is kept, and the sum
    del loss
    held = pass_bytes(model, lambda: model.run(inputs))
    assert gradients <= held <= gradients + 3 * 48 + 8
    assert held < pass_bytes(model, lambda: model.run(inputs), accumulates=True) <= held + gradients
    assert all(parameter.grad is None for parameter in model.parameters())
    found = estimate_memory(model, lambda: model.run(inputs), capacity=1000)
    weights = 8 * 4 + 4
    assert found == MemoryEstimate(
        weights, weights, weights * 4, weights * 4, weights * 8, held - gradients, features=0, capacity=1000
    )
    assert found.total == weights * 12 + held
    assert not replace(found, capacity=int(found.total / 0.9) - 1).fits
    assert replace(found, capacity=int(found.total / 0.9) + 1).fits


def test_several_processes_join_gradients_in_a_message_of_their_size():
    model = network_of(nn.Linear(64, 64))
    one, two = (
        estimate_memory(model, lambda: model.run(torch.zeros(2, 64)), processes=processes) for processes in (1, 2)
    )
    assert two.gradients == 2 * one.gradients
    assert two.activations < one.activations  # freed before the message is made


@pytest.mark.parametrize(("tune", "precision"), [("lora", "float32"), ("lora", "bf16"), ("full", "float32")])
def test_tensors_without_storage_are_counted_like_real_ones(kit, tmp_path, tune, precision):
    half, counts = precision == "bf16", []
    for checkpointing in (False, True):
        config = SupervisedConfig(
            **kit.supervised_settings(tmp_path, tune=tune, precision=precision, gradient_checkpointing=checkpointing)
        )
        for model in (load_model(kit.model), load_skeleton(kit.model)):

            def forward(model: AudiovisualLM = model) -> torch.Tensor:
                with torch.autocast("cpu", torch.bfloat16, enabled=half):
                    return score(model, torch.bfloat16 if half else torch.float16)

            prepare_model(model, config)
            if model.device.type == "meta":
                make_weightless(model)
            counts.append(pass_bytes(model, forward))
    assert counts[0] == pytest.approx(counts[1], rel=1e-3)
    assert counts[2] == pytest.approx(counts[3], rel=1e-3)
    assert 0 < counts[2] < counts[0]


def test_4_bit_weights_are_counted_where_they_are_frozen():
    model = tiny_model("llama-gqa", torch.bfloat16)
    linears = [part.weight for part in model.language_model.model.modules() if isinstance(part, nn.Linear)]
    packed = sum(four_bit_bytes(weight.numel()) - 2 * weight.numel() for weight in linears)
    model.requires_grad_(False)
    assert weight_bytes(model, four_bit=True) == weight_bytes(model) + packed


def test_a_dry_run_reads_no_weights(kit, tmp_path, monkeypatch):
    monkeypatch.setattr("avem.train.run.session.load_model", None)
    app = typer.Typer()
    app.command()(train)
    command = [
        "--stage",
        "sft",
        "--cache",
        str(kit.store),
        "--data",
        str(kit.data),
        "--model",
        str(kit.model),
        "--out",
        str(tmp_path / "run"),
        "--dry-run",
        "--set",
        "device=cpu",
    ]
    shown = CliRunner().invoke(app, command, catch_exceptions=False).output
    assert "fits in" in shown
    shown = CliRunner().invoke(app, [*command, "--gpu-memory", "0.1"], catch_exceptions=False).output
    assert "in 102 MiB" in shown


def test_the_estimate_of_a_run(kit, tmp_path):
    settings = kit.supervised_settings(tmp_path / "run", epochs=1)
    memory = preview_stage(SupervisedConfig(**settings)).memory
    model = load_model(kit.model)
    count = sum(value.numel() for value in model.parameters())
    assert memory is not None
    assert (memory.parameters, memory.trained, memory.weights) == (count, count, 4 * count)
    assert (memory.gradients, memory.optimiser) == (4 * count, 8 * count)
    adapted = preview_stage(SupervisedConfig(**{**settings, "tune": "lora"})).memory
    assert adapted is not None
    assert adapted.trained < count
    assert adapted.activations > 0
    assert not Path(settings["out"]).exists()
