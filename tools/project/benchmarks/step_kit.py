"""What the step benchmarks train: clips, encoders and a language model in AVERE's proportions, and rows of its lengths.

Everything is scaled from a language model of width 4096 with 32 layers, a video tower of width 1024 with 24 layers and
an audio tower of width 1280 with 32 layers. Token counts are not scaled: 8 x 257 of video and 88 of audio a clip. The
vocabulary is small, so that the output layer keeps about the share of the work that it has at full width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from avem.cache import ClipRecord, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.cache.records import KINDS
from avem.extract import load_audio_encoder, load_video_encoder
from avem.extract.encoders.random_weights import make_random_languagebind, make_random_whisper
from avem.files import write_json_lines
from avem.records import Modality, PreferenceRow
from avem.tools.demo.models import make_tokenizer
from avem.train import AudiovisualConfig, AudiovisualLM
from avem.train.model.prompts import SYSTEM

FRAMES, IMAGE_SIZE, PATCH_SIZE, AUDIO_STEPS = 8, 224, 14, 1500
WORDS = 200
EMOTIONS = ("happiness", "sadness")
MODALITIES = (Modality.VISUAL, Modality.AUDIO, Modality.AUDIOVISUAL)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a benchmark."""

    width: int
    """Of the language model; a multiple of 128."""
    layers: int
    clips: int
    """An even number; each two are of different emotions."""
    questions: int
    """On each clip."""
    question_words: int
    answer_words: int


def paths_in(folder: Path) -> dict[str, Any]:
    """Paths for a `PreferenceConfig` of what a kit wrote."""
    return {
        "cache": folder / "cache",
        "model": str(folder / "model"),
        "prefs": folder / "prefs.jsonl",
        "out": folder / "run",
    }


@dataclass(frozen=True, slots=True)
class StepKit:
    """Where everything lies, and the raw clips as the encoders take them."""

    folder: Path
    pixels: Tensor
    """float32 `[clips, 3, 8, 224, 224]`."""
    mels: Tensor
    """float32 `[clips, 80, 3000]`."""
    video_encoder: Any
    audio_encoder: Any

    @property
    def settings(self) -> dict[str, Any]:
        """Paths for a `PreferenceConfig`."""
        return paths_in(self.folder)

    def encode(self, kind: str, clip: int) -> Tensor:
        """Features of a clip in the store's float16, without the clip's axis."""
        if kind == "video":
            return self.video_encoder.encode(self.pixels[clip : clip + 1])[0][0].half()  # type: ignore[no-any-return]
        return self.audio_encoder.encode(self.mels[clip : clip + 1])[0][0].half()  # type: ignore[no-any-return]


def make_kit(folder: Path, shape: Shape) -> StepKit:
    """Write encoders, store, model and rows."""
    video_width, audio_width = shape.width // 4, shape.width * 5 // 16
    towers = folder / "video", folder / "audio"
    make_random_languagebind(
        towers[0],
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        hidden=video_width,
        heads=max(video_width // 64, 1),
        layers=max(round(0.75 * shape.layers), 2),
        frames=FRAMES,
    )
    make_random_whisper(towers[1], width=audio_width, heads=5, layers=shape.layers, positions=AUDIO_STEPS)
    generator = torch.Generator().manual_seed(0)
    kit = StepKit(
        folder,
        torch.randn(shape.clips, 3, FRAMES, IMAGE_SIZE, IMAGE_SIZE, generator=generator),
        torch.randn(shape.clips, 80, 2 * AUDIO_STEPS, generator=generator),
        load_video_encoder(str(towers[0])),
        load_audio_encoder(str(towers[1])),
    )
    make_store(folder, kit.encode, shape.clips)
    make_model(shape, video_width, audio_width).save(folder / "model")
    write_json_lines(folder / "prefs.jsonl", [row.to_json() for row in make_rows(shape)])
    return kit


def make_store(folder: Path, encode: Callable[[str, int], Tensor], clips: int) -> FeatureStore:
    """Write the features of so many clips, as `encode` gives them by kind and number, into a store."""
    writer = StoreWriter.open(folder / "cache")
    writer.add_clips(clip_records(clips), root=folder)
    for kind in KINDS:
        features = [encode(kind, clip).cpu() for clip in range(clips)]
        spec = StreamSpec(kind, f"random-{kind}", {"kind": kind}, tuple(features[0].shape), 8)
        stream = writer.stream(spec)
        pooled = torch.randn(clips, 8, generator=torch.Generator().manual_seed(1)).numpy()
        for shard in stream.pending():
            own = torch.stack([features[row] for row in shard.rows]).numpy()
            stream.write(shard, own, pooled[list(shard.rows)], [RowDetails() for _ in shard.rows])
    writer.finish()
    return FeatureStore.open(folder / "cache")


def clip_records(clips: int) -> list[ClipRecord]:
    """Clips of two emotions in turn."""
    return [
        ClipRecord(f"clip/{n}", "clip", f"{n}.mp4", f"{n:064x}", emotion=EMOTIONS[n % 2], source=str(n))
        for n in range(clips)
    ]


def make_model(shape: Shape, video_width: int, audio_width: int) -> AudiovisualLM:
    """A Llama of random weights with AVERE's projectors."""
    tokenizer = make_tokenizer([*(f"w{n}" for n in range(WORDS)), *SYSTEM.values(), "USER : ASSISTANT"])
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.width * 43 // 16,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // 64,
        max_position_embeddings=4096,
        initializer_range=0.05,
    )
    config = AudiovisualConfig(
        video_hidden_size=video_width,
        audio_hidden_size=audio_width,
        video_frames=FRAMES,
        qformer_hidden_size=shape.width * 3 // 16,
        qformer_num_attention_heads=3,
        qformer_intermediate_size=shape.width * 3 // 4,
    )
    return AudiovisualLM.create(LlamaForCausalLM(llama), tokenizer, config)


def make_rows(shape: Shape) -> list[PreferenceRow]:
    """Questions of random words; two clips that serve each other are asked about the same modalities."""
    generator = torch.Generator().manual_seed(2)

    def words(count: int) -> str:
        return " ".join(f"w{n}" for n in torch.randint(WORDS, (count,), generator=generator).tolist())

    return [
        PreferenceRow(
            row_id=f"{clip}-{number}",
            clip_id=f"clip/{clip}",
            modality=MODALITIES[(clip // 2 + number) % len(MODALITIES)],
            task="step",
            question=words(shape.question_words),
            chosen=words(shape.answer_words),
            rejected_video_relevant=words(shape.answer_words),
            rejected_emotion_relevant=words(shape.answer_words),
        )
        for clip in range(shape.clips)
        for number in range(shape.questions)
    ]
