"""TRL's DPO trainer over shared prefixes, with reference scores that are kept; needs `pip install avem[trl]`.

TRL pads each answer of a batch to a sequence of its own, so that a prompt is computed once for each answer. Here the
model's forward is replaced, inside TRL's own loss, by one over the packed prefix tree of the batch. All of TRL's losses
and metrics stay TRL's. `docs/library.md` has an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from trl import DPOTrainer

from avem.cache import ScoreCache
from avem.errors import SettingError
from avem.train.library.keys import KEYS, KeyedCollator, processing_identity
from avem.train.library.models import plain_model
from avem.train.library.packed import PackedForward, make_ready
from avem.train.library.scoring import weights_digest

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
            "processing": processing_identity(self.processing_class),
        }
