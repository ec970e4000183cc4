"""The GPU benchmark from end to end with tiny shapes: on the CPU, and on a pretended GPU in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from avem.errors import SettingError
from avem.tools.project.benchmarks.gpu.kits import Place, Towers
from avem.tools.project.benchmarks.gpu.results import FILES
from avem.tools.project.benchmarks.gpu.run import LLAMA, OMNI, Options, benchmark
from avem.tools.project.benchmarks.gpu.shapes import full_sizes, tiny_sizes
from avem.tools.project.benchmarks.gpu.sides import ORDER, StepBench
from avem.tools.project.benchmarks.gpu.weights import make_weights


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpu") / "results"
    benchmark(Options(minutes=10_000, device="cpu", shape="tiny", out=folder))
    return folder, json.loads((folder / "results.json").read_text())


def rows_of(found, title):
    return [row for part in found[1]["parts"] if part["table"] == title for row in part["rows"]]


def test_every_part_runs(found):
    assert {part["name"]: part["reason"] for part in found[1]["parts"] if part["status"] != "ran"} == {}
    assert found[1]["waiting"] == []
    assert {path.name for path in found[0].iterdir()} == set(FILES)
    assert "Every part ran." in (found[0] / "results.md").read_text()


@pytest.mark.parametrize("model", [LLAMA, OMNI])
def test_all_sides_have_one_loss_and_packing_computes_less(found, model):
    rows = {row["side"]: row for row in rows_of(found, f"One step, {model}")}
    assert list(rows) == list(ORDER)
    for row in rows.values():
        assert row["difference from the packed loss"] < 1e-4
        assert row["s a row"] > 0
        assert row["share of peak"] > 0
    tokens = [rows[f"avem, {name}"]["tokens through the model"] for name in ("mutual", "grouped", "independent")]
    assert tokens == sorted(tokens)
    assert rows[ORDER[0]]["loss"] != pytest.approx(2 * 0.6931472, abs=1e-3)  # policy and reference differ


@pytest.mark.parametrize("model", [LLAMA, OMNI])
def test_the_estimate_is_compared_with_the_step(found, model):
    row = rows_of(found, f"One step, {model}")[0]
    assert row["estimated, GiB"] == pytest.approx(row["peak memory, GiB"], rel=0.1)


def test_both_kinds_of_attention_agree(found):
    rows = rows_of(found, "Attention over the packed tree of the mutual step")
    assert [row["attention"] for row in rows] == ["grouped SDPA", "flex attention"] * 2
    assert max(row["largest relative difference"] for row in rows) < 1e-4
    assert [row["tower"] for row in rows_of(found, "Towers")] == ["ViT (LanguageBind-Video)", "Whisper's encoder"]


def test_a_side_that_does_not_fit_is_tried_with_fewer_rows(monkeypatch):
    tried = []

    def full(self, side, run, load):
        tried.append(load)
        if len(tried) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return {"side": side}

    class Config:
        gradient_checkpointing = True

    class Opened:
        config = Config()
        session = SimpleNamespace(model=torch.nn.Linear(1, 1))

    monkeypatch.setattr(StepBench, "_timed", full)
    monkeypatch.setattr(StepBench, "_plain", lambda self, side, rows: None)
    monkeypatch.setattr(StepBench, "_load", lambda self, side, rows: rows)
    table = StepBench("a model", lambda: None, 1, 1.0, bench=Opened()).measure(ORDER[1])
    assert tried == [2, 1]
    assert table.notes[:2] == (f"{ORDER[1]}: out of memory with 2 rows at once.", f"{ORDER[1]}: 1 rows at once.")


def test_full_sizes_are_the_released_ones():
    sizes = full_sizes()
    text = sizes.omni.text_config
    assert (text.hidden_size, text.num_hidden_layers, text.intermediate_size) == (3584, 28, 18944)
    assert (text.num_attention_heads, text.num_key_value_heads, text.vocab_size) == (28, 4, 152064)
    vision, audio = sizes.omni.vision_config, sizes.omni.audio_config
    assert (vision.hidden_size, vision.depth, audio.d_model, audio.encoder_layers) == (1280, 32, 1280, 32)
    assert sizes.video.tokens == 257
    assert sizes.video.num_frames == 8


def test_weights_are_made_where_they_are_needed():
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        module = torch.nn.Sequential(torch.nn.Linear(400, 300), torch.nn.LayerNorm(300), torch.nn.BatchNorm1d(300))
    make_weights(module, torch.device("cpu"), torch.bfloat16)
    linear, norm, _ = module
    assert linear.weight.dtype == torch.bfloat16
    assert linear.weight.float().std().item() == pytest.approx(400**-0.5, rel=0.02)
    assert linear.bias.abs().max() == 0
    assert norm.weight.tolist() == [1.0] * 300
    assert module[2].running_var.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_towers_encode_in_the_number_format(dtype):
    """Whisper's norms stay in float32, whatever the format; with norms in bfloat16 it can't compute."""
    towers = Towers(tiny_sizes(), Place(torch.device("cpu"), dtype))
    for features, _ in (towers.video.encode(towers.pixels(1)), towers.audio.encode(towers.mels(1))):
        assert features.dtype == dtype
        assert features.isfinite().all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"device": "cuda:99"}, "use --device cpu --shape tiny"),
        ({"device": "gpu"}, "must be auto, cpu, cuda or cuda:1"),
        ({"shape": "huge"}, "choose one of full, tiny"),
        ({"precision": "int8"}, "choose one of bf16, float32"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path, change, said):
    with pytest.raises(SettingError, match=said):
        benchmark(Options(**{"device": "cpu", "shape": "tiny", "out": tmp_path / "new", **change}))
    assert not (tmp_path / "new").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "results.md").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SettingError, match="name a new folder with --out"):
        benchmark(Options(device="cpu", shape="tiny", out=tmp_path))
    assert (tmp_path / "results.md").read_text() == "old"


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_on_the_pretended_gpu(precision):
    """Registering a device changes a whole process."""
    script = Path(__file__).with_name("pretended_run.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(script), "-k", precision, "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=script.parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
