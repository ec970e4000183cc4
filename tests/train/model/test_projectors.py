"""Projectors: token counts, windows, dropped tails, and arithmetic by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_kit import AUDIO_WIDTH, VIDEO_WIDTH, random_audio, random_video, tiny_config

from avem.errors import CheckpointError, SettingError
from avem.train import AudiovisualConfig
from avem.train.model.projectors import AudioProjector, VideoProjector, build_audio_projector, build_video_projector

WIDTH = 16


@pytest.mark.parametrize("kind", ["mlp2x_gelu", "linear", "qformer"])
def test_video_token_counts(kind):
    projector = VideoProjector(tiny_config(video_projector=kind), WIDTH)
    tokens = projector(random_video(0)[None])
    assert tokens.shape == (1, 8 if kind == "qformer" else 12, WIDTH)
    assert projector.token_count(4, 3) == tokens.shape[1]


def test_mlp_by_hand():
    projector = VideoProjector(tiny_config(), WIDTH).double()
    features = random_video(0)
    first, _, second = projector.network
    hidden = features.double().flatten(0, 1) @ first.weight.T + first.bias
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    expected = hidden @ second.weight.T + second.bias
    torch.testing.assert_close(projector(features[None])[0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("seconds", "queries", "steps", "tokens"),
    [(0.33333, 1, 1500, 88), (0.33333, 2, 1500, 176), (0.5, 1, 1500, 60), (0.33333, 1, 750, 44), (1.0, 3, 120, 6)],
)
def test_audio_windows(seconds, queries, steps, tokens):
    config = tiny_config(
        qformer_second_per_window=seconds, qformer_second_stride=seconds, qformer_num_speech_query_tokens=queries
    )
    projector = AudioProjector(config, WIDTH)
    assert projector.token_count(steps) == tokens
    assert projector(torch.zeros(1, steps, AUDIO_WIDTH)).shape == (1, tokens, WIDTH)


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 6), st.integers(6, 30))
def test_each_window_is_read_by_itself(window, stride, steps):
    """Token pair i depends on steps [i*stride, i*stride + window) and on nothing else."""
    config = tiny_config(qformer_second_per_window=window / 50, qformer_second_stride=stride / 50)
    projector = AudioProjector(config, WIDTH)
    states = random_audio(3, steps)[None]
    with torch.no_grad():
        tokens = projector(states)[0].view(-1, 2, WIDTH)
        for number in range(len(tokens)):
            alone = projector(states[:, number * stride : number * stride + window])[0]
            torch.testing.assert_close(tokens[number], alone, atol=1e-5, rtol=0)
    assert len(tokens) == (steps - window) // stride + 1


def test_one_window_over_everything():
    projector = AudioProjector(tiny_config(qformer_window_level=False), WIDTH)
    assert projector(random_audio(0)[None]).shape == (1, 2, WIDTH)
    assert projector.token_count(23) == 2


def test_stacking_drops_the_tail():
    projector = AudioProjector(tiny_config(audio_projector="stack-mlp"), WIDTH).double()
    states = random_audio(0, 23)[None]
    tokens = projector(states)
    assert tokens.shape == (1, 2, WIDTH)
    torch.testing.assert_close(projector(states[:, :20]), tokens, atol=0, rtol=0)
    torch.testing.assert_close(projector(states[:, 10:20])[0, 0], tokens[0, 1], atol=1e-12, rtol=0)


def test_batches_equal_single_clips():
    projector = AudioProjector(tiny_config(), WIDTH).double()
    batch = torch.stack([random_audio(0), random_audio(1)])
    for number in range(2):
        torch.testing.assert_close(projector(batch)[number], projector(batch[number][None])[0], atol=1e-6, rtol=0)


def test_too_short_audio_is_refused():
    for kind in ("qformer", "stack-mlp"):
        projector = AudioProjector(tiny_config(audio_projector=kind), WIDTH)
        with pytest.raises(SettingError, match="have 4 steps, fewer than"):
            projector(torch.zeros(1, 4, AUDIO_WIDTH))
        with pytest.raises(SettingError, match="have 4 steps, fewer than"):
            projector.token_count(4)


def test_models_without_one_modality():
    config = AudiovisualConfig(video_hidden_size=0, audio_hidden_size=4, video_projector="none")
    assert build_video_projector(config, WIDTH) is None
    assert build_audio_projector(config, WIDTH) is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_projector": "magic"}, "choose one of mlp2x_gelu, linear, qformer, none"),
        ({"audio_projector": "magic"}, "choose one of qformer, stack-mlp, none"),
        ({"prompt_format": "alpaca"}, "choose one of vicuna_v1, llava_v1, chat"),
        ({"video_hidden_size": 0}, "exactly when there is no projector"),
        ({"qformer_second_per_window": 0.001}, "less than one encoder step"),
        ({"qformer_hidden_size": 13}, "13 does not divide among 3"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    with pytest.raises(SettingError, match=message):
        AudioProjector(tiny_config(**changes), WIDTH)


def test_config_round_trip_and_unknown_fields():
    config = tiny_config(video_fingerprint="abc")
    assert AudiovisualConfig.from_json(config.to_json()) == config
    with pytest.raises(CheckpointError, match="does not know: magic"):
        AudiovisualConfig.from_json({**config.to_json(), "magic": 1})
    with pytest.raises(CheckpointError, match="video_hidden_size"):
        AudiovisualConfig.from_json({"audio_hidden_size": VIDEO_WIDTH})
