"""A padded batch, as TRL makes it, through the model as one packed prefix tree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avem.errors import SettingError
from avem.train.library.models import GivenPositions, plain_model, position_axes, takes
from avem.train.model.embedding import embedding_table
from avem.train.model.layers.float32 import float32_logits
from avem.train.model.positions import OffsetPositions, model_positions, tree_positions
from avem.train.model.scoring import OTHER_LAYERS, Targets, check_layers, find_targets
from avem.train.prefix.attention import ATTENTION_NAME, prepared_mask, use_prefix_tree_attention
from avem.train.prefix.flex import tree_attention
from avem.train.prefix.tree import build_tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PICTURE = 1 << 40
"""Atoms from here on are pictures' tokens: above all token ids."""
TEXT_INPUTS = frozenset({"input_ids", "attention_mask"})
"""What a batch without media gives to the model."""


class PackedForward:
    """A model as TRL's loss calls it, `model(..., labels=, fused_lm_head=True)`, over the batch's prefix tree.

    Args:
        model: Policy or reference, as TRL would call it.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model

    def __call__(self, *, fused_lm_head: bool = False, labels: Tensor | None = None, **inputs: Any) -> Any:
        """What TRL reads of its fused output layer; what can't be packed, and calls for logits, go to the model.

        Args:
            fused_lm_head: As TRL sets it.
            labels: int64 `[2B, S]`: ids of what is scored, -100 elsewhere.
            **inputs: Everything else.

        Returns:
            `log_probs`, `entropy`, `mean_logits`, `is_top1` and `log_sum_sq_probs`, `[2B, S - 1]` each, zero where
            nothing is scored.
        """
        if not fused_lm_head or labels is None or not self._packs(inputs):
            more = {} if labels is None else {"labels": labels, "fused_lm_head": fused_lm_head}
            return self._model(**inputs, **more)
        pixels = inputs.get("pixel_values")
        logits, targets, places = self._pack(inputs["input_ids"], inputs["attention_mask"], labels, pixels)
        return _outputs(logits, targets, places, labels)

    def _packs(self, inputs: Mapping[str, Any]) -> bool:
        """Whether a batch holds text alone, or one picture a row that only has to be put into the text."""
        if inputs.get("output_router_logits"):
            return False
        more = {name for name in inputs if name not in ("use_cache", "output_router_logits")} - TEXT_INPUTS
        if not more:
            return True
        base = plain_model(unwrapped(self._model))
        single = more == {"pixel_values"} and len(inputs["pixel_values"]) == len(inputs["input_ids"])
        return single and position_axes(base) == 1 and _picture_token(base) is not None

    def _pack(
        self, ids: Tensor, mask: Tensor, labels: Tensor, pixels: Tensor | None
    ) -> tuple[Tensor, Targets, list[int]]:
        """Logits `[R, V]` at the positions that predict, and the flat index into `[2B, S - 1]` of each target."""
        base = plain_model(unwrapped(self._model))
        make_ready(base)  # TRL may score the reference before the trainer is made
        columns = [row.nonzero()[:, 0].tolist() for row in mask.cpu()]
        atoms = [row[own].tolist() for row, own in zip(ids.cpu(), columns, strict=True)]
        wanted = [
            [place for place, column in enumerate(own) if place and row[column] != -100]
            for row, own in zip(labels.cpu().tolist(), columns, strict=True)
        ]
        if pixels is not None:  # a row's two answers are about one picture; other rows' pictures are other atoms
            token, rows = _picture_token(base), len(atoms) // 2
            for number, path in enumerate(atoms):
                atoms[number] = [PICTURE + number % rows if atom == token else atom for atom in path]
        tree = build_tree([path[:-1] for path in atoms], lambda _: 1)
        targets = find_targets(tree, atoms, wanted, _TEXT)
        width = labels.shape[1] - 1
        places = [owner * width + columns[owner][place] - 1 for owner, own in enumerate(wanted) for place in own]
        axes = position_axes(base)
        positions = tree_positions(OffsetPositions() if axes == 1 else GivenPositions(axes), tree, _TEXT.piece_of)
        row = torch.tensor([[atom for number in tree.order for atom in tree.nodes[number].atoms]], device=ids.device)
        shown = {"input_ids": row} if pixels is None else {"inputs_embeds": _with_pictures(base, row, pixels)}
        attention = tree_attention(tree, ids.device)
        kept = torch.tensor(targets.positions, device=ids.device)
        keeps = takes(base, "logits_to_keep")
        with float32_logits(base):
            output = self._model(
                **shown,
                position_ids=model_positions(positions[:, None], ids.device),
                attention_mask=prepared_mask(ids.device),
                prefix_tree=attention,
                use_cache=False,
                **({"logits_to_keep": kept} if keeps else {}),
            )
        if attention.layers != base.config.get_text_config().num_hidden_layers:
            raise SettingError(OTHER_LAYERS.format(type(base).__name__))
        return (output.logits if keeps else output.logits[:, kept])[0], targets, places


def make_ready(model: PreTrainedModel) -> None:
    """Make a model's layers attend through avem's function.

    Raises:
        SettingError: Its layers can't share prefixes.
    """
    if model.config._attn_implementation != ATTENTION_NAME:
        check_layers(model)
        use_prefix_tree_attention(model)


def _picture_token(model: PreTrainedModel) -> int | None:
    """Id that stands for a picture's tokens; None for models without."""
    config = model.config
    found: int | None = getattr(config, "image_token_id", None) or getattr(config, "image_token_index", None)
    return found if hasattr(model, "get_image_features") else None


