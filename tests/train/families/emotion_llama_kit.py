"""Released files of a tiny Emotion-LLaMA with random weights, of other sizes than the golden data, and a store."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig, HubertModel, LlamaConfig, LlamaForCausalLM

from avem.cache import ClipRecord, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.extract.encoders.eva import EvaSettings, EvaShape, EvaTower
from avem.train.families.emotion_llama.importing import EncoderFacts, ReleasedFiles, import_released
from avem.train.families.emotion_llama.projections import FACE, FRAME, MOTION, SOUND

GOLDEN = Path(__file__).parents[2] / "golden" / "emotion_llama"
ALPHA = 6.0
RANK = 3
EVA = EvaSettings(image_size=24, depth=2, num_heads=3)
WIDTH, INNER, PATCH = 12, 30, 4
"""A grid of 6 x 6 patches, so 9 image tokens; the file's own is 3 x 3."""
FACES, MOTIONS, SOUNDS, HIDDEN = 7, 9, 16, 24
LLAMA = {
    "hidden_size": HIDDEN,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 400,
    "rms_norm_eps": 1e-6,
    "vocab_size": 407,
}
EMOTIONS = ("happiness", "sadness", "anger")


@dataclass(frozen=True)
class Released:
    """Where the files are."""

    llama: Path
    checkpoint: Path
    eva: Path
    eva_config: Path
    hubert: Path

    def files(self, **encoders: EncoderFacts) -> ReleasedFiles:
        return ReleasedFiles(self.llama, self.checkpoint, self.eva, self.hubert, self.eva_config, encoders)

    def arguments(self, out: Path) -> list[str]:
        """Of `avem models import`."""
        options = {
            "--llama": self.llama,
            "--checkpoint": self.checkpoint,
            "--lora-alpha": ALPHA,
            "--eva": self.eva,
            "--eva-config": self.eva_config,
            "--hubert": self.hubert,
        }
        return [
            "models",
            "import",
            "emotion-llama",
            str(out),
            *(str(part) for pair in options.items() for part in pair),
        ]


def make_released(folder: Path, seed: int = 0) -> Released:
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Released(
            make_llama(folder / "llama"),
            folder / "checkpoint.pth",
            folder / "eva.pth",
            folder / "eva.json",
            make_hubert(folder / "hubert"),
        )
        tower = EvaTower(EvaShape(WIDTH, INNER, PATCH, EVA)).state_dict()
        content = {name: torch.randn(value.shape) * 0.2 for name, value in tower.items()}
        content["pos_embed"] = torch.randn(1, 10, WIDTH)
        torch.save({name: value.half() for name, value in content.items()}, made.eva)
        made.eva_config.write_text(json.dumps({"image_size": EVA.image_size, "depth": 2, "num_heads": 3}))
        torch.save({"model": checkpoint_tensors(), "epoch": 3}, made.checkpoint)
    return made


def make_llama(folder: Path, **changes: int) -> Path:
    LlamaForCausalLM(LlamaConfig(**{**LLAMA, **changes})).save_pretrained(folder)
    for name in ("tokenizer.model", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(GOLDEN / "llama" / name, folder)
    return folder


def make_hubert(folder: Path) -> Path:
    config = HubertConfig(
        hidden_size=SOUNDS,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=20,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(8, 8),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
    )
    HubertModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": True, "sampling_rate": 16000}))
    return folder


def checkpoint_tensors() -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, width in (
        ("llama_proj", 4 * WIDTH),
        ("feats_llama_proj1", FACES),
        ("feats_llama_proj2", MOTIONS),
        ("feats_llama_proj3", SOUNDS),
        ("cls_tk_llama_proj", WIDTH),
    ):
        tensors |= {f"{name}.weight": torch.randn(HIDDEN, width) * 0.3, f"{name}.bias": torch.randn(HIDDEN) * 0.1}
    for layer in range(2):
        for target, out in (("q_proj", HIDDEN), ("v_proj", HIDDEN // 2)):
            start = f"llama_model.base_model.model.model.layers.{layer}.self_attn.{target}.lora_"
            tensors[f"{start}A.weight"] = torch.randn(RANK, HIDDEN) * 0.3
            tensors[f"{start}B.weight"] = torch.randn(out, RANK) * 0.3
    tensors["attention.fc_out.bias"] = torch.randn(6)
    return tensors


def import_tiny(folder: Path, seed: int = 0) -> Path:
    import_released(make_released(folder / "released", seed).files(), folder / "model", lora_alpha=ALPHA)
    return folder / "model"


def make_store(
    path: Path, clips: int = 6, without: tuple[str, int] | None = None, leave_out: str = "", **widths: int
) -> FeatureStore:
    """Random features of every stream but one; `without` names a stream and the clip that lacks it."""
    writer = StoreWriter.open(path)
    records = [
        ClipRecord(f"toy/{n:03d}", "toy", f"{n:03d}.mp4", f"{n:064x}", emotion=EMOTIONS[n % 3]) for n in range(clips)
    ]
    writer.add_clips(records, root=path.parent)
    shapes = {FRAME: (37, WIDTH), FACE: (FACES,), MOTION: (MOTIONS,), SOUND: (SOUNDS,)}
    for number, (name, shape) in enumerate(shapes.items()):
        if name == leave_out:
            continue
        slot, encoder = name.split("/")
        shape = (*shape[:-1], widths.get(slot, shape[-1]))
        stream = writer.stream(StreamSpec(slot, encoder, {"encoder": encoder, "made": "in a test"}, shape, 5))
        for shard in stream.pending():
            rng = np.random.default_rng([number, shard.index])
            features, pooled = rng.normal(size=(len(shard.rows), *shape)), rng.normal(size=(len(shard.rows), 5))
            details = [
                RowDetails("failed", "nobody has it") if without == (name, row) else RowDetails() for row in shard.rows
            ]
            stream.write(shard, features, pooled, details)
    writer.finish()
    return FeatureStore.open(path)
