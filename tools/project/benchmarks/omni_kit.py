"""What `omni_step` trains: a random thinker in Qwen2.5-Omni-7B's proportions, clips for its towers, a store and rows.

The 7B's language model is 3584 wide with 28 layers, its vision tower 1280 with 32, its audio tower 1280 with 32. Widths
and numbers of layers are scaled together; each tower keeps at least two layers, so that the vision tower has one with
windows and one without. Token counts are not scaled. The vocabulary is small, so that the output layer keeps about the
share of the work that it has at full width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen2_5OmniThinkerForConditionalGeneration
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniThinkerConfig

from avem.cache import Companion, FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.extract.encoders.omni.sizes import vision_companions
from avem.files import write_json_lines
from avem.hub.omni import OmniFolder, Tower
from avem.tools.project.benchmarks.step_kit import Shape, clip_records, make_rows, paths_in

FAMILY = "qwen2_5_omni"
SECONDS = 8.0
"""Of a clip, at two frames a second: a slot holds two frames, so a second."""
SPECIAL = {
    "audio_token_index": "<|AUDIO|>",
    "audio_start_token_id": "<|audio_bos|>",
    "audio_end_token_id": "<|audio_eos|>",
    "image_token_index": "<|IMAGE|>",
    "video_token_index": "<|VIDEO|>",
    "vision_start_token_id": "<|vision_bos|>",
    "vision_end_token_id": "<|vision_eos|>",
}
"""Tokens by the name that the configuration gives their ids."""
WORDS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *SPECIAL.values(), "user", "assistant")
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|> ' + m.role + ' ' }}{% if m.content is string %}{{ m.content }}{% else %}"
    "{% for part in m.content %}{% if part.type == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif part.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>{% else %}{{ part.text }}{% endif %}{% endfor %}"
    "{% endif %}{{ '<|im_end|> ' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|> assistant ' }}{% endif %}"
)
VOCABULARY = 600
"""Words `w0`, `w1`, ...; the output layer has as many rows and the special tokens."""


class Towers(Protocol):
    """Clips, and transformers' model whose towers encode them."""

    @property
    def thinker(self) -> Any:
        """The model of transformers, with its towers."""

    @property
    def pixels(self) -> Tensor:
        """`[clips, gt*gh*gw, 3*2*14*14]`."""

    @property
    def grid(self) -> Tensor:
        """int64 `[1, 3]`, of every clip."""

    @property
    def mels(self) -> Tensor:
        """`[clips, 128, frames]`."""

    def encode(self, side: str, clip: int) -> Tensor:
        """Output `[n, H]` of a tower in the store's bfloat16."""


def encoded(kit: Towers, side: str, clip: int) -> Tensor:
    """Output `[n, H]` of a tower in the store's bfloat16, where the kit's tensors are."""
    with torch.no_grad():
        if side == "video":
            seen = kit.thinker.get_video_features(kit.pixels[clip], kit.grid, return_dict=True)
            return seen.pooler_output[0].bfloat16()  # type: ignore[no-any-return]
        mel = kit.mels[clip : clip + 1]
        mask = torch.ones(1, mel.shape[-1], dtype=torch.int64, device=mel.device)
        heard = kit.thinker.get_audio_features(mel, mask, return_dict=True).last_hidden_state
        return heard.reshape(-1, heard.shape[-1]).bfloat16()  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class OmniKit:
    """Where everything lies, and the clips as the towers take them."""

    folder: Path
    thinker: Any
    """transformers' own, with its towers."""
    pixels: Tensor
    """float32 `[clips, gt*gh*gw, 3*2*14*14]`."""
    grid: Tensor
    """int64 `[1, 3]`, of every clip."""
    mels: Tensor
    """float32 `[clips, 128, frames]`."""

    @property
    def settings(self) -> dict[str, Any]:
        """Paths for a `PreferenceConfig`."""
        return paths_in(self.folder)

    def encode(self, side: str, clip: int) -> Tensor:
        """Output `[n, H]` of a tower in the store's bfloat16."""
        return encoded(self, side, clip)


