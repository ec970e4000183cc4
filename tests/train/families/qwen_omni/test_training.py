"""Preference and supervised training of a Qwen-Omni-shaped base from a store with rows of any length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import peft
import pytest
import torch
from typer.testing import CliRunner

from avem.cache import ClipRecord, Companion, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.cli import app
from avem.errors import FingerprintError, SettingError
from avem.files import write_json_lines
from avem.hub.omni import OmniFolder
from avem.train import (
    PreferenceConfig,
    SupervisedConfig,
    load_model,
    score_answers,
    train_preferences,
    train_supervised,
)
from avem.train.families.qwen_omni.model import QwenOmniModel
from avem.train.model.media import StreamRow
from tests.train.families.qwen_omni.qwen_omni_kit import FAMILIES, WIDTH, clip, save_checkpoint, thinker
from tests.train.families.qwen_omni.test_equality import with_towers
from tests.train.training_kit import CLIPS, EMOTIONS, instruction_rows, negatives, preference_rows, write_negatives

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*pattern keys did not match:RuntimeWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
DETAILS = [RowDetails()]
SILENT = RowDetails("failed", "no audio stream", has_audio=False)


def shown(family: str, number: int) -> Any:
    """Clips differ in size and length; the last is silent."""
    grid = (1 + number % 3, 2 + 2 * (number % 2), 4)
    return clip(family, grid, seconds_per_slot=1.0, mel=None if number == CLIPS - 1 else 90 + 17 * number, seed=number)


def make_store(path: Path, reference: Any, folder: Path, **changed: str) -> FeatureStore:
    """Eight clips as the towers of a checkpoint see and hear them, a row a shard."""
    omni = OmniFolder.open(folder)
    family = omni.family
    writer = StoreWriter.open(path)
    records = [
        ClipRecord(f"toy/{n:03d}", "toy", f"{n:03d}.mp4", f"{n:064x}", emotion=EMOTIONS[n % 3]) for n in range(CLIPS)
    ]
    writer.add_clips(records, root=path.parent)
    companions = {"grid": Companion((3,), "int32"), "seconds_per_slot": Companion((), "float32")}
    if family == "qwen3_omni":
        companions["deepstack"] = Companion((3, None, WIDTH), "bfloat16")
    for slot, tower in (("video", "visual"), ("audio", "audio")):
        says = {"encoder": family, "weights_sha256": omni.tower_digest(tower), **changed}  # type: ignore[arg-type]
        more = companions if slot == "video" else {}
        spec = StreamSpec(slot, family, says, (None, WIDTH), 4, dtype="bfloat16", rows_per_shard=1, companions=more)
        stream = writer.stream(spec)
        for shard in stream.pending():
            (number,) = shard.rows
            row = shown(family, number).rows(reference).get(slot)
            if row is None:
                stream.write(shard, [torch.zeros(0, WIDTH)], torch.zeros(1, 4), [SILENT])
                continue
            kept = {
                name: [row.companions[name]] if companion.ragged else row.companions[name][None]
                for name, companion in more.items()
            }
            pooled = row.features.float().mean(0, keepdim=True)[:, :4]
            if more:
                stream.write(shard, [row.features.float()], pooled, [RowDetails()], companions=kept)
            else:
                stream.write(shard, [row.features.float()], pooled, [RowDetails()])
    writer.finish()
    for modality in ("audio", "video", "audiovisual"):
        write_negatives(path, "hard", modality, negatives(modality))
    return FeatureStore.open(path)


@pytest.fixture(scope="module", params=FAMILIES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A base, a store made for it, and rows."""
    root = tmp_path_factory.mktemp(request.param)
    reference = thinker(request.param)
    folder = save_checkpoint(reference, root / "base")
    make_store(root / "store", reference, folder)
    write_json_lines(root / "prefs.jsonl", [row.to_json() for row in preference_rows()])
    write_json_lines(root / "rows.jsonl", [row.to_json() for row in instruction_rows()])
    return reference, root


def settings(root: Path, out: str, **changes: Any) -> dict[str, Any]:
    return {
        "cache": root / "store",
        "model": str(root / "base"),
        "out": root / out,
        "device": "cpu",
        "learning_rate": 3e-3,
        "epochs": 3,
        "batch_size": 6,
        "accumulation": 1,
        "tokens_per_batch": 6000,
        "trackers": "none",
        "reliance_rows": 0,
        **changes,
    }


