"""Gemma 3n's frames and sound, each by itself."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from avem.errors import CheckpointError
from avem.evaluate.predict.adapters import load_adapter
from avem.evaluate.predict.adapters.vision import ready_torchvision
from avem.evaluate.predict.media_model import ClipMedia
from tests.evaluate.adapter_kit import save_small


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    pytest.importorskip("timm", reason="the vision tower of Gemma 3n needs timm, and it is not installed")
    try:
        ready_torchvision()
    except ImportError:
        pytest.skip("timm needs torchvision, and it is not installed")
    return load_adapter(str(save_small("gemma3n", tmp_path_factory.mktemp("model") / "small")), "cpu", torch.float32)


def clip(seconds=2.0):
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    return ClipMedia(frames=frames, samples=random.uniform(-0.3, 0.3, int(seconds * 16000)).astype(np.float32))


def test_frames_come_before_sound_and_both_before_the_question(adapter):
    ids = adapter.encode("Which?", clip())["input_ids"][0].tolist()
    words = adapter.processor.tokenizer
    picture, sound = words.convert_tokens_to_ids(["<image>", "<audio>"])
    assert (ids.count(picture), ids.count(sound)) == (8 * 4, 188)
    last = {token: len(ids) - 1 - ids[::-1].index(token) for token in (picture, sound)}
    assert last[picture] < ids.index(sound)
    assert "Which?" in words.decode(ids[last[sound] :])


def test_the_model_sees_each_frame_and_hears(adapter):
    shown = clip()
    other = shown.frames.copy()
    other[7] = 255 - other[7]
    quieter = replace(shown, samples=shown.samples[::-1].copy() * 0.1)
    scores = [
        adapter.option_logprobs(adapter.encode("Which?", media), ("A",))[0]
        for media in (shown, shown, replace(shown, frames=other), quieter)
    ]
    assert scores[0] == scores[1]
    assert len(set(scores)) == 3


def test_sound_after_30_seconds_is_cut_by_the_processor(adapter):
    long = adapter.encode("Which?", clip(40))
    cut = adapter.encode("Which?", clip(30))
    assert long["input_features"].shape == cut["input_features"].shape
    assert long["input_ids"].tolist() == cut["input_ids"].tolist()


def test_without_timm(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    (tmp_path / "config.json").write_text('{"model_type": "gemma3n"}')
    with pytest.raises(CheckpointError, match=r"pip install 'avem\[media\]'"):
        load_adapter(str(tmp_path), "cpu", torch.float32)