def make_kit(folder: Path, shape: Shape, grid: tuple[int, int]) -> OmniKit:
    """Write model, store and rows.

    Args:
        folder: Where they go.
        shape: Sizes; the width is a multiple of 448.
        grid: Rows and columns of patches of a frame, even numbers.
    """
    torch.manual_seed(0)
    thinker = Qwen2_5OmniThinkerForConditionalGeneration(thinker_config(shape)).eval()
    thinker.save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    slots = int(SECONDS)
    kit = OmniKit(
        folder,
        thinker,
        draw(shape.clips, slots * grid[0] * grid[1], 3 * 2 * 14 * 14),
        torch.tensor([[slots, *grid]]),
        draw(shape.clips, 128, round(100 * SECONDS)),
    )
    make_store(folder, kit.encode, shape.clips, kit.grid, kit.mels.shape[-1])
    write_json_lines(folder / "prefs.jsonl", [row.to_json() for row in make_rows(shape)])
    return kit


def thinker_config(shape: Shape) -> Qwen2_5OmniThinkerConfig:
    """The 7B's configuration at another width and depth, with heads of 64 instead of 128, seven to a key."""
    width, heads = shape.width, shape.width // 64
    tower, layers = width * 5 // 14, max(round(shape.layers * 32 / 28), 2)
    audio = {"encoder_layers": layers, "encoder_attention_heads": heads // 7 * 2, "encoder_ffn_dim": 4 * tower}
    vision = {
        "depth": layers,
        "hidden_size": tower,
        "intermediate_size": tower * 855 // 320,
        "num_heads": heads // 7 * 2,
    }
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [8, 12, 12]}
    text = {
        "vocab_size": VOCABULARY + len(WORDS),
        "hidden_size": width,
        "intermediate_size": width * 37 // 7,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 7,
        "max_position_embeddings": 32768,
        "initializer_range": 0.05,
        "rope_parameters": rope,
        "tie_word_embeddings": False,
    }
    words = make_tokenizer()
    ids: dict[str, Any] = {name: words.convert_tokens_to_ids(token) for name, token in SPECIAL.items()}
    return Qwen2_5OmniThinkerConfig(
        audio_config={**audio, "d_model": tower, "output_dim": width, "num_mel_bins": 128},
        vision_config={**vision, "out_hidden_size": width, "fullatt_block_indexes": list(range(1, layers, 2))},
        text_config=text,
        **ids,
    )


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Words between spaces, and the special tokens of a Qwen-Omni checkpoint."""
    vocabulary = {word: number for number, word in enumerate([*WORDS, *(f"w{n}" for n in range(VOCABULARY))])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token=WORDS[0]))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in WORDS[:-2]])
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|im_end|>", pad_token=WORDS[0], chat_template=TEMPLATE
    )


def make_store(
    folder: Path, encode: Callable[[str, int], Tensor], clips: int, grid: Tensor, frames: int, levels: int = 0
) -> FeatureStore:
    """Write the outputs of a thinker's towers into a store.

    Args:
        folder: Holds the thinker in `model`; the store becomes `cache`.
        encode: Gives the output `[n, H]` by side and number of the clip.
        clips: How many there are.
        grid: int64 `[1, 3]`, of every clip.
        frames: Mel frames of every clip.
        levels: Deepstack levels of Qwen3-Omni, filled with the output itself; 0 for none.
    """
    omni = OmniFolder.open(folder / "model")
    writer = StoreWriter.open(folder / "cache")
    writer.add_clips(clip_records(clips), root=folder)
    seen = vision_companions(levels, omni.hidden_size, "bfloat16")
    heard = {"mel_frames": Companion((), "int32")}
    towers: tuple[tuple[str, Tower, Mapping[str, Companion]], ...] = (
        ("video", "visual", seen),
        ("audio", "audio", heard),
    )
    for side, tower, companions in towers:
        says = {"encoder": omni.family, "weights_sha256": omni.tower_digest(tower)}
        spec = StreamSpec(
            side, omni.family, says, (None, omni.hidden_size), 8, dtype="bfloat16", companions=dict(companions)
        )
        stream = writer.stream(spec)
        pooled = torch.randn(clips, 8, generator=torch.Generator().manual_seed(1)).numpy()
        for shard in stream.pending():
            count = len(shard.rows)
            own = [encode(side, row).cpu() for row in shard.rows]
            kept: dict[str, Any] = {
                "grid": grid.cpu().int().expand(count, 3),
                "seconds_per_slot": torch.ones(count),
                "mel_frames": torch.full((count,), frames, dtype=torch.int32),
                "deepstack": [one.expand(levels, *one.shape).contiguous() for one in own],
            }
            details = [RowDetails() for _ in shard.rows]
            rows = list(shard.rows)
            stream.write(shard, own, pooled[rows], details, companions={name: kept[name] for name in companions})
    writer.finish()
    return FeatureStore.open(folder / "cache")
