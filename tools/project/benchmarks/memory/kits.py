"""A small model, a store and rows of every family, so large that activations are most of a step's memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from avem.cache import FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.files import write_json_lines
from avem.hub.omni import OmniFolder
from avem.tools.demo.models import make_tokenizer
from avem.tools.project.benchmarks import omni_kit
from avem.tools.project.benchmarks.step_kit import (
    WORDS,
    Shape,
    clip_records,
    make_model,
    make_rows,
    make_store,
    paths_in,
)
from avem.train.families.avere.checkpoint import LLAMA_FIELDS, QFORMER_FIELDS, avere_name
from avem.train.families.emotion_llama.config import EmotionConfig
from avem.train.families.emotion_llama.model import EmotionLlama
from avem.train.families.emotion_llama.projections import FACE, FRAME, MOTION, SOUND, ProjectionSizes
from avem.train.families.qwen_omni.language_model import empty_model

SHAPE = Shape(128, 2, 2, 1, 20, 20)
"""Two clips that are each other's negatives, one question on each."""
VIDEO, AUDIO = (4, 65), 300
"""Tokens of a clip's video features, and steps of its audio features."""
GRID, FRAMES = (4, 8, 12), 400
"""Patches of a clip as Qwen-Omni sees it, and mel frames: 96 video and 100 or 52 audio tokens."""
PATCHES = 401
"""Of a frame as Emotion-LLaMA sees it, CLS included."""


def make_generic(folder: Path) -> None:
    """A Llama with AVERE's projectors, in avem's layout."""
    _features_of_a_pair(folder)
    make_model(SHAPE, 32, 40).save(folder / "model")


def make_avere(folder: Path) -> None:
    """The same in the layout of AVERE's checkpoints."""
    _features_of_a_pair(folder)
    model = make_model(SHAPE, 32, 40)
    config, place = model.config, folder / "model"
    bert = place / "backbones" / "bert-base-uncased"
    bert.mkdir(parents=True)
    heads = {"hidden_size": config.qformer_hidden_size, "num_attention_heads": config.qformer_num_attention_heads}
    (bert / "config.json").write_text(json.dumps(heads), encoding="utf-8")
    settings = {
        **{name: getattr(model.language_model.config, name) for name in LLAMA_FIELDS},
        **{name: getattr(config, name) for name in QFORMER_FIELDS},
        "model_type": "avere",
        "mm_hidden_size": config.video_hidden_size,
        "mm_projector_type": config.video_projector,
        "speech_hidden_size": config.audio_hidden_size,
        "speech_projector_type": "qformer",
    }
    (place / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    state = {avere_name(name): tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, place / "model.safetensors", metadata={"format": "pt"})
    model.tokenizer.save_pretrained(place)


def _features_of_a_pair(folder: Path) -> None:
    shapes = {"video": (*VIDEO, 32), "audio": (AUDIO, 40)}
    make_store(folder, lambda kind, clip: _draw(shapes[kind], clip).half(), SHAPE.clips)


def make_emotion_llama(folder: Path) -> None:
    """A Llama with Emotion-LLaMA's projections, and its four streams."""
    sizes = ProjectionSizes(frame=24, joined=4, face=20, motion=20, sound=20, hidden=SHAPE.width)
    words = ("[ INST ] / < video > < feature > < s > reason VideoHere FeatureHere", *(f"w{n}" for n in range(WORDS)))
    tokenizer = make_tokenizer(words)
    tokenizer.bos_token = tokenizer.eos_token
    torch.manual_seed(0)
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=SHAPE.width,
            intermediate_size=SHAPE.width * 43 // 16,
            num_hidden_layers=SHAPE.layers,
            num_attention_heads=SHAPE.width // 64,
        )
    )
    EmotionLlama(llama, tokenizer, sizes, EmotionConfig()).save(folder / "model")
    shapes = {FRAME: (PATCHES, 24), FACE: (20,), MOTION: (20,), SOUND: (20,)}
    writer = StoreWriter.open(folder / "cache")
    writer.add_clips(clip_records(SHAPE.clips), root=folder)
    for name, shape in shapes.items():
        slot, encoder = name.split("/")
        stream = writer.stream(StreamSpec(slot, encoder, {"encoder": encoder}, shape, 8))
        for shard in stream.pending():
            features = torch.stack([_draw(shape, row) for row in shard.rows]).half().numpy()
            stream.write(
                shard, features, features.reshape(len(features), -1)[:, :8], [RowDetails() for _ in shard.rows]
            )
    writer.finish()


