"""Frames become the patches that transformers' own video processor makes, bit for bit, without torchvision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avem.errors import MediaError
from avem.extract.decode.fitted import Fitted
from avem.extract.decode.pixels import CLIP_MEAN, CLIP_STD
from avem.extract.decode.wants import Rate
from avem.extract.encoders.omni.settings import PictureSettings
from avem.extract.encoders.omni.vision import patches_of

GOLDEN = Path(__file__).parents[2] / "golden" / "qwen_omni" / "video_processor.npz"
CASES = ["14-3x40x50-1568-3136", "16-4x90x61-4096-8192", "14-1x20x24-6272-12544"]
SAMPLINGS = ["50-10-2.0", "150-29.97-2.0", "17-2.43-2.0", "300-25-1.0", "4-30-2.0", "40000-30-2.0"]


def settings_of(patch: int, least: int, most: int) -> PictureSettings:
    return PictureSettings(2.0, None, 4, 768, patch, 2, 2, least, most, True, CLIP_MEAN, CLIP_STD, 1 / 255)


@pytest.mark.parametrize("case", CASES)
def test_patches_are_the_processors(case):
    golden = np.load(GOLDEN)
    patch, _, least, most = case.split("-")
    settings = settings_of(int(patch), int(least), int(most))
    resized = settings.fitted(golden[f"{case}/frames"])
    pixels, grid = patches_of(torch.from_numpy(resized), settings)
    assert list(grid) == golden[f"{case}/grid"].tolist()
    assert np.array_equal(pixels.numpy(), golden[f"{case}/patches"])
    frames = golden[f"{case}/frames"]
    assert settings.fitted.tokens(*frames.shape[:3]) == len(pixels) // 4


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_frames_are_those_that_the_processor_samples(sampling):
    own = np.load(GOLDEN)[f"sampling/{sampling}"]
    total, fps, wanted = sampling.split("-")
    ours = Rate(float(wanted)).ids(int(total), float(fps))
    assert len(ours) % 2 == 0
    assert ours.max() < int(total)
    assert len(own) - len(ours) in (0, 1)  # it may round to one more than it asked for
    assert ours.tolist() == own[: len(ours)].tolist()


@pytest.mark.parametrize(("total", "shown"), [(1, [0]), (2, [0, 1]), (3, [0, 1]), (5, [0, 1, 2, 3])])
def test_a_clip_of_a_few_frames_shows_an_even_number_of_them(total, shown):
    assert Rate(2.0).ids(total, 25.0).tolist() == shown


@pytest.mark.parametrize("size", [(40, 50), (90, 61), (333, 517)])
def test_pillows_filter_differs_by_two_at_most(size):
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    fitted = Fitted(28, 128 * 784, 768 * 784)
    height, width = fitted.size(2, *size)
    pillow = np.stack([np.asarray(Image.fromarray(frame).resize((width, height), Image.BICUBIC)) for frame in frames])
    assert np.abs(fitted(frames).astype(int) - pillow.astype(int)).max() <= 2


def test_a_long_clip_has_smaller_frames_unless_it_is_not_capped():
    fitted = Fitted(28, 128 * 784, 768 * 784)
    assert fitted.size(60, 720, 1280) == (560, 1008)
    tall, wide = fitted.size(768, 720, 1280)
    assert tall * wide <= 128_000 * 784 * 0.9 * 2 / 768
    assert replace(fitted, cap=False).size(768, 720, 1280) == (560, 1008)


def test_frames_too_narrow_are_a_failed_clip():
    with pytest.raises(MediaError, match="too narrow"):
        Fitted(28, 784, 7840)(np.zeros((1, 2, 600, 3), np.uint8))


def test_against_torchvision_itself():
    from avem.transformers_ready import ready_torchvision

    try:
        ready_torchvision()
    except ImportError as error:
        pytest.skip(str(error))
    from transformers import Qwen2VLVideoProcessor

    rng = np.random.default_rng(3)
    for patch, frames, height, width in ((14, 5, 224, 224), (16, 7, 333, 517), (14, 320, 40, 50)):
        settings = settings_of(patch, 128 * (2 * patch) ** 2, 768 * (2 * patch) ** 2)
        clip = rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
        own = Qwen2VLVideoProcessor(patch_size=patch)(
            [torch.from_numpy(clip).permute(0, 3, 1, 2).contiguous()],
            size={"shortest_edge": settings.min_pixels, "longest_edge": settings.max_pixels},
            cap_pixels_per_frame=True,
            return_tensors="pt",
        )
        pixels, grid = patches_of(torch.from_numpy(settings.fitted(clip)), settings)
        assert torch.equal(pixels, own["pixel_values_videos"])
        assert list(grid) == own["video_grid_thw"][0].tolist()
