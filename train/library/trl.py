"""TRL's DPO trainer over shared prefixes, with reference scores that are kept; needs `pip install avem[trl]`.

TRL pads each answer of a batch to a sequence of its own, so that a prompt is computed once for each answer. Here the
model's forward is replaced, inside TRL's own loss, by one over the packed prefix tree of the batch. All of TRL's losses
and metrics stay TRL's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from trl import DPOTrainer

from avem.cache import ScoreCache
from avem.errors import SettingError
from avem.train.library.models import GivenPositions, plain_model, position_axes, takes
from avem.train.library.scoring import weights_digest
from avem.train.model.positions import OffsetPositions, model_positions, tree_positions
from avem.train.model.scoring import OTHER_LAYERS, Targets, check_layers, find_targets
from avem.train.prefix.attention import ATTENTION_NAME, prepared_mask, use_prefix_tree_attention
from avem.train.prefix.flex import tree_attention
from avem.train.prefix.tree import build_tree

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEYS = "avem_keys"
"""Batch entry with the digests of its answers, int64 `[B, 2, 4]`: chosen and rejected, 32 bytes each."""
PICTURE = 1 << 40
"""Atoms from here on are pictures' tokens: above all token ids."""
TEXT_INPUTS = frozenset({"input_ids", "attention_mask"})
"""What a batch without media gives to the model."""


class PrefixDPOTrainer(DPOTrainer):  # type: ignore[misc]
    """`trl.DPOTrainer` that computes every shared prefix of a batch once, and can keep the reference's scores.

    Everything else is TRL's: arguments, datasets, losses, metrics, saving. The two answers of a row always share their
    prompt; rows with a common beginning share it where they are in one batch (`train_sampling_strategy="sequential"`
    keeps neighbours together). A row with one image, of a model that puts it into the text as tokens (LLaVA and its
    like), shares it between its answers; other batches with images go through TRL's own forward. Reference scores of
    rows with images are kept like all others, which TRL's `precompute_ref_log_probs` refuses.

    Args:
        *args: As for `trl.DPOTrainer`.
        reference_cache: Folder in which the reference's scores are kept: each is computed when it is first needed, and
            found again in later epochs and later runs of the same model. None: TRL's own settings decide.
        **kwargs: As for `trl.DPOTrainer`.

    Raises:
        SettingError: Two settings contradict each other, or the model's attention can't share prefixes.

    Example:
        >>> from trl import DPOConfig  # doctest: +SKIP
        >>> trainer = PrefixDPOTrainer(
        ...     model, args=DPOConfig("run"), train_dataset=rows, processing_class=tokenizer, reference_cache="scores"
        ... )  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    precompute_ref_logps: bool
    data_collator: Any

    def __init__(self, *args: Any, reference_cache: str | Path | None = None, **kwargs: Any) -> None:
        self._references: ScoreCache | None = None
        super().__init__(*args, **kwargs)
        if reference_cache is not None and self.precompute_ref_logps:
            raise SettingError("reference_cache keeps the reference's scores; set precompute_ref_log_probs=False.")
        if reference_cache is not None and self.args.sync_ref_model:
            raise SettingError("reference_cache needs a reference that stays as it is; set sync_ref_model=False.")
        for model in (self.model, self.ref_model):
            if model is not None:
                make_ready(plain_model(self.accelerator.unwrap_model(model)))
        if reference_cache is not None:
            self._references = ScoreCache(reference_cache, self._reference_fingerprint())
            self.data_collator = KeyedCollator(self.data_collator)
            self.precompute_ref_logps = True  # from here on, TRL's loss reads these scores from the batch

    def compute_ref_log_probs(self, model: PreTrainedModel, inputs: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Reference scores of a batch, `[B]` of the chosen and of the rejected answers, over its prefix tree."""
        found: tuple[Tensor, Tensor] = super().compute_ref_log_probs(PackedForward(model), inputs)
        return found

    def _compute_loss(self, model: PreTrainedModel, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if self._references is not None:
            inputs = self._with_references(self._references, inputs)
        return super()._compute_loss(PackedForward(model), inputs, return_outputs)

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        """Nothing where scores are kept: each is computed when it is needed."""
        return dataset if self._references is not None else super()._precompute_ref_logps(dataset, name, batch_size)

    def _with_references(self, cache: ScoreCache, inputs: dict[str, Any]) -> dict[str, Any]:
        """A batch with its reference scores, computed where they are not kept yet."""
        inputs = dict(inputs)
        keys = [bytes(row).hex() for row in inputs.pop(KEYS).cpu().numpy().reshape(-1, 4)]  # chosen, rejected, ...
        found = cache.get(keys)
        if bool(np.isnan(found).any()):
            model = self.model if self.ref_model is None else self.ref_model
            sides = self.compute_ref_log_probs(model, inputs)
            scores = torch.stack(sides, 1).reshape(-1).double().cpu().numpy()
            missing = [index for index, value in enumerate(found) if np.isnan(value)]
            cache.put([keys[index] for index in missing], scores[missing].tolist())
            found = np.where(np.isnan(found), scores, found)
        pairs = torch.from_numpy(found).reshape(-1, 2).to(self.accelerator.device, torch.float32)
        return {**inputs, "ref_chosen_logps": pairs[:, 0], "ref_rejected_logps": pairs[:, 1]}

    def _reference_fingerprint(self) -> dict[str, Any]:
        """What the reference's scores depend on beside their rows."""
        if self.ref_model is None and not hasattr(self.model, "get_base_model"):
            raise SettingError("reference_cache needs a reference: a model with adapters, or a ref_model.")
        model = self.accelerator.unwrap_model(self.model if self.ref_model is None else self.ref_model)
        collator = self.data_collator
        return {
            "weights": weights_digest(plain_model(model)),
            "dtype": str(model.dtype),
            "mixed_precision": self.accelerator.mixed_precision,
            "ld_alpha": self.ld_alpha,
            "max_length": getattr(collator, "max_length", None),
            "truncation_mode": getattr(collator, "truncation_mode", None),
            "processing": _processing(self.processing_class),
        }


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
        base = plain_model(_unwrapped(self._model))
        single = more == {"pixel_values"} and len(inputs["pixel_values"]) == len(inputs["input_ids"])
        return single and position_axes(base) == 1 and _picture_token(base) is not None

    def _pack(
        self, ids: Tensor, mask: Tensor, labels: Tensor, pixels: Tensor | None
    ) -> tuple[Tensor, Targets, list[int]]:
        """Logits `[R, V]` at the positions that predict, and the flat index into `[2B, S - 1]` of each target."""
        base = plain_model(_unwrapped(self._model))
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


class KeyedCollator:
    """A collator whose batches also have the digests of their answers, under which reference scores are kept.

    Args:
        collator: Makes the batch.
    """

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, Any]]) -> None:
        self._collator = collator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collator, name)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """The batch, with `avem_keys` int64 `[B, 2, 4]`."""
        keys = np.stack([np.stack([_key(example, side) for side in ("chosen", "rejected")]) for example in examples])
        return {**self._collator(examples), KEYS: torch.from_numpy(keys)}


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
    seen: Any = model.get_image_features(pixel_values=pixels[order])
    features = getattr(seen, "pooler_output", seen)
    tokens = torch.cat(list(features)) if not isinstance(features, Tensor) else features.flatten(0, -2)  # [P, H]
    places = row[0] >= PICTURE
    if int(places.sum()) != len(tokens):
        raise SettingError("max_length cuts the tokens of a picture; raise it, or set max_length=None.")
    table: Any = model.get_input_embeddings()
    text = table(row[0].masked_fill(places, 0))  # [S, H]
    return text.masked_scatter(places[:, None], tokens.to(text))[None]


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


