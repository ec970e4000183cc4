"""Settings of a training run: typed, frozen, and checked before anything is read or computed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from avem.errors import SettingError
from avem.train.settings.checks import above_zero, check_objective, not_negative, require
from avem.train.settings.diffusion import DIFFUSION_STEP, DIFFUSION_STEPS
from avem.train.settings.sources import typed_value

Tune = Literal["lora", "full", "none"]
Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bf16"]
Streams = Literal["both", "audio", "video"]
Quantise = Literal["none", "4bit"]
Pairing = Literal["mutual", "grouped", "independent"]
NewProjector = Literal["auto", "none", "qformer", "stack-mlp"]

HOUSEKEEPING = frozenset({"out", "resume", "trackers", "keep_checkpoints", "save_every", "keep_features_mb"})
"""Options that may differ when a run is resumed: they do not change what is computed."""
SOURCES = frozenset({"cache", "model", "prefs", "data"})
"""Paths may be spelt in another way when a run is resumed; what they hold is compared by its digest."""
RIVAL_SETTINGS = (
    "loss",
    "label_smoothing",
    "target_margin",
    "anchor",
    "nll",
    "invariance",
    "sensitivity",
)
"""Settings of objectives beyond the paper's; all are off by default."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What preference and supervised training have in common."""

    cache: Path
    """Folder of the feature store."""
    model: str
    """Checkpoint to start from: a folder or a hub id."""
    out: Path
    """Run directory."""

    tune: Tune = "lora"
    """What of the language model is trained: LoRA adapters, all weights, or nothing."""
    lora_rank: int = 8
    """Rank of the LoRA adapters."""
    lora_scale: float = 4.0
    """alpha / rank. The paper's "scale 4" (C.3) is read this way; alpha = 4 would be 0.5 here."""
    lora_new: bool = False
    """Fold the adapters that a released checkpoint comes with (Emotion-LLaMA's) into its language model and train new
    ones. Without it, a rank or a scale that is not theirs is refused."""
    train_projectors: bool = False
    """Train the video and audio projectors too."""
    prompt_format: str | None = None
    """Prompt format, or layout of a clip in the prompt, of the model's family; the model's own if absent. Qwen-Omni has
    `separate` and `audio_in_video`."""
    streams: Streams = "both"
    """What prompts show of a clip; the projector of a stream that is not shown stays as it is."""
    subtitles: bool = False
    """Prompts show what is said in a clip as text too, where the store has a subtitle of it."""
    projector_learning_rate: float | None = None
    """Their own learning rate; `learning_rate` if absent."""

    learning_rate: float = 5e-7
    """The highest learning rate, after the warm-up. Short runs need more than the paper's: 1e-5 and above."""
    epochs: int = 1
    """Times that all rows are trained on."""
    max_steps: int | None = None
    """Stop after this many optimiser steps, even before `epochs` is over."""
    batch_size: int = 2
    """With `accumulation`, the rows of one optimiser step on each process: batch_size x accumulation."""
    accumulation: int = 4
    """Micro-batches of `batch_size` rows in an optimiser step."""
    tokens_per_batch: int = 16384
    """Most distinct tokens that go through the model at once; a single longer row goes alone."""
    pairing: Pairing = "mutual"
    """How rows are packed; it never changes the loss of a row."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup: float = 0.03
    """Share of all steps over which the learning rate rises linearly. C.3 gives neither this nor the schedule."""
    adam_beta2: float = 0.999
    """Decay of AdamW's second moment; short runs learn faster with less than the usual 0.999."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0 leaves them as they are."""

    seed: int = 0
    """Decides the order of rows and every draw."""
    data_seed: int | None = None
    """Decides the order of rows in place of `seed`, so that the two can be varied apart."""
    device: str = "auto"
    """cpu, cuda or cuda:1; auto is a GPU if there is one."""
    precision: Precision = "float32"
    """Number format of the forward pass."""
    quantise: Quantise = "none"
    """Keep the frozen language model's linear layers in 4 bits (bitsandbytes, only on a GPU)."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    keep_features_mb: int = 2048
    """Features are kept in memory if those of all the run's clips fit in this many MiB."""

    save_every: int = 200
    """Optimiser steps between checkpoints; 0 saves at the end of each epoch only."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept; the best one is kept as well."""
    average_checkpoints: int = 0
    """`final/` holds the mean of the weights of so many last checkpoints, which are kept for it; 0 for the last
    weights. Set `save_every` to the steps between them."""
    holdout: float = 0.0
    """Share of the clips whose rows are not trained on but measured at each checkpoint; their loss decides which
    checkpoint is the best, and `best/` then holds its model."""
    reliance_rows: int = 8
    """Rows on which each checkpoint measures how much the model relies on audio and on video; 0 for none."""
    resume: bool = True
    """Resume an interrupted run in `out`; with false, an `out` that holds a run is refused."""
    trackers: str = "tensorboard"
    """Where metrics go besides `metrics.jsonl`: trackers of Accelerate by name, separated by commas, or none."""

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = typed_value(field.name, getattr(self, field.name), kinds[field.name])
            object.__setattr__(self, field.name, value)
        above_zero(self, "learning_rate", "lora_scale", "epochs", "lora_rank", "batch_size", "accumulation")
        above_zero(self, "tokens_per_batch", "keep_checkpoints")
        not_negative(self, "weight_decay", "max_grad_norm", "save_every", "seed", "keep_features_mb")
        not_negative(self, "reliance_rows", "average_checkpoints")
        require(self.data_seed is None or self.data_seed >= 0, "data_seed", self.data_seed, "at least 0 or left out")
        require(0 <= self.holdout < 1, "holdout", self.holdout, "a share of the clips, from 0 up to but not 1")
        require(0 < self.adam_beta2 < 1, "adam_beta2", self.adam_beta2, "between 0 and 1")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "a share of the steps, from 0 up to but not 1")
        require(self.max_steps is None or self.max_steps > 0, "max_steps", self.max_steps, "above 0 or left out")
        if self.quantise == "4bit" and self.tune == "full":
            raise SettingError("quantise=4bit freezes the weights that tune=full trains; use tune=lora or tune=none.")
        if self.tune == "none" and not self.train_projectors:
            raise SettingError("tune=none with train_projectors=false trains nothing; set one of the two.")
        if self.projector_learning_rate is not None and not self.train_projectors:
            raise SettingError("projector_learning_rate needs train_projectors=true; the projectors are frozen.")
        if self.projector_learning_rate is not None:
            above_zero(self, "projector_learning_rate")

    @property
    def tracker_names(self) -> list[str]:
        """The trackers, one by one."""
        return [] if self.trackers == "none" else [name.strip() for name in self.trackers.split(",")]

    @property
    def rows_per_step(self) -> int:
        """Rows of one optimiser step on one process."""
        return self.batch_size * self.accumulation

    def to_json(self) -> dict[str, Any]:
        """Every setting as a JSON value, paths as text."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}

    def identity(self) -> dict[str, Any]:
        """The settings that decide what is computed: a run resumes only under the same ones."""
        unused = {name for name in ("prompt_format", "data_seed") if getattr(self, name) is None}
        for name in ("subtitles", "lora_new", "average_checkpoints"):  # runs from before these remain the same runs
            if not getattr(self, name):
                unused.add(name)
        housekeeping = HOUSEKEEPING - ({"save_every"} if self.average_checkpoints else set())
        return {name: value for name, value in self.to_json().items() if name not in housekeeping | SOURCES | unused}


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig(RunConfig):
    """Preference training; the defaults are the paper's (C.3), and every objective of the paper is a setting."""

    prefs: Path
    """Preference rows, one JSON object a line."""
    beta: float = 0.1
    """Strength of the preference, beta of Eq. 9."""
    beta_vr: float = 0.5
    """Weight of the video-relevant rejected answer; an answer of weight 0 is not scored. The paper's add up to 1."""
    beta_er: float = 0.5
    """Weight of the emotion-relevant rejected answer."""
    beta_irr: float = 0.0
    """Weight of the irrelevant rejected answer (Table 18 uses 0.3)."""
    rejected: Literal["weighted", "each", "random"] = "weighted"
    """All answers, weighted, in one loss (Eq. 10), a weighted loss for each (beyond the paper), or for each row one of
    them, drawn from the seed, with weight 1 (Naive-DPO)."""
    gamma_tpd: float = 0.2
    """Weight of the text-prior debiasing; 0 turns it off."""
    loss: Literal["sigmoid", "robust", "ipo", "simpo"] = "sigmoid"
    """How answers are compared: by DPO's loss, by one of its rivals (`docs/objectives.md`)."""
    label_smoothing: float = 0.0
    """Share of preferred answers that are wrong, below 0.5, for `loss=sigmoid` (conservative) and `loss=robust`."""
    target_margin: float = 0.0
    """SimPO's gamma: by how much the chosen answer has to be better."""
    anchor: float = 0.0
    """Weight of mDPO's anchor, which holds the chosen answer's reward above 0."""
    nll: float = 0.0
    """Weight of the chosen answer's supervised loss (TRL's `rpo_alpha`)."""
    invariance: float = 0.0
    """MoD-DPO's beta_inv: the answer is not to depend on the side that the question is not about."""
    sensitivity: float = 0.0
    """MoD-DPO's beta_sens: the answer is to depend on the side that the question is about."""
    lambda_av: float = 1.0
    """Weight of the prompt preference (Eq. 10); 0 turns it off."""
    rejected_input: Literal["prompt", "both", "each"] = "prompt"
    """Replace the modality that the prompt asks about (Eq. 5), always both (Eq. 4), or each side in a term of its own
    (OmniDPO)."""
    negatives: str = "hard"
    """Recipe of mined negatives in the store, or `random-tensor` or `diffused`, which are made while training."""
    match_negatives: bool = True
    """Choose among a clip's mined negatives so that clips are each other's, which lets them share media prefixes; with
    false, each row draws one of them from the seed."""
    diffusion_step: int = DIFFUSION_STEP
    """How much noise `diffused` adds: a step of VCD's schedule, 0 to 999. 500, VCD's default, leaves 0.745 of the
    features' variance; 900 leaves 0.133."""

    def __post_init__(self) -> None:
        super().__post_init__()
        above_zero(self, "beta")
        not_negative(self, "beta_vr", "beta_er", "beta_irr", "gamma_tpd", "lambda_av")
        require(0 <= self.diffusion_step < DIFFUSION_STEPS, "diffusion_step", self.diffusion_step, "from 0 to 999")
        if self.beta_vr + self.beta_er + self.beta_irr == 0:
            raise SettingError("beta_vr, beta_er and beta_irr are all 0, so no answer is rejected; raise one of them.")
        check_objective(self)

    def identity(self) -> dict[str, Any]:
        """As for every run; the diffusion step counts only where inputs are diffused.

        `match_negatives` counts only where it is off and `RIVAL_SETTINGS` only where they are used, so that runs from
        before these were settings remain the same runs.
        """
        unused = set() if self.negatives == "diffused" else {"diffusion_step"}
        if self.match_negatives:
            unused.add("match_negatives")
        unused |= {name for name in RIVAL_SETTINGS if getattr(self, name) == getattr(type(self), name)}
        return {name: value for name, value in super().identity().items() if name not in unused}

    @property
    def rejected_weights(self) -> dict[str, float]:
        """The rejected answers in use and their weights."""
        weights = {"vr": self.beta_vr, "er": self.beta_er, "irr": self.beta_irr}
        return {name: weight for name, weight in weights.items() if weight > 0}

    @property
    def replaces_inputs(self) -> bool:
        """Whether answers are scored on rejected inputs too."""
        return self.lambda_av > 0 or self.decouples

    @property
    def decouples(self) -> bool:
        """Whether MoD-DPO's terms are in use."""
        return self.invariance > 0 or self.sensitivity > 0