def make_qwen2_5_omni(folder: Path) -> None:
    """A thinker of Qwen2.5-Omni's proportions."""
    _thinker(folder, omni_kit.thinker_config(Shape(448, 2, 2, 1, 20, 20)).to_dict(), audio_tokens=100)


def make_qwen3_omni(folder: Path) -> None:
    """A thinker of Qwen3-Omni's kind: experts, and deepstack after three of its layers."""
    from transformers.models.qwen3_omni_moe.configuration_qwen3_omni_moe import Qwen3OmniMoeThinkerConfig

    words, width = omni_kit.make_tokenizer(), 128
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [12, 10, 10], "mrope_interleaved": True}
    text = {
        "vocab_size": len(words),
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "moe_intermediate_size": width // 2,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "max_position_embeddings": 4096,
        "rope_parameters": rope,
        "tie_word_embeddings": False,
    }
    ids: dict[str, Any] = {
        name.replace("_token_index", "_token_id"): words.convert_tokens_to_ids(token)
        for name, token in omni_kit.SPECIAL.items()
    }
    config = Qwen3OmniMoeThinkerConfig(
        audio_config={"output_dim": width},
        vision_config={"out_hidden_size": width, "deepstack_visual_indexes": [1, 2, 3]},
        text_config=text,
        **ids,
    )
    _thinker(folder, config.to_dict(), audio_tokens=52, levels=3)


def _thinker(folder: Path, config: dict[str, Any], audio_tokens: int, levels: int = 0) -> None:
    """Write a thinker's language model with one number in place of each tower, and features of random numbers."""
    place = folder / "model"
    settings = OmniFolder.open(write_thinker_folder(place, config)).config.text_config
    torch.manual_seed(0)
    write_tensors(place, released_names(empty_model(settings).state_dict()))
    slots, rows, columns = GRID
    tokens = {"video": slots * rows * columns // 4, "audio": audio_tokens}
    width = settings.hidden_size
    omni_kit.make_store(
        folder,
        lambda side, clip: _draw((tokens[side], width), clip).bfloat16(),
        SHAPE.clips,
        torch.tensor([GRID]),
        FRAMES,
        levels,
    )


def write_thinker_folder(place: Path, config: dict[str, Any]) -> Path:
    """Write a thinker's folder without weights: a configuration, a tokenizer, and one number in place of each tower."""
    place.mkdir(parents=True)
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    omni_kit.make_tokenizer().save_pretrained(place)
    return write_tensors(place, {})


def write_tensors(place: Path, state: dict[str, torch.Tensor]) -> Path:
    """Write a thinker's tensors, and one number in place of each tower."""
    towers = {"visual.merger.ln_q.weight": torch.zeros(1), "audio_tower.ln_post.weight": torch.zeros(1)}
    save_file({**state, **towers}, place / "model.safetensors", metadata={"format": "pt"})
    return place


def released_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A language model's tensors as a thinker's file holds them: experts one by one."""
    found: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if name.endswith("experts.gate_up_proj"):
            for number, pair in enumerate(tensor):
                for part, half in zip(("gate_proj", "up_proj"), pair.chunk(2), strict=True):
                    found[f"{name.removesuffix('gate_up_proj')}{number}.{part}.weight"] = half.contiguous()
        elif name.endswith("experts.down_proj"):
            for number, one in enumerate(tensor):
                found[f"{name.removesuffix('down_proj')}{number}.down_proj.weight"] = one.contiguous()
        else:
            found[name] = tensor.contiguous()
    return found


FAMILIES: dict[str, Callable[[Path], None]] = {
    "generic": make_generic,
    "avere": make_avere,
    "emotion_llama": make_emotion_llama,
    "qwen2_5_omni": make_qwen2_5_omni,
    "qwen3_omni": make_qwen3_omni,
}


def make_kit(family: str, folder: Path) -> dict[str, Any]:
    """Write everything that a run of a family reads.

    Args:
        family: One of `FAMILIES`.
        folder: A new or empty folder.

    Returns:
        Paths for a `PreferenceConfig`.
    """
    FAMILIES[family](folder)
    write_json_lines(folder / "prefs.jsonl", [row.to_json() for row in make_rows(SHAPE)])
    FeatureStore.open(folder / "cache")
    return paths_in(folder)


def _draw(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
