"""The thinker's vision tower: frames to the tokens that its language model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from avem.cache import Companion
from avem.cache.decoders import DECODER
from avem.extract.decode.wants import Wants
from avem.extract.encoders.base import Decoded, Encoded, RowShape
from avem.extract.encoders.omni.settings import PictureSettings, picture_settings
from avem.extract.encoders.omni.sizes import VIDEO_LONGEST, deepstack_levels, vision_companions
from avem.extract.encoders.omni.towers import load_tower
from avem.hub.omni import OmniFolder


class Clip(NamedTuple):
    """What the tower takes of one clip."""

    frames: Tensor
    """uint8 [T, h, w, 3], sides of whole patches."""
    seconds_per_slot: float


@dataclass(frozen=True, slots=True)
class LoadedVision:
    """A vision tower with what is known of it."""

    module: nn.Module
    family: str
    weights_sha256: str
    settings: PictureSettings
    hidden_size: int
    levels: int
    """Deepstack levels of Qwen3-Omni; 0 for Qwen2.5-Omni."""


def patches_of(frames: Tensor, settings: PictureSettings) -> tuple[Tensor, tuple[int, int, int]]:
    """Normalise frames and cut them into patches in the order of transformers' video processor.

    Args:
        frames: uint8 [T, h, w, 3]; an odd number of them is filled up with the last one.
        settings: Patch sizes, mean and standard deviation.

    Returns:
        float32 [gt * gh * gw, 3 * t * p * p], and the grid (gt, gh, gw) in patches.
    """
    device, side, merge, depth = frames.device, settings.patch_size, settings.merge_size, settings.temporal_patch_size
    # Rescaling is part of the mean and the deviation, which decides the last bit of a pixel.
    mean = torch.tensor(settings.mean, device=device) * (1.0 / settings.rescale_factor)
    std = torch.tensor(settings.std, device=device) * (1.0 / settings.rescale_factor)
    pixels = frames.permute(0, 3, 1, 2).to(torch.float32)  # [T, 3, h, w]
    pixels = pixels.sub(mean[:, None, None]).div_(std[:, None, None])
    if missing := -len(pixels) % depth:
        pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
    slots, tall, wide = len(pixels) // depth, pixels.shape[2] // side, pixels.shape[3] // side
    pixels = pixels.reshape(slots, depth, 3, tall // merge, merge, side, wide // merge, merge, side)
    pixels = pixels.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)  # slot, token's row and column, patch's in it, colour, frame
    return pixels.reshape(slots * tall * wide, -1), (slots, tall, wide)


class OmniVision:
    """The vision tower as the pipeline uses it; see `StreamEncoder` for its attributes."""

    slot = "video"
    modality: Literal["visual", "audio"] = "visual"
    longest = VIDEO_LONGEST

    def __init__(self, loaded: LoadedVision, device: str, dtype: torch.dtype) -> None:
        self.loaded, self.device, self.dtype = loaded, torch.device(device), dtype
        self.name, self.settings = loaded.family, loaded.settings
        self.row_shape: RowShape = (None, loaded.hidden_size)
        self.pooled_dim = loaded.hidden_size
        self.wants: Wants = loaded.settings.wants

    @classmethod
    def open(
        cls, folder: OmniFolder, settings: PictureSettings, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> OmniVision:
        """Load a folder's vision tower.

        Raises:
            AvemError: The folder is not whole, or its weights do not fit its configuration.
        """
        module = load_tower(folder, "visual", device, dtype)
        hidden = int(folder.config.vision_config.out_hidden_size)
        digest = folder.tower_digest("visual")
        return cls(
            LoadedVision(module, folder.family, digest, settings, hidden, deepstack_levels(folder)), device, dtype
        )

    def companions_as(self, dtype: str) -> Mapping[str, Companion]:
        """See `StreamEncoder`: the grid, the seconds of a slot and, of Qwen3-Omni, the deepstack levels."""
        return vision_companions(self.loaded.levels, self.loaded.hidden_size, dtype)

    def copy_to(self, device: str) -> OmniVision:
        """See `StreamEncoder`."""
        old = self.loaded
        module = deepcopy(old.module).to(device)
        copied = LoadedVision(module, old.family, old.weights_sha256, old.settings, old.hidden_size, old.levels)
        return OmniVision(copied, device, self.dtype)

    def inputs(self, clip: Decoded) -> Clip:
        """See `StreamEncoder`."""
        return Clip(torch.from_numpy(clip.array), self.settings.seconds_per_slot(clip.duration_s))

    @torch.no_grad()
    def encode_clips(self, inputs: Sequence[Clip], /) -> Encoded:
        """Encode clips one by one, so that a row is what transformers makes of the clip alone, to the last bit."""
        features: list[Tensor] = []
        grids: list[Tensor] = []
        deepstack: list[Tensor] = []
        for clip in inputs:
            pixels, grid = patches_of(clip.frames.to(self.device), self.settings)
            grid_thw = torch.tensor([grid], device=self.device)
            output: Any = self.loaded.module(pixels.to(self.dtype), grid_thw=grid_thw)
            features.append(output.pooler_output)
            grids.append(torch.tensor(grid, dtype=torch.int32))
            if self.loaded.levels:
                deepstack.append(torch.stack(list(output.deepstack_features)))
        pooled = torch.stack([row.float().mean(dim=0) for row in features])
        companions: dict[str, Sequence[Tensor]] = {
            "grid": grids,
            "seconds_per_slot": [torch.tensor(clip.seconds_per_slot, dtype=torch.float32) for clip in inputs],
        }
        if self.loaded.levels:
            companions["deepstack"] = deepstack
        return Encoded(features, functional.normalize(pooled, dim=-1), companions)

    def fingerprint(self, decoder: str) -> dict[str, Any]:
        """See `StreamEncoder`."""
        return {
            "encoder": self.name,
            "weights_sha256": self.loaded.weights_sha256,
            "preprocessing": {**self.settings.fingerprint(), DECODER: decoder},
            "layer": "merger",
            "dtype": str(self.dtype).removeprefix("torch."),
        }


def load_omni_vision(
    path: str | Any, device: str = "cpu", dtype: torch.dtype = torch.float32, **settings: Any
) -> OmniVision:
    """Load the vision tower of a Qwen-Omni folder.

    Args:
        path: The folder.
        device: Where it runs.
        dtype: float32, float16 or bfloat16.
        settings: As for `picture_settings`.

    Raises:
        AvemError: The folder can't be used, or a setting makes no sense.

    Example:
        >>> load_omni_vision("Qwen2.5-Omni-3B", fps=1.0).row_shape  # doctest: +SKIP
        (None, 2048)
    """
    folder = OmniFolder.open(path)
    return OmniVision.open(folder, picture_settings(folder, **settings), device, dtype)
