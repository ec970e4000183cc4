"""Sizes of what is measured: released ones, and tiny ones that go through the same code in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avem.extract.encoders.languagebind import LanguageBindConfig
from avem.extract.encoders.whisper import WhisperShape
from avem.tools.project.benchmarks.omni_kit import SPECIAL, make_tokenizer, thinker_config
from avem.tools.project.benchmarks.step_kit import Shape
from avem.tools.recipe.costs import RELEASED_LLAMA
from avem.train.model.config import AudiovisualConfig


@dataclass(frozen=True, slots=True)
class Sizes:
    """Everything of one `--shape`."""

    llama: dict[str, Any]
    """For `LlamaConfig`."""
    projectors: AudiovisualConfig
    video: LanguageBindConfig
    audio: WhisperShape
    omni: Any
    """A `Qwen2_5OmniThinkerConfig`."""
    grid: tuple[int, int, int]
    """Patches of a clip as Qwen2.5-Omni sees it, before two by two are merged."""
    mel_frames: int
    """Of its sound, 100 a second."""
    rows: Shape
    """Clips, questions, and lengths of questions and answers; its width and layers are unused."""
    batch: int
    """Clips that the towers encode at once."""
    rounds: int
    """Timed rounds of a side."""


def full_sizes() -> Sizes:
    """A 7B Llama with AVERE's towers, and Qwen2.5-Omni-7B on 8 s of 640 x 360."""
    from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

    words = make_tokenizer()
    ids: dict[str, Any] = {name: words.convert_tokens_to_ids(token) for name, token in SPECIAL.items()}
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
    text = {"rope_parameters": rope, "tie_word_embeddings": False}  # the other defaults are the 7B's
    vision = {"hidden_size": 1280}  # by default as wide as the language model, which the released one is not
    return Sizes(
        llama=dict(RELEASED_LLAMA),
        projectors=AudiovisualConfig(video_hidden_size=1024, audio_hidden_size=1280),
        video=LanguageBindConfig(1024, 4096, 24, 16, 3, 224, 14, "gelu"),
        audio=WhisperShape(n_mels=128, n_audio_ctx=1500, n_audio_state=1280, n_audio_head=20, n_audio_layer=32),
        omni=Qwen2_5OmniThinkerConfig(text_config=text, vision_config=vision, **ids),
        grid=(8, 26, 46),
        mel_frames=800,
        rows=Shape(4096, 32, 2, 3, 50, 55),
        batch=16,
        rounds=2,
    )


def tiny_sizes() -> Sizes:
    """The same parts, for a processor."""
    tiny = Shape(448, 1, 2, 2, 6, 5)
    return Sizes(
        llama={**RELEASED_LLAMA, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
        | {"num_attention_heads": 2, "vocab_size": 400},
        projectors=AudiovisualConfig(
            video_hidden_size=32,
            audio_hidden_size=32,
            video_frames=2,
            qformer_hidden_size=64,
            qformer_num_attention_heads=1,
            qformer_intermediate_size=96,
        ),
        video=LanguageBindConfig(32, 64, 3, 2, 3, 28, 14, "gelu", num_frames=2),
        audio=WhisperShape(n_mels=80, n_audio_ctx=100, n_audio_state=32, n_audio_head=2, n_audio_layer=2),
        omni=thinker_config(tiny),
        grid=(2, 4, 6),
        mel_frames=80,
        rows=tiny,
        batch=2,
        rounds=1,
    )


SIZES = {"full": full_sizes, "tiny": tiny_sizes}