@dataclass(frozen=True, kw_only=True)
class SupervisedConfig(RunConfig):
    """Supervised training on questions with answers, of the projectors, the language model or both."""

    data: Path
    """Instruction rows, one JSON object a line."""
    tune: Tune = "full"
    train_projectors: bool = True
    learning_rate: float = 2e-5
    """The highest learning rate, after the warm-up."""
    pairing: Pairing = "grouped"
    new_audio_projector: NewProjector = "auto"
    """Audio projector with fresh weights, drawn from the seed, for a model that has none: its kind, or none. `auto` is
    `qformer`, AVERE's, where prompts show sound alone (`streams=audio`), and none elsewhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairing == "mutual":
            raise SettingError("pairing=mutual needs rejected inputs; supervised rows have none, so use grouped.")
        named = self.new_audio_projector in ("qformer", "stack-mlp")
        if named and not (self.train_projectors and self.streams != "video"):
            raise SettingError(
                f"new_audio_projector={self.new_audio_projector} is trained only with train_projectors=true and "
                "streams=audio or both; set these, or leave it out."
            )

    def identity(self) -> dict[str, Any]:
        """As for every run; `new_audio_projector` counts only where it is set.

        Runs from before it was a setting remain the same runs.
        """
        unused = {"new_audio_projector"} if self.new_audio_projector == "auto" else set()
        return {name: value for name, value in super().identity().items() if name not in unused}

    @property
    def added_audio_projector(self) -> str:
        """Kind of audio projector that a model without one is given; `none` for none."""
        if self.new_audio_projector != "auto":
            return self.new_audio_projector
        return "qformer" if self.streams == "audio" and self.train_projectors else "none"
