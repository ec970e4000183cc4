"""Folders with the configuration of a released Qwen2.5-Omni and no weights, and stores of features of its shape."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from avem.cache import ClipRecord, Companion, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.files import write_json_lines
from avem.hub.omni import OmniFolder
from avem.records import Modality, PreferenceRow
from tests.train.families.qwen_omni.qwen_omni_kit import IDS, tokenizer

FACTS: dict[str, dict[str, Any]] = {
    "7B": {
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "intermediate_size": 18944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152064,
    },
    "3B": {
        "hidden_size": 2048,
        "num_hidden_layers": 36,
        "intermediate_size": 11008,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
    },
}
"""Of the thinkers' language models. 7B: defaults of transformers' configuration class; 3B: those of Qwen2.5-3B."""
GIB = 1 << 30


def released_folder(path: Path, size: str) -> Path:
    """A thinker's folder: configuration, a tokenizer of bytes, and one number in place of each tower."""
    facts = FACTS[size]
    named = {
        key.replace("_token_id", "_token_index") if key.count("_") == 2 else key: value for key, value in IDS.items()
    }
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    text = {**facts, "max_position_embeddings": 32768, "rope_parameters": rope, "tie_word_embeddings": False}
    width = facts["hidden_size"]
    config = {
        "model_type": "qwen2_5_omni_thinker",
        "text_config": text,
        "vision_config": {"out_hidden_size": width},
        "audio_config": {"output_dim": width},
        **named,
    }
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(config))
    tokenizer().save_pretrained(path)
    towers = {"visual.merger.ln_q.weight": torch.zeros(1), "audio_tower.ln_post.weight": torch.zeros(1)}
    save_file(towers, path / "model.safetensors")
    return path


def released_store(path: Path, folder: Path, clips: int, grid: tuple[int, int, int], sound_tokens: int) -> FeatureStore:
    """Clips whose features are zeros of the released width: `grid` in patches, and so many tokens of sound."""
    omni = OmniFolder.open(folder)
    width = int(omni.config.text_config.hidden_size)
    writer = StoreWriter.open(path)
    emotions = ("happiness", "sadness")
    records = [
        ClipRecord(f"c/{n:03d}", "c", f"{n:03d}.mp4", f"{n:064x}", emotion=emotions[n % 2], source=str(n))
        for n in range(clips)
    ]
    writer.add_clips(records, root=path.parent)
    tokens = {"video": grid[0] * grid[1] * grid[2] // 4, "audio": sound_tokens}
    companions = {"grid": Companion((3,), "int32"), "seconds_per_slot": Companion((), "float32")}
    for slot, tower in (("video", "visual"), ("audio", "audio")):
        says = {"encoder": omni.family, "weights_sha256": omni.tower_digest(tower)}  # type: ignore[arg-type]
        more = companions if slot == "video" else {}
        spec = StreamSpec(
            slot, omni.family, says, (None, width), 4, dtype="bfloat16", rows_per_shard=1, companions=more
        )
        stream = writer.stream(spec)
        for shard in stream.pending():
            kept = {"grid": torch.tensor([grid], dtype=torch.int32), "seconds_per_slot": torch.tensor([1.0])}
            pooled = torch.nn.functional.one_hot(torch.tensor([shard.rows[0] % 4]), 4).float()
            given = {"companions": kept} if more else {}
            stream.write(shard, [torch.zeros(tokens[slot], width)], pooled, [RowDetails()], **given)
    writer.finish()
    return FeatureStore.open(path)


def three_rows_a_clip(path: Path, clips: int, question: int, answer: int) -> Path:
    """Preference rows about picture, sound and both; with a tokenizer of bytes a letter is a token."""
    rows = [
        PreferenceRow(
            row_id=f"{clip}-{modality}",
            clip_id=f"c/{clip:03d}",
            modality=modality,
            task="recipe",
            question="q" * question,
            chosen="w" * answer,
            rejected_video_relevant="v" * answer,
            rejected_emotion_relevant="e" * answer,
        )
        for clip in range(clips)
        for modality in (Modality.VISUAL, Modality.AUDIO, Modality.AUDIOVISUAL)
    ]
    write_json_lines(path, [row.to_json() for row in rows])
    return path
