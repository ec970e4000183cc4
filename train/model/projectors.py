"""Projectors: from encoder features to language-model tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from avem.errors import SettingError
from avem.train.model.config import AudiovisualConfig
from avem.train.model.qformer import WindowQFormer

WHISPER_STEPS, WHISPER_SECONDS = 1500, 30
"""Whisper's encoder makes 1500 states of 30 seconds, 50 a second; longer or shorter inputs keep that rate."""


class VideoProjector(nn.Module):
    """Video features `[B, T, N, C]` to tokens `[B, T*N, H]` (with `qformer`: `[B, W, H]`, W windows times queries)."""

    def __init__(self, config: AudiovisualConfig, hidden_size: int) -> None:
        super().__init__()
        width = config.video_hidden_size
        self.network: nn.Module
        if config.video_projector == "mlp2x_gelu":
            self.network = _mlp(width, hidden_size)
        elif config.video_projector == "linear":
            self.network = nn.Linear(width, hidden_size)
        else:
            window = config.video_qformer_tokens_per_window if config.video_qformer_window_level else 0
            self.network = WindowQFormer(
                width,
                hidden_size,
                queries=config.qformer_num_video_query_tokens,
                window=window,
                stride=config.video_qformer_token_stride,
                **_qformer_sizes(config),
            )

    def token_count(self, frames: int, tokens_per_frame: int) -> int:
        """Tokens that a video of `[T, N, C]` features becomes."""
        count = frames * tokens_per_frame
        return self.network.token_count(count) if isinstance(self.network, WindowQFormer) else count

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project `[B, T, N, C]`, any float dtype, to `[B, W, H]` in the module's dtype."""
        tokens: torch.Tensor = self.network(features.flatten(1, 2).to(_dtype(self)))  # [B, T * N, C] -> [B, T * N, H]
        return tokens


class StackMLP(nn.Module):
    """Joins runs of encoder steps and maps each run to one token; steps after the last complete run are dropped."""

    def __init__(self, input_size: int, output_size: int, stack: int) -> None:
        super().__init__()
        self.stack = stack
        self.mlp = _mlp(input_size * stack, output_size)

    def token_count(self, steps: int) -> int:
        """Tokens that `steps` encoder states become."""
        if steps < self.stack:
            raise SettingError(f"The features have {steps} steps, fewer than one stack of {self.stack}.")
        return steps // self.stack

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Project `[B, S, C]` to `[B, S // stack, H]`."""
        count = self.token_count(states.shape[1])
        stacked = states[:, : count * self.stack].reshape(states.shape[0], count, -1)  # [B, W, stack * C]
        tokens: torch.Tensor = self.mlp(stacked)  # [B, W, H]
        return tokens


class AudioProjector(nn.Module):
    """Audio features `[B, S, C]` to tokens `[B, W, H]`."""

    def __init__(self, config: AudiovisualConfig, hidden_size: int) -> None:
        super().__init__()
        self.network: WindowQFormer | StackMLP
        if config.audio_projector == "stack-mlp":
            self.network = StackMLP(config.audio_hidden_size, hidden_size, config.audio_stack)
        else:
            single = not config.qformer_window_level  # one window over all steps
            self.network = WindowQFormer(
                config.audio_hidden_size,
                hidden_size,
                queries=config.qformer_num_speech_query_tokens,
                window=0 if single else _steps(config.qformer_second_per_window, "qformer_second_per_window"),
                stride=1 if single else _steps(config.qformer_second_stride, "qformer_second_stride"),
                **_qformer_sizes(config),
            )

    def token_count(self, steps: int) -> int:
        """Tokens that `[S, C]` features become."""
        return self.network.token_count(steps)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Project `[B, S, C]`, any float dtype, to `[B, W, H]` in the module's dtype."""
        tokens: torch.Tensor = self.network(features.to(_dtype(self)))  # [B, S, C] -> [B, W, H]
        return tokens


def build_video_projector(config: AudiovisualConfig, hidden_size: int) -> VideoProjector | None:
    """The video projector with fresh weights, or None where the model takes no video."""
    return None if config.video_projector == "none" else VideoProjector(config, hidden_size)


def build_audio_projector(config: AudiovisualConfig, hidden_size: int) -> AudioProjector | None:
    """The audio projector with fresh weights, or None where the model takes no audio."""
    return None if config.audio_projector == "none" else AudioProjector(config, hidden_size)


def _mlp(input_size: int, output_size: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(input_size, output_size), nn.GELU(), nn.Linear(output_size, output_size))


def _qformer_sizes(config: AudiovisualConfig) -> dict[str, Any]:
    return {
        "hidden_size": config.qformer_hidden_size,
        "heads": config.qformer_num_attention_heads,
        "intermediate_size": config.qformer_intermediate_size,
        "layers": config.qformer_num_hidden_layers,
    }


def _steps(seconds: float, name: str) -> int:
    steps = round(WHISPER_STEPS * seconds / WHISPER_SECONDS)
    if steps < 1:
        raise SettingError(f"{name} is {seconds} s, less than one encoder step of 0.02 s.")
    return steps


def _dtype(module: nn.Module) -> torch.dtype:
    dtype: torch.dtype = next(module.parameters()).dtype
    return dtype