def _unwrapped(model: PreTrainedModel) -> Any:
    """The model inside wrappers for distribution."""
    return getattr(model, "module", model)


def _key(example: Mapping[str, Any], side: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Digest of a row's prompt, media and one answer, as four numbers."""
    other = "rejected" if side == "chosen" else "chosen"
    digest = hashlib.sha256()
    for name in sorted(example):
        if not name.startswith((other, "ref_")):
            digest.update(name.removeprefix(side).encode() + b"\0")
            _update(digest, example[name])
    return np.frombuffer(digest.digest(), np.int64)


def _update(digest: Any, value: Any) -> None:
    """Add a value of a row: text, numbers, messages, and pictures by their pixels."""
    if hasattr(value, "tobytes") and hasattr(value, "size"):  # a PIL image or an array
        kind, shape = getattr(value, "mode", getattr(value, "dtype", "")), getattr(value, "shape", value.size)
        digest.update(f"{kind} {shape}".encode())
        digest.update(value.tobytes())
    elif isinstance(value, Tensor):
        _update(digest, value.cpu().numpy())
    elif isinstance(value, Mapping):
        for name in sorted(value):
            digest.update(f"{{{name}".encode())
            _update(digest, value[name])
    elif isinstance(value, list | tuple):
        digest.update(f"[{len(value)}".encode())
        for one in value:
            _update(digest, one)
    else:
        digest.update(json.dumps(value, default=str).encode() + b",")


def _processing(processing: Any) -> dict[str, Any]:
    """What of a tokenizer or processor decides which numbers a row becomes, as JSON."""
    image = getattr(processing, "image_processor", None)
    tokenizer = getattr(processing, "tokenizer", processing)
    return {
        "template": str(getattr(processing, "chat_template", None)),
        "image": None if image is None else json.loads(json.dumps(image.to_dict(), default=str)),
        "vocabulary": hashlib.sha256(json.dumps(sorted(tokenizer.get_vocab().items())).encode()).hexdigest(),
    }
