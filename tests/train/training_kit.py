"""A small store, a tiny model on disk and rows to train on, for the tests of the trainers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from avem.cache import ClipRecord, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.files import write_json_lines
from avem.records import Emotion, InstructionRow, Modality, PreferenceRow
from avem.train import AudiovisualLM, load_model
from tests.train.model_kit import AUDIO_WIDTH, VIDEO_WIDTH, tiny_model

EMOTIONS = ("happiness", "sadness", "anger")
CLIPS = 8
SILENT = "toy/007"
"""The one clip without audio."""


@dataclass(frozen=True)
class Kit:
    """Places of everything a run reads."""

    store: Path
    model: Path
    prefs: Path
    data: Path

    def preference_settings(self, out: Path, **changes: Any) -> dict[str, Any]:
        return {
            "cache": self.store,
            "model": str(self.model),
            "prefs": self.prefs,
            "out": out,
            "device": "cpu",
            "learning_rate": 1e-3,
            "epochs": 2,
            "batch_size": 4,
            "accumulation": 1,
            "tokens_per_batch": 4000,
            "trackers": "none",
            **changes,
        }

    def supervised_settings(self, out: Path, **changes: Any) -> dict[str, Any]:
        settings = self.preference_settings(out, **changes)
        return {"data": self.data, **{name: value for name, value in settings.items() if name != "prefs"}}


def make_kit(folder: Path) -> Kit:
    kit = Kit(folder / "cache", folder / "model", folder / "prefs.jsonl", folder / "rows.jsonl")
    make_store(kit.store)
    tiny_model(dtype=torch.float32, video_projector="linear", audio_projector="stack-mlp").save(kit.model)
    write_json_lines(kit.prefs, [row.to_json() for row in preference_rows()])
    write_json_lines(kit.data, [row.to_json() for row in instruction_rows()])
    return kit


def make_store(
    path: Path, made_by: str = "tiny", video_width: int = VIDEO_WIDTH, audio_width: int = AUDIO_WIDTH
) -> FeatureStore:
    """Eight clips of three emotions, the last one silent; everything else is each other's negative."""
    writer = StoreWriter.open(path)
    records = [
        ClipRecord(f"toy/{n:03d}", "toy", f"{n:03d}.mp4", f"{n:064x}", emotion=EMOTIONS[n % 3]) for n in range(CLIPS)
    ]
    writer.add_clips(records, root=path.parent)
    streams = {"video": (4, 3, video_width), "audio": (23, audio_width)}
    for kind, shape in streams.items():
        stream = writer.stream(StreamSpec(kind, f"tiny-{kind}", {"made_by": made_by, "kind": kind}, shape, 5))
        for shard in stream.pending():
            rng = np.random.default_rng([len(kind), shard.index])
            features, pooled = rng.normal(size=(len(shard.rows), *shape)), rng.normal(size=(len(shard.rows), 5))
            silent = RowDetails("failed", "no audio stream", has_audio=False)
            details = [
                silent if kind == "audio" and records[row].clip_id == SILENT else RowDetails() for row in shard.rows
            ]
            stream.write(shard, features, pooled, details)
    writer.finish()
    for modality in ("audio", "video", "audiovisual"):
        write_negatives(path, "hard", modality, negatives(modality))
    return FeatureStore.open(path)


def negatives(modality: str) -> np.ndarray:
    """For each clip the next two of another emotion that have what is needed, int32 [clips, 2]."""
    table = np.full((CLIPS, 2), -1, dtype=np.int32)
    for clip in range(CLIPS):
        if modality != "video" and clip == CLIPS - 1:
            continue
        others = [(clip + step) % CLIPS for step in range(1, CLIPS)]
        fit = [b for b in others if b % 3 != clip % 3 and (modality == "video" or b != CLIPS - 1)]
        table[clip] = fit[:2]
    return table


def write_negatives(store: Path, recipe: str, modality: str, table: np.ndarray) -> None:
    root = zarr.open_group(str(store), mode="a")
    root.require_group("negatives").require_group(recipe).create_array(modality, data=table, overwrite=True)


def preference_rows() -> list[PreferenceRow]:
    """Three questions on each clip, one on the silent clip."""
    rows = []
    for clip in range(CLIPS):
        emotion = EMOTIONS[clip % 3]
        for modality in (Modality.VISUAL, Modality.AUDIO, Modality.AUDIOVISUAL):
            if f"toy/{clip:03d}" == SILENT and modality != Modality.VISUAL:
                continue
            rows.append(
                PreferenceRow(
                    row_id=f"{clip}-{modality}",
                    clip_id=f"toy/{clip:03d}",
                    modality=modality,
                    task="toy",
                    question=f"What {modality} cue?",
                    chosen=f"a {emotion} cue",
                    rejected_video_relevant=f"the wall, {clip}",
                    rejected_emotion_relevant=f"{emotion} tears",
                    rejected_irrelevant="a boat",
                    emotion=Emotion(emotion),
                )
            )
    return rows


def instruction_rows() -> list[InstructionRow]:
    """The same questions with their chosen answers."""
    return [
        InstructionRow(row.row_id, row.clip_id, row.modality, row.task, row.question, row.chosen)
        for row in preference_rows()
    ]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """All weights of the model that a run ended in."""
    model: AudiovisualLM = load_model(run / "final")
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
