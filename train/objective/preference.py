"""From the log-probabilities of a micro-batch to its preference losses (Eqs. 3 to 12), with the constants entered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avem.train.answers import score_specs
from avem.train.data.examples import PreferenceExample
from avem.train.losses import LogProbs, avem_dpo, implicit_rewards, modality_margin, response_margin, reward_margin
from avem.train.packing.epoch import MicroBatch
from avem.train.packing.specs import Media, ScoreSpec, SequenceBuilder
from avem.train.rivals import split_dpo
from avem.train.settings.config import PreferenceConfig

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel

ANSWERS = ("w", "vr", "er", "irr", "w_given_l")
"""Scores of a row, by the name of the answer; `w_given_l` is y_w on the rejected input."""


class PreferenceObjective:
    """The objective of a `PreferenceConfig` on rows whose constants are known.

    Its metrics: `margin` is Eq. 10's and `input_margin` Eq. 5's, an accuracy is their share above 0, rewards are
    Eq. 2's (`reward_l`: of what is rejected, weighted), and `reliance` is by how many nats the rejected input lowers
    log pi_theta(y_w).

    Args:
        rows: The examples.
        builder: Makes sequences.
        constants: Reference and text-prior scores of every spec of the examples.
        config: Weights of the objective.
    """

    def __init__(
        self,
        rows: Sequence[PreferenceExample],
        builder: SequenceBuilder,
        constants: Mapping[ScoreSpec, float],
        config: PreferenceConfig,
    ) -> None:
        self.rows, self._builder, self._constants, self._config = rows, builder, constants, config
        names = ["margin", "accuracy", "reward_w", "reward_l"]
        if config.rejected != "random":
            names += [f"reward_{name}" for name in config.rejected_weights]
        if config.lambda_av > 0:
            names += ["input_margin", "input_accuracy", "reliance", "reward_w_given_l"]
        self.metrics = tuple(names)

    def normaliser(self, batch: Sequence[int]) -> float:
        """The number of rows: the loss is a mean over rows."""
        return len(batch)

    def losses(self, model: FamilyModel, batch: MicroBatch, media: Media) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses [B] and metrics [B] of a micro-batch."""
        config = self._config
        logprobs = self.logprobs(model, batch, media)
        weights = {f"beta_{name}": self._weights(name, batch, logprobs.policy_w) for name in ("vr", "er", "irr")}
        objective = split_dpo if config.rejected == "each" else avem_dpo
        losses = objective(logprobs, config.beta, gamma_tpd=config.gamma_tpd, lambda_av=config.lambda_av, **weights)
        with torch.no_grad():
            values = self._measure(logprobs, weights)
        return losses, {name: values[name] for name in self.metrics}

    def _measure(self, logprobs: LogProbs, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        beta = self._config.beta
        margin = response_margin(logprobs, beta, gamma_tpd=self._config.gamma_tpd, **weights)
        input_margin = modality_margin(logprobs, beta)
        rewards = implicit_rewards(logprobs, beta)
        return {
            "margin": margin,
            "accuracy": (margin > 0).to(margin),
            "input_margin": input_margin,
            "input_accuracy": (input_margin > 0).to(margin),
            "reliance": logprobs.policy_w - logprobs.policy_w_given_l,
            "reward_l": rewards["w"] - reward_margin(logprobs, beta, **weights),
            **{f"reward_{name}": reward for name, reward in rewards.items()},
        }

    def logprobs(self, model: FamilyModel, batch: MicroBatch, media: Media) -> LogProbs:
        """All scores of a micro-batch, each [B]; answers that the settings leave out are zero on every side."""
        examples = [self.rows[index] for index in batch]
        specs = list(dict.fromkeys(spec for example in examples for spec in example.specs))
        policy = score_specs(model, self._builder, specs, media)  # [distinct specs]
        index = {spec: number for number, spec in enumerate(specs)}
        fields: dict[str, Tensor] = {}
        for answer in ANSWERS:
            scores = [example.scores.get(answer) for example in examples]
            texts = [example.texts.get(answer) for example in examples]
            fields[f"policy_{answer}"] = _gather(policy, [None if spec is None else index[spec] for spec in scores])
            fields[f"ref_{answer}"] = self._known(scores, policy)
            fields[f"text_{answer}"] = self._known(texts, policy)
        del fields["text_w_given_l"]
        return LogProbs(**fields)

    def _known(self, specs: Sequence[ScoreSpec | None], like: Tensor) -> Tensor:
        return like.new_tensor([0.0 if spec is None else self._constants[spec] for spec in specs])

    def _weights(self, name: str, batch: MicroBatch, like: Tensor) -> Tensor:
        return like.new_tensor([self.rows[index].weights.get(name, 0.0) for index in batch])


def _gather(scores: Tensor, indices: Sequence[int | None]) -> Tensor:
    """Scores at the indices, zero where an index is None: [B]."""
    if None not in indices:
        return scores[torch.tensor(indices, device=scores.device)]
    padded = torch.cat([scores, scores.new_zeros(1)])
    return padded[torch.tensor([len(scores) if index is None else index for index in indices], device=scores.device)]
