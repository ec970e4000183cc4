"""A preference step computed plainly, written apart from `avem.train` and straight from the paper's equations.

Each row is four padded sequences for the policy, four for the reference and three of text alone, with logits at every
position. It is what a general trainer does, in its favourable form: padding on the right needs no mask under causal
attention, and each of a row's inputs is encoded and projected once, for policy and reference together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor
from torch.nn import functional

from avem.train import AudiovisualLM, PreferenceConfig
from avem.train.data.examples import PreferenceExample
from avem.train.packing.specs import ScoreSpec
from avem.train.run.optimizer import autocast

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel

ANSWERS = ("w", "vr", "er")

Encode = Callable[[str, int], Tensor]
"""Features of a clip by kind (`video`, `audio`) and store row: from the store, or from an encoder."""


def with_plain_adapters(model: FamilyModel) -> Any:
    """A copy of a model whose adapters go through peft's own code, without avem's shortcut."""
    frozen = {id(one): one for one in model.parameters() if not one.requires_grad}  # shared: a 7B's fill a GPU
    copied = copy.deepcopy(model, dict(frozen))
    for module in copied.modules():
        if isinstance(module, LoraLayer):
            vars(module).pop("forward", None)
    return copied


class PlainStep:
    """One optimiser step over preference rows.

    Args:
        model: With LoRA adapters; without them it is the reference.
        rows: What is trained on.
        encode: Gives features.
        shapes: Of a clip's features, by kind.
        config: Weights of the objective.
        rows_per_batch: Rows that go through the model together.
        constants: Reference and text scores that are known beforehand; None to compute them in the step.
    """

    def __init__(
        self,
        model: AudiovisualLM,
        rows: Sequence[PreferenceExample],
        encode: Encode,
        shapes: Mapping[str, tuple[int, ...]],
        config: PreferenceConfig,
        rows_per_batch: int,
        constants: Mapping[ScoreSpec, float] | None = None,
    ) -> None:
        self._model, self._rows, self._encode, self._config = model, rows, encode, config
        self._shapes = {kind: torch.empty(shape, device="meta") for kind, shape in shapes.items()}
        self._rows_per_batch, self._constants = rows_per_batch, constants
        self._trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(self._trained, lr=config.learning_rate, weight_decay=0.0, fused=True)

    def __call__(self) -> float:
        """Do the step; returns the mean loss."""
        total = 0.0
        for start in range(0, len(self._rows), self._rows_per_batch):
            with autocast(self._config, self._model.device):
                loss = self._losses(self._rows[start : start + self._rows_per_batch]).sum() / len(self._rows)
            torch.autograd.backward(loss)
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self._trained, self._config.max_grad_norm)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return total

    def _losses(self, rows: Sequence[PreferenceExample]) -> Tensor:
        """Eq. 9 of each row, `[B]`."""
        config = self._config
        seen = [row.scores[name] for row in rows for name in (*ANSWERS, "w_given_l")]
        text = [row.texts[name] for row in rows for name in ANSWERS]
        media = self._tokens(rows)
        policy = self._scores(seen, media).view(len(rows), 4)
        if self._constants is None:
            with torch.no_grad(), self._model.adapter_disabled():
                reference = self._scores(seen, media).view(len(rows), 4)
                prior = self._scores(text, media).view(len(rows), 3)
        else:
            reference = policy.new_tensor([self._constants[spec] for spec in seen]).view(len(rows), 4)
            prior = policy.new_tensor([self._constants[spec] for spec in text]).view(len(rows), 3)
        ratio = policy - reference
        weights = policy.new_tensor([1.0, -config.beta_vr, -config.beta_er])
        response = config.beta * ratio[:, :3] @ weights - config.gamma_tpd * prior @ weights
        prompt = config.beta * (ratio[:, 0] - ratio[:, 3])
        return functional.softplus(-response) + config.lambda_av * functional.softplus(-prompt)

    def _tokens(self, rows: Sequence[PreferenceExample]) -> dict[tuple[int, str, int], Tensor]:
        """Projected tokens of each row's own and rejected input, by row, kind and clip."""
        tokens = {}
        for number, row in enumerate(rows):
            for spec in (row.scores["w"], row.scores["w_given_l"]):
                for kind, clip in (("video", spec.video), ("audio", spec.audio)):
                    if clip is not None and (number, kind, clip) not in tokens:
                        project = self._model.project_video if kind == "video" else self._model.project_audio
                        tokens[number, kind, clip] = project(self._encode(kind, clip)[None])[0]
        return tokens

    def _scores(self, specs: Sequence[ScoreSpec], media: Mapping[tuple[int, str, int], Tensor]) -> Tensor:
        """Summed log-probability of each answer, `[n]`; specs come row by row."""
        per_row = 3 if specs[0].video is None and specs[0].audio is None else 4
        pieces, targets, starts = [], [], []
        for number, spec in enumerate(specs):
            row = number // per_row
            video = None if spec.video is None else media[row, "video", spec.video]
            audio = None if spec.audio is None else media[row, "audio", spec.audio]
            made = self._model.sequence(
                spec.question,
                spec.answer,
                None if video is None else self._shapes["video"],
                None if audio is None else self._shapes["audio"],
            )
            pieces.append(self._splice(made.ids, video, audio))
            targets.append(made.ids[made.response_start :])
            starts.append(len(pieces[-1]) - len(targets[-1]))
        padded = torch.nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        logits = self._model.language_model(inputs_embeds=padded, use_cache=False).logits
        labels = torch.full(padded.shape[:2], -1, device=padded.device)
        for number, (target, start) in enumerate(zip(targets, starts, strict=True)):
            labels[number, start : start + len(target)] = target.to(labels)
        chosen = functional.log_softmax(logits[:, :-1].float(), -1).gather(2, labels[:, 1:, None].clamp(min=0))[..., 0]
        return (chosen * (labels[:, 1:] >= 0)).sum(1)

    def _splice(self, ids: Tensor, video: Tensor | None, audio: Tensor | None) -> Tensor:
        """Input embeddings `[S, H]`: words through the table, media tokens in place of their marks."""
        words = self._model.language_model.get_input_embeddings()(ids.clamp(min=0).to(self._model.device))
        frames = iter(() if video is None else video.chunk(self._shapes["video"].shape[0]))
        pieces = []
        for index, token in enumerate(ids.tolist()):
            if token >= 0:
                pieces.append(words[index : index + 1])
            elif token == -200:
                pieces.append(next(frames))
            elif audio is not None:
                pieces.append(audio)
        return torch.cat(pieces)