def measured(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_preferences_are_learned_and_go_back_to_transformers(world: tuple[Any, Path]) -> None:
    reference, root = world
    run = train_preferences(PreferenceConfig(prefs=root / "prefs.jsonl", **settings(root, "prefs-run")))
    losses = [line["loss"] for line in measured(run) if "loss" in line]
    assert sum(losses[-3:]) < sum(losses[:3])
    model = cast("QwenOmniModel", load_model(run, dtype=torch.float64))
    assert set(model.digests) == {f"video/{model.family}", f"audio/{model.family}"}
    row = preference_rows()[2]
    seen = shown(model.family, 0)
    rows = {f"{side}/{model.family}": kept for side, kept in seen.rows(reference).items()}
    scored = model.sequence(row.question, row.chosen, streams=rows)
    adapted = peft.PeftModel.from_pretrained(thinker(model.family), str(run / "final")).eval()
    with torch.no_grad():
        ours = float(model.response_logprobs([scored])[0])
        assert abs(ours - float(with_towers(adapted, scored, seen, "separate"))) < 1e-9
        before = float(load_model(root / "base", dtype=torch.float64).response_logprobs([scored])[0])
    assert ours > before  # the chosen answer became likelier


def test_packing_does_not_change_what_is_learned(world: tuple[Any, Path]) -> None:
    """Steps of one row after another against steps in which rows share their clips."""
    _, root = world
    runs = [
        train_preferences(
            PreferenceConfig(
                prefs=root / "prefs.jsonl", **settings(root, f"{pairing}-run", epochs=1, max_steps=2, pairing=pairing)
            )
        )
        for pairing in ("mutual", "grouped")
    ]
    one, other = ([line["loss"] for line in measured(run) if "loss" in line] for run in runs)
    assert len(one) == len(other) == 2
    assert one[0] == pytest.approx(other[0], abs=1e-4)


def test_supervised_training_lowers_the_loss(world: tuple[Any, Path]) -> None:
    _, root = world
    config = SupervisedConfig(
        data=root / "rows.jsonl", tune="lora", train_projectors=False, **settings(root, "sft-run")
    )
    losses = [line["loss"] for line in measured(train_supervised(config)) if "loss" in line]
    assert losses[-1] < losses[0]


def test_features_of_other_weights_are_refused(world: tuple[Any, Path]) -> None:
    reference, root = world
    make_store(root / "other", reference, root / "base", weights_sha256="0" * 64)
    with pytest.raises(FingerprintError, match=r"avem extract CLIPS --for .*base"):
        train_preferences(
            PreferenceConfig(prefs=root / "prefs.jsonl", **settings(root, "refused", cache=root / "other"))
        )
    assert not (root / "refused" / "final").exists()


@pytest.mark.parametrize("layout", ["separate", "audio_in_video"])
def test_score_answers_scores_what_transformers_scores(world: tuple[Any, Path], layout: Any) -> None:
    """From the store alone, all clips in one call: different lengths, and one without sound."""
    reference, root = world
    model = cast("QwenOmniModel", load_model(root / "base", dtype=torch.float64))
    model.layout_name = layout
    store = FeatureStore.open(root / "store")
    asked = [
        (f"toy/{number:03d}", "What is the mood?", answer)
        for number in (0, 3, CLIPS - 1)
        for answer in ("Joy, I think.", "Anger.")
    ]
    with torch.no_grad():
        packed = score_answers(model, store, asked)
        alone = score_answers(model, store, asked, share_prefixes=False)
    assert float((packed - alone).abs().max()) < 1e-9
    for (clip_id, question, answer), score in zip(asked, packed, strict=True):
        seen = shown(model.family, int(clip_id[-3:]))
        rows = {
            f"{side}/{model.family}": StreamRow(
                row.features.bfloat16(),  # as the store keeps it
                {name: value.bfloat16() if name == "deepstack" else value for name, value in row.companions.items()},
            )
            for side, row in seen.rows(reference).items()
        }
        scored = model.sequence(question, answer, streams=rows, prompt_format=layout)
        with torch.no_grad():
            assert abs(float(model.response_logprobs([scored])[0] - score)) < 1e-9
            assert abs(float(with_towers(reference, scored, seen, layout) - score)) < 0.2  # features rounded to 8 bits


def test_a_run_keeps_the_layout_that_it_was_trained_with(world: tuple[Any, Path]) -> None:
    _, root = world
    chosen = settings(root, "inside-run", epochs=1, max_steps=1, prompt_format="audio_in_video")
    run = train_preferences(PreferenceConfig(prefs=root / "prefs.jsonl", **chosen))
    assert cast("QwenOmniModel", load_model(run)).layout_name == "audio_in_video"
    wrong = settings(root, "no-run", prompt_format="vicuna_v1")
    with pytest.raises(SettingError, match="choose one of separate, audio_in_video"):
        train_preferences(PreferenceConfig(prefs=root / "prefs.jsonl", **wrong))


def test_a_dry_run_counts_memory_and_logps_scores_the_constants(world: tuple[Any, Path]) -> None:
    """Of Qwen3-Omni too, whose experts and deepstack depend on values that a model without weights has none of."""
    _, root = world
    common = ["--model", str(root / "base"), "--cache", str(root / "store"), "--prefs", str(root / "prefs.jsonl")]
    commands = CliRunner()
    train = ["train", *common, "--out", str(root / "dry"), "--dry-run", "--set", "device=cpu"]
    dry = commands.invoke(app, train, catch_exceptions=False)
    assert "activations" in dry.output
    assert not (root / "dry").exists()
    scored = commands.invoke(app, ["cache", "logps", *common, "--set", "device=cpu"], catch_exceptions=False)
    assert "constant scores" in scored.output
