"""`docs/recipe-qwen.md`: its commands are accepted, and its numbers are those of the dry runs."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from avem.cache import FeatureStore, mine_negatives
from avem.cli import app
from avem.extract import ExtractOptions, extract
from avem.train import PreferenceConfig
from avem.train.checkpoints.load import load_skeleton
from avem.train.preference import PreferenceTraining
from avem.train.run.memory import MemoryEstimate
from avem.train.run.training import preview_training
from avem.train.stages import stage_config
from tests.extract.conftest import write_clip
from tests.recipe_kit import FACTS, GIB, released_folder, released_store, three_rows_a_clip

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "recipe-qwen.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("#")[0] for line in PAGE.splitlines() if line.startswith("avem ")]
CLIP_S, FPS, CLIPS, GRID, SOUND = 5, 25, 8, (5, 24, 24), 125


def table(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    lines = PAGE.split(f"{heading}\n")[1].split("\n#")[0].splitlines()
    rows = [line for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_page_has_all_its_options(line):
    command, words = typer.main.get_command(app), shlex.split(line)[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("avem", words)
    settings = [value for name, value in pairwise(words) if name == "--set"]
    preset = words[words.index("--preset") + 1] if "--preset" in words else None
    stage_config("preference", {}, preset_name=preset, overrides=settings)


@pytest.fixture(scope="module", params=FACTS)
def size(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(size, tmp_path_factory) -> Path:
    return released_folder(tmp_path_factory.mktemp("released") / size, size)


def test_the_store_is_as_large_as_the_page_says(size, folder, tmp_path):
    for shape, budget, tokens, seven, three, total in table("### Disk"):
        width, height = map(int, shape.split(" x "))
        write_clip(tmp_path / shape / "happy/a.mp4", frames=CLIP_S * FPS, fps=FPS, size=(width, height), sound_s=CLIP_S)
        options = ExtractOptions(model=str(folder), dry_run=True, workers=1, max_pixels=int(budget) if budget else None)
        sizes = extract(tmp_path / shape, tmp_path / "none", options).sizes
        assert [int(part.replace(",", "")) for part in tokens.split(" + ")] == [
            sizes["video"].tokens_a_clip,
            sizes["audio"].tokens_a_clip,
        ]
        megabytes = sum(size.bytes_a_clip for size in sizes.values()) / 1e6
        assert f"{megabytes:.2f}" == (seven if size == "7B" else three)
        if size == "7B":
            assert f"{megabytes * 10_000 / 1e3:.0f} GB" == total


@pytest.fixture(scope="module")
def training(folder, tmp_path_factory) -> PreferenceConfig:
    root = tmp_path_factory.mktemp("recipe")
    store = released_store(root / "cache", folder, CLIPS, GRID, SOUND)
    mine_negatives(store, "hard", k=4)
    prefs = three_rows_a_clip(root / "prefs.jsonl", CLIPS, 30, 60)
    settings = {"cache": root / "cache", "model": str(folder), "prefs": prefs, "out": root / "run"}
    return PreferenceConfig(**settings, device="cpu", trackers="none", precision="bf16", gradient_checkpointing=True)


def test_training_takes_the_passes_that_the_page_says(size, folder, training):
    model = load_skeleton(str(folder))
    assert FeatureStore.open(training.cache).stream("video/qwen2_5_omni").lengths([0]).tolist() == [720]
    for pairing, prefixes, tokens, plain, saving in table("### Passes and tokens"):
        (name,) = re.findall(r"`(\w+)`", pairing)
        found = preview_training(PreferenceTraining(replace(training, pairing=name)), model)
        assert [f"{number:,}" for number in (found.prefixes, found.tokens, found.plain_tokens)] == [
            prefixes,
            tokens,
            plain,
        ]
        assert f"{found.saving:.1f} times" == saving
    weights = sum(parameter.numel() for parameter in model.language_model.parameters())
    stated = {name: values for name, *values in table("## Facts used")}
    column = list(FACTS).index(size)
    assert stated["weights, without towers"][column] == f"{weights:,}"
    facts = FACTS[size]
    assert stated["layers"][column] == str(facts["num_hidden_layers"])
    assert stated["vocabulary"][column] == f"{facts['vocab_size']:,}"


def test_training_takes_the_memory_that_the_page_says(size, training):
    memory = preview_training(PreferenceTraining(training)).memory
    assert isinstance(memory, MemoryEstimate)
    row = next(row for row in table("### Memory") if row[0] == f"{size}, and `gradient_checkpointing=true`")
    found = (memory.weights, memory.gradients + memory.optimiser, memory.activations, memory.total)
    assert [f"{part / GIB:.1f}" for part in found] == row[1:]
    trained = dict((name, values) for name, *values in table("## Facts used"))["weights that LoRA of rank 8 trains"]
    assert trained[list(FACTS).index(size)] == f"{memory.trained:,}"
