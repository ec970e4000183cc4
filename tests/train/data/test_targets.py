"""Aligning one projector: captions and transcripts as targets, one stream shown, the other projector left alone."""

from __future__ import annotations

import pytest

from avem.errors import DataError
from avem.files import write_json_lines
from avem.records import Modality
from avem.train import load_model
from avem.train.data.rows import read_instructions
from avem.train.data.targets import REQUESTS
from avem.train.settings.config import SupervisedConfig
from avem.train.stages import preview_stage, stage_config
from avem.train.supervised import train_supervised
from tests.train.training_kit import CLIPS, Kit, make_kit, weights_of


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("targets"))


def test_captions_and_transcripts_become_rows(tmp_path):
    items = [
        {"clip_id": "toy/000", "caption": "A dog runs."},
        {"clip_id": "toy/000", "transcript": "Hello."},
        {"row_id": "7", "clip_id": "toy/001", "caption": "Both.", "modality": "audiovisual"},
    ]
    write_json_lines(tmp_path / "rows.jsonl", items)
    rows = read_instructions(tmp_path / "rows.jsonl")
    assert [row.row_id for row in rows] == ["toy/000#caption", "toy/000#transcript", "7"]
    assert [row.modality for row in rows] == [Modality.VISUAL, Modality.AUDIO, Modality.AUDIOVISUAL]
    assert [row.answer for row in rows] == ["A dog runs.", "Hello.", "Both."]
    assert all(row.question in REQUESTS[row.task] for row in rows)
    assert read_instructions(tmp_path / "rows.jsonl") == rows


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"clip_id": "toy/000", "transcript": " "}, "empty transcript"),
        ({"caption": "A dog."}, "clip_id"),
    ],
)
def test_targets_that_are_none(tmp_path, item, message):
    write_json_lines(tmp_path / "rows.jsonl", [item])
    with pytest.raises(DataError, match=rf"line 1.*{message}"):
        read_instructions(tmp_path / "rows.jsonl")


def test_transcripts_train_the_audio_projector_alone(kit, tmp_path):
    rows = tmp_path / "rows.jsonl"
    write_json_lines(rows, [{"clip_id": f"toy/{clip:03d}", "transcript": f"word {clip}"} for clip in range(CLIPS - 1)])
    settings = {**kit.supervised_settings(tmp_path / "run", epochs=1), "data": rows, "tune": "none", "streams": "audio"}
    summary = preview_stage(SupervisedConfig(**settings))
    both = preview_stage(SupervisedConfig(**{**settings, "streams": "both"}))
    assert both.tokens - summary.tokens == (CLIPS - 1) * (4 * 3 + 1)  # no video tokens and no newline after them
    before = load_model(kit.model).state_dict()
    after = weights_of(train_supervised(SupervisedConfig(**settings)))
    changed = {name.split(".")[0] for name in after if not before[name].equal(after[name])}
    assert changed == {"audio_projector"}


def test_questions_on_one_clip_share_its_media(kit, tmp_path):
    summary = preview_stage(SupervisedConfig(**kit.supervised_settings(tmp_path / "run", epochs=1, batch_size=64)))
    assert summary.prefixes == CLIPS
    assert summary.tokens < summary.plain_tokens


def test_the_released_scripts_as_presets():
    audio = stage_config("projector", {}, preset_name="avere-audio-projector")
    assert (audio.tune, audio.streams, audio.learning_rate, audio.rows_per_step) == ("none", "audio", 1e-3, 144)
    video = stage_config("projector", {}, preset_name="avere-video-projector")
    assert (video.tune, video.streams, video.learning_rate, video.rows_per_step) == ("none", "video", 1e-3, 32)
    sft = stage_config("sft", {}, preset_name="avere-sft")
    assert (sft.tune, sft.streams, sft.learning_rate, sft.rows_per_step, sft.epochs) == ("full", "both", 2e-5, 12, 1)
    assert (sft.schedule, sft.warmup, sft.weight_decay, sft.precision) == ("cosine", 0.03, 0.0, "bf16")
    adapted = stage_config("sft", {}, preset_name="avere-sft-lora")
    assert (adapted.lora_rank, adapted.lora_rank * adapted.lora_scale, adapted.learning_rate) == (128, 256, 2e-4)
    assert (adapted.projector_learning_rate, adapted.rows_per_step) == (2e-5, 16)
    preference = stage_config("preference", {}, preset_name="avere-dpo")
    assert (preference.tune, preference.learning_rate, preference.batch_size, preference.accumulation) == (
        "full",
        5e-7,
        2,
        4,
    )
    assert (preference.schedule, preference.warmup, preference.train_projectors) == ("linear", 0.1, False)
    assert (preference.beta, preference.gamma_tpd, preference.lambda_av) == (0.1, 0.2, 1.0)
