"""A thinker's language model by itself: inner model and output layer, without the towers.

transformers has no such class: its thinkers own both towers and compute logits of every position. Parameter names are
those of the released checkpoints without `thinker.`: `model.layers.0. ...`, `lm_head.weight`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from avem.train.model.generate import cache_argument


class ThinkerLanguageModel(PreTrainedModel, GenerationMixin):
    """Takes embeddings, gives logits of the wanted positions.

    Args:
        config: The thinker's `text_config`.
        tie: Whether the output layer is the embedding table.
    """

    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: Any, *, tie: bool = False) -> None:
        config.tie_word_embeddings = tie
        super().__init__(config)
        self.model: Any = inner_class(config)(config)
        inner: Any = self.model
        if hasattr(inner, "_deepstack_process"):
            inner._deepstack_process = add_at
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if tie:
            self._tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
        self._no_split_modules = list(self.model._no_split_modules or ())
        initialise: Any = self.post_init
        initialise()

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        *,
        inputs_embeds: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        cache: Any = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **more: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of some positions.

        Args:
            input_ids: int64 `[B, S]`, or None with `inputs_embeds`.
            inputs_embeds: `[B, S, H]`.
            attention_mask: As transformers takes it.
            position_ids: `[3, B, S]`, or `[B, S]` where all axes are equal.
            cache: Keys and values of earlier positions.
            use_cache: Whether to keep keys and values.
            logits_to_keep: Positions int64 `[R]`, or a number for the last so many (0: all).
            **more: For the inner model: `prefix_tree`, and `deepstack_visual_embeds` with their positions as `add_at`
                takes them in `visual_pos_masks`.
        """
        kept_keys = {} if cache is None else {cache_argument(self.model): cache}
        output = self.model(
            input_ids=input_ids,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            **kept_keys,
            **more,
        )
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(output.last_hidden_state[:, kept])  # [B, R, V]
        return CausalLMOutputWithPast(logits=logits)


class ExpertsLanguageModel(ThinkerLanguageModel):
    """The same with experts, which transformers then computes in one of several ways."""

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        """True: transformers looks for experts in this file, and they are in the inner model's."""
        return True


def empty_model(config: Any, *, tie: bool = False) -> ThinkerLanguageModel:
    """The language model that a thinker's `text_config` describes, with random weights."""
    experts = bool(getattr(config, "num_experts", 0))
    return (ExpertsLanguageModel if experts else ThinkerLanguageModel)(config, tie=tie)


def add_at(hidden: torch.Tensor, positions: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Add deepstack features to some positions.

    transformers finds the positions with a mask. A GPU waits for that in every such layer, and a model without weights
    can't do it.

    Args:
        hidden: `[B, S, H]`.
        positions: int64 `[V]`, counted over the whole batch: `row * S + position`.
        added: `[V, H]`.
    """
    flat = hidden.reshape(-1, hidden.shape[-1])
    return flat.index_add(0, positions, added.to(flat)).view_as(hidden)


def inner_class(config: Any) -> type[PreTrainedModel]:
    """Transformers' class of the inner model that a `text_config` belongs to."""
    if config.model_type == "qwen2_5_omni_text":
        from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniThinkerTextModel

        return Qwen2_5OmniThinkerTextModel
    from transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe import Qwen3OmniMoeThinkerTextModel

    return Qwen3OmniMoeThinkerTextModel