def _with_pictures(model: PreTrainedModel, row: Tensor, pixels: Tensor) -> Tensor:
    """Input embeddings `[1, S, H]` of a packed row, each distinct picture seen once.

    Args:
        model: Sees pictures.
        row: int64 `[1, S]`: token ids, and `PICTURE` plus the number of a picture.
        pixels: `[2B, ...]`, those of the chosen answers first.
    """
    flat = row[0].tolist()
    order = list(dict.fromkeys(atom - PICTURE for atom in flat if atom >= PICTURE))
    see: Any = model.get_image_features
    seen = see(pixel_values=pixels[order])
    features = getattr(seen, "pooler_output", seen)
    tokens = torch.cat(list(features)) if not isinstance(features, Tensor) else features.flatten(0, -2)  # [P, H]
    places = row[0] >= PICTURE
    if int(places.sum()) != len(tokens):
        raise SettingError("max_length cuts the tokens of a picture; raise it, or set max_length=None.")
    table = embedding_table(model)
    text = table(row[0].masked_fill(places, 0))  # [S, H]
    embedded: Tensor = text.masked_scatter(places[:, None], tokens.to(text))
    return embedded[None]


class _TextOnly:
    """Sizes of atoms where all are tokens."""

    def size_of(self, atom: int) -> int:
        """One position."""
        return 1

    def piece_of(self, atom: int) -> Any:
        """There is no media atom to ask about."""
        raise KeyError(atom)


_TEXT: Any = _TextOnly()


def _outputs(logits: Tensor, targets: Targets, places: Sequence[int], labels: Tensor) -> SimpleNamespace:
    """TRL's per-token values `[2B, S - 1]` from logits at the targets' positions."""
    logits = logits.float() if logits.dtype != torch.float64 else logits
    rows = torch.tensor(targets.rows, device=logits.device)  # [response tokens], like the next two
    tokens = torch.tensor(targets.tokens, device=logits.device)
    flat = torch.tensor(places, device=logits.device)
    logprobs = logits.log_softmax(-1)  # [R, V]
    size = labels.shape[0] * (labels.shape[1] - 1)

    def spread(values: Tensor) -> Tensor:
        return values.new_zeros(size).index_put((flat,), values).view(labels.shape[0], -1)

    with torch.no_grad():
        fixed = logprobs.detach()
        entropy = -(fixed.exp() * fixed).sum(-1)
        squares = torch.logsumexp(2 * fixed, -1)
        mean, top = logits.detach().mean(-1), logits.detach().argmax(-1)
    return SimpleNamespace(
        log_probs=spread(logprobs[rows, tokens]),
        entropy=spread(entropy[rows]),
        mean_logits=spread(mean[rows]),
        is_top1=spread(top[rows] == tokens),
        log_sum_sq_probs=spread(squares[rows]),
        aux_loss=None,
    )


def unwrapped(model: PreTrainedModel) -> Any:
    """The model inside wrappers for distribution."""
    return getattr(model, "module", model)
