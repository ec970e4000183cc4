"""A Hugging Face model as avem's scoring takes it."""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from avem.errors import SettingError
from avem.train.families.base import FamilyModel
from avem.train.model.media import FamilyStream, Group, MediaEmbedding, Medium, Piece, Side, rows_of
from avem.train.model.positions import OffsetPositions, Positions
from avem.train.prefix.attention import use_prefix_tree_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class GivenPositions:
    """Position ids on several axes: text counts on all of them alike, media say their own.

    Example:
        >>> positions = GivenPositions(3)
        >>> ids, state = positions.text(positions.begin(), [5, 6])
        >>> positions.media(state, "video", Piece(0, 2, ((0, 0), (0, 0), (0, 1))))
        (tensor([[2, 2],
                [2, 2],
                [2, 3]]), 4)
    """

    def __init__(self, axes: int) -> None:
        self.axes = axes

    def begin(self) -> int:
        """Nothing is before the first token."""
        return 0

    def text(self, state: int, ids: Sequence[int]) -> tuple[Tensor, int]:
        """The next ids in order, `[axes, n]`."""
        return torch.arange(state, state + len(ids)).expand(self.axes, -1), state + len(ids)

    def media(self, state: int, side: Side, piece: Piece) -> tuple[Tensor, int]:
        """The medium's own ids from here on, `[axes, n]`; text goes on after the largest."""
        if piece.place is None:
            return self.text(state, range(piece.size))
        ids = torch.tensor(cast("tuple[tuple[int, ...], ...]", piece.place)) + state
        return ids, int(ids.max()) + 1


class HubModel(FamilyModel):
    """A Hugging Face model and no more: token ids and embedded media in, log-probabilities out.

    Args:
        model: A causal language model, the thinker of a Qwen-Omni, or either with LoRA adapters from peft. From now on
            its layers attend through avem's function, which without a prefix tree is SDPA.

    Raises:
        SettingError: An adapter adds virtual tokens, or there is no output layer.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        base = plain_model(model)
        if base.get_output_embeddings() is None:
            raise SettingError(
                f"{type(base).__name__} has no output layer; give the model with its language-model head."
            )
        super().__init__(base, None)
        use_prefix_tree_attention(base)
        self._axes = position_axes(base)
        self._keeps = takes(base, "logits_to_keep")

    @property
    def family(self) -> str:
        """No family of avem's."""
        return "hub"

    @property
    def streams(self) -> tuple[FamilyStream, ...]:
        """It reads no store."""
        return ()

    @property
    def positions(self) -> Positions:
        """One axis, or as many as the model rotates by."""
        return OffsetPositions() if self._axes == 1 else GivenPositions(self._axes)

    def group(self, side: Side, medium: Medium) -> Group:
        """A medium under its side's name."""
        return rows_of(medium, side)

    def layout(self, side: Side, group: Group) -> Hashable:
        """Media come embedded, so that only their number counts."""
        return len(group[side].features)

    def media_embeddings(self, side: Side, groups: Sequence[Group]) -> list[MediaEmbedding]:
        """Media as they were given, `[W, H]`."""
        return [MediaEmbedding(group[side].features.to(self.device)) for group in groups]

    def logits(self, embeddings: Tensor, keep: Tensor | int, positions: Tensor | None = None, **call: Any) -> Tensor:
        """Logits of some positions; where the model has no `logits_to_keep`, its decoder and then its output layer."""
        if self._keeps:
            return super().logits(embeddings, keep, positions, **call)
        given = call if positions is None else {"position_ids": positions, **call}
        hidden = self.language_model.get_decoder()(inputs_embeds=embeddings, **given).last_hidden_state  # [B, S, H]
        kept = hidden[:, -keep:] if isinstance(keep, int) else hidden[:, keep]
        logits: Tensor = self.language_model.get_output_embeddings()(kept)
        return logits


def plain_model(model: PreTrainedModel) -> PreTrainedModel:
    """The model inside peft's wrapper, whose adapters sit in its layers; any other model itself.

    Raises:
        SettingError: The adapter adds virtual tokens in front, which no prefix of real tokens has.
    """
    unwrap = getattr(model, "get_base_model", None)
    if unwrap is None:
        return model
    if getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        raise SettingError("The adapter adds virtual tokens to prompts, which can't be shared; use LoRA.")
    base: PreTrainedModel = unwrap()
    return base


def position_axes(model: PreTrainedModel) -> int:
    """Rows of position ids that a model takes: 3 where it rotates by time, height and width, otherwise 1."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    return 3 if "mrope_section" in rope else 1


def takes(model: PreTrainedModel, argument: str) -> bool:
    """Whether a model's forward names an argument."""
    return argument in inspect.signature(type(model).forward).parameters
