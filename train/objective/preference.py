"""From the log-probabilities of a micro-batch to its preference losses, with the constants entered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from avem.train.answers import score_specs
from avem.train.data.examples import PreferenceExample
from avem.train.losses import LogProbs, implicit_rewards, modality_margin, reward_margin
from avem.train.model.media import SIDES
from avem.train.objective.terms import REJECTED, RELEVANCE, RejectedInput, RowScores, row_losses
from avem.train.packing.epoch import MicroBatch
from avem.train.packing.specs import Media, ScoreSpec, SequenceBuilder
from avem.train.settings.config import PreferenceConfig

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel


class PreferenceObjective:
    """The objective of a `PreferenceConfig` on rows whose constants are known.

    Its metrics: `margin` is Eq. 10's and `input_margin` Eq. 5's, an accuracy is their share above 0, rewards are
    Eq. 2's (`reward_l`: of what is rejected, weighted), and `reliance` is by how many nats the rejected input lowers
    log pi_theta(y_w). Rivals have their own margins in their place, and means where there are several rejected inputs.

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
        if config.decouples:
            names += [f"reliance_{name}" for name in RELEVANCE]
        self.metrics = tuple(names)

    def normaliser(self, batch: Sequence[int]) -> float:
        """The number of rows: the loss is a mean over rows."""
        return len(batch)

    def losses(self, model: FamilyModel, batch: MicroBatch, media: Media) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses [B] and metrics [B] of a micro-batch."""
        scores = self.scores(model, batch, media)
        result = row_losses(scores, self._config)
        with torch.no_grad():
            values = self._measure(scores, result.margin)
        return result.loss, {name: values[name] for name in self.metrics}

    def _measure(self, scores: RowScores, margin: Tensor) -> dict[str, Tensor]:
        beta, logprobs = self._config.beta, scores.logprobs
        input_margin = modality_margin(logprobs, beta)
        rewards = implicit_rewards(logprobs, beta)
        drops = {
            f"reliance_{name}": logprobs.policy_w - scores.corrupted.get(f"w_{name}", logprobs.policy_w)
            for name in RELEVANCE
        }
        if scores.has_irrelevant is not None:
            drops["reliance_irrelevant"] = drops["reliance_irrelevant"] * scores.has_irrelevant
        return {
            "margin": margin,
            "accuracy": (margin > 0).to(margin),
            "input_margin": input_margin,
            "input_accuracy": (input_margin > 0).to(margin),
            "reliance": logprobs.policy_w - logprobs.policy_w_given_l,
            "reward_l": rewards["w"] - reward_margin(logprobs, beta, **scores.betas),
            **{f"reward_{name}": reward for name, reward in rewards.items()},
            **drops,
        }

    def scores(self, model: FamilyModel, batch: MicroBatch, media: Media) -> RowScores:
        """All scores of a micro-batch, each [B]; answers that the settings leave out are zero on every side."""
        examples = [self.rows[index] for index in batch]
        specs = list(dict.fromkeys(spec for example in examples for spec in example.specs))
        scored = score_specs(model, self._builder, specs, media)  # [distinct specs]
        policy = _Policy(scored, {spec: number for number, spec in enumerate(specs)})
        fields: dict[str, Tensor] = {}
        for answer in ("w", *REJECTED, "w_given_l"):
            own = [example.scores.get(answer) for example in examples]
            fields[f"policy_{answer}"] = policy.of(own)
            fields[f"ref_{answer}"] = self._known(own, scored)
            fields[f"text_{answer}"] = self._known([example.texts.get(answer) for example in examples], scored)
        del fields["text_w_given_l"]
        inputs = tuple(self._input(f"w_given_{side}", examples, policy) for side in SIDES) if self._each else ()
        if inputs:
            fields |= _mean_input(inputs)
        weights = {name: scored.new_tensor([row.weights.get(name, 0.0) for row in examples]) for name in REJECTED}
        names = dict.fromkeys(name for example in examples for name in example.corrupted)
        corrupted = {name: policy.of([row.corrupted.get(name) for row in examples]).detach() for name in names}
        irrelevant = scored.new_tensor([float("w_irrelevant" in row.corrupted) for row in examples])
        return RowScores(LogProbs(**fields), weights, self._tokens(examples, scored), corrupted, irrelevant, inputs)

    @property
    def _each(self) -> bool:
        return self._config.rejected_input == "each" and self._config.lambda_av > 0

    def _input(self, name: str, examples: Sequence[PreferenceExample], policy: _Policy) -> RejectedInput:
        specs = [example.scores.get(name) for example in examples]
        there = policy.scores.new_tensor([float(spec is not None) for spec in specs])
        return RejectedInput(policy.of(specs), self._known(specs, policy.scores), there)

    def _tokens(self, examples: Sequence[PreferenceExample], like: Tensor) -> dict[str, Tensor]:
        """Tokens of each answer, [B]; 0 where a row leaves it out."""
        specs = {answer: [example.scores.get(answer) for example in examples] for answer in ("w", *REJECTED)}
        return {
            answer: like.new_tensor([0 if spec is None else self._builder.answer_tokens(spec) for spec in of_answer])
            for answer, of_answer in specs.items()
        }

    def _known(self, specs: Sequence[ScoreSpec | None], like: Tensor) -> Tensor:
        return like.new_tensor([0.0 if spec is None else self._constants[spec] for spec in specs])


@dataclass(frozen=True, slots=True)
class _Policy:
    """The policy's scores of a micro-batch."""

    scores: Tensor
    """[distinct specs]."""
    index: Mapping[ScoreSpec, int]

    def of(self, specs: Sequence[ScoreSpec | None]) -> Tensor:
        """Scores of some specs, zero where there is none: [B]."""
        return _gather(self.scores, [None if spec is None else self.index[spec] for spec in specs])


def _mean_input(inputs: Sequence[RejectedInput]) -> dict[str, Tensor]:
    """Scores on the mean rejected input of each row, [B], which metrics are about."""
    count = torch.stack([one.there for one in inputs]).sum(0).clamp(min=1)
    return {
        f"{side}_w_given_l": torch.stack([getattr(one, side) for one in inputs]).sum(0) / count
        for side in ("policy", "ref")
    }


def _gather(scores: Tensor, indices: Sequence[int | None]) -> Tensor:
    """Scores at the indices, zero where an index is None: [B]."""
    if None not in indices:
        return scores[torch.tensor(indices, device=scores.device)]
    padded = torch.cat([scores, scores.new_zeros(1)])
    return padded[torch.tensor([len(scores) if index is None else index for index in indices], device=scores.device)]
