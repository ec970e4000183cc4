"""The windowed Q-Former projector: learned queries read each window of encoder states (Li et al., 2023; SALMONN)."""

from __future__ import annotations

import torch
from torch import nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from avem.errors import SettingError


class WindowQFormer(nn.Module):
    """Slides a window over encoder states and turns each window into a fixed number of language-model tokens.

    Tokens come out window by window, and query by query within a window. There is no padding: states after the last
    complete window are dropped, which is AVERE's behaviour (1500 steps, windows of 17: 88 tokens, 4 steps dropped).
    Dropout is off, so that scores computed once stay equal to those of a later pass.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        queries: int,
        window: int,
        stride: int,
        hidden_size: int,
        heads: int,
        intermediate_size: int,
        layers: int,
    ) -> None:
        super().__init__()
        if hidden_size % heads:
            raise SettingError(f"The Q-Former's width {hidden_size} does not divide among {heads} attention heads.")
        self.window, self.stride = window, stride
        self.norm = nn.LayerNorm(input_size, eps=1e-5)
        self.queries = nn.Parameter(torch.empty(1, queries, hidden_size))
        nn.init.normal_(self.queries, std=0.02)
        self.bert = Blip2QFormerModel(
            Blip2QFormerConfig(
                hidden_size=hidden_size,
                num_attention_heads=heads,
                intermediate_size=intermediate_size,
                num_hidden_layers=layers,
                encoder_hidden_size=input_size,
                cross_attention_frequency=1,
                layer_norm_eps=1e-12,
                hidden_act="gelu",
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        )
        self.projection = nn.Linear(hidden_size, output_size)

    def token_count(self, steps: int) -> int:
        """Tokens that `steps` encoder states become."""
        window, stride = self._sizes(steps)
        return ((steps - window) // stride + 1) * self.queries.shape[1]

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Project encoder states.

        Args:
            states: `[B, S, C]`, in the module's dtype.

        Returns:
            `[B, W, H]`, W windows times queries.
        """
        window, stride = self._sizes(states.shape[1])
        batch = states.shape[0]
        windows = self.norm(states).unfold(1, window, stride).transpose(2, 3)  # [B, W, window, C]
        windows = windows.reshape(-1, window, states.shape[2])  # [B * W, window, C]
        queries = self.queries.expand(windows.shape[0], -1, -1)  # [B * W, queries, D]
        read = self.bert(query_embeds=queries, encoder_hidden_states=windows).last_hidden_state  # [B * W, queries, D]
        projected: torch.Tensor = self.projection(read)  # [B * W, queries, H]
        return projected.reshape(batch, -1, projected.shape[-1])

    def _sizes(self, steps: int) -> tuple[int, int]:
        """Window and stride in states; a window of 0 stands for all of them."""
        if self.window == 0:
            return steps, 1
        if steps < self.window:
            raise SettingError(f"The features have {steps} steps, fewer than one Q-Former window of {self.window}.")
        return self.window, self.stride
