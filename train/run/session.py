"""What every training run opens first, and the steps that preference and supervised training have in common."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import LoggerType

from avem.cache import FeatureStore
from avem.errors import SettingError
from avem.files import json_sha256
from avem.guards.devices import find_device
from avem.sealed.step_log import read_steps
from avem.starts import tuned_model
from avem.train.checkpoints.load import load_model
from avem.train.data.features import ClipFeatures
from avem.train.data.noise import NOISE_RECIPES, FeatureNoise, noise_row
from avem.train.families.base import FamilyModel
from avem.train.model.media import SIDES
from avem.train.model.modes import train_without_dropout
from avem.train.packing.epoch import Packing, PlanRow, StepPlan, plan_digest, plan_epoch
from avem.train.packing.specs import ScoreSpec, SequenceBuilder
from avem.train.run.checkpoint import gather_weights, load_mean_weights, load_weights, trained_parameters
from avem.train.run.directory import RunDirectory
from avem.train.run.fsdp import fsdp_plugin, is_sharded, reshard, shard
from avem.train.run.loop import Check, Loop, Objective, Plan
from avem.train.run.new_projector import add_missing_projector
from avem.train.run.outcome import faint_hint
from avem.train.run.rewards import reward_warnings
from avem.train.settings.config import PreferenceConfig, RunConfig

logger = logging.getLogger(__name__)

TRACKED = "tracked"
"""Folder of the run in which trackers that write files keep them."""


@dataclass(frozen=True, slots=True)
class Session:
    """The opened parts of a run."""

    config: RunConfig
    store: FeatureStore
    model: FamilyModel
    builder: SequenceBuilder
    accelerator: Accelerator
    run: RunDirectory
    fingerprint: str
    """Of the model before training."""
    question: str = ""
    """What most of the rows ask, which the trained model records; empty if each row has a question of its own."""

    @classmethod
    def open(cls, config: RunConfig, model: FamilyModel | None = None) -> Session:
        """Open the store and the model.

        Args:
            config: Settings.
            model: Use this model instead of the one that the settings name.

        Raises:
            MissingFileError: The store or the model is not there.
            FingerprintError: The model was made for other features than the store's.
        """
        store = FeatureStore.open(config.cache)
        accelerator = make_accelerator(config)
        plugin = fsdp_plugin(accelerator, config)
        if model is None:
            half = config.precision == "bf16" and config.tune != "full"
            dtype = torch.bfloat16 if half else torch.float32
            four_bit = config.quantise == "4bit"
            device = "cpu" if plugin else accelerator.device
            model = load_model(config.model, device=device, dtype=dtype, four_bit=four_bit)
        if config.prompt_format is not None:
            model.use_prompt_format(config.prompt_format)
        add_missing_projector(model, store, config)
        model.eval()
        if config.tune == "lora":
            model.check_lora(config.lora_rank, config.lora_scale, new=config.lora_new)
        if config.tune != "full" and not model.source:
            raise SettingError(
                f"tune={config.tune} keeps a model beside its base, which is in memory only; save it first."
            )
        builder = SequenceBuilder(model, store, config.streams, subtitles=config.subtitles)
        for name, digest in builder.streams.digests().items():
            model.check_features(name, digest)
        fingerprint = model.fingerprint()
        if plugin and fingerprint:
            prepare_model(model, config)  # before the constants are scored: new adapters add nothing yet
            shard(model, plugin, accelerator.device)
            model.eval()
        return cls(config, store, model, builder, accelerator, RunDirectory(config.out), fingerprint)

    def plan(self, rows: Sequence[PlanRow]) -> Plan:
        """All steps of the run."""
        packing = Packing(self.config.pairing, self.config.rows_per_step, self.config.tokens_per_batch)
        steps: list[StepPlan] = []
        ends = []
        for epoch in range(self.config.epochs):
            steps += plan_epoch(
                rows,
                self.builder,
                packing,
                seed=self.config.seed if self.config.data_seed is None else self.config.data_seed,
                epoch=epoch,
                world_size=self.accelerator.num_processes,
            )
            ends.append(len(steps))
            if self.config.max_steps is not None and len(steps) >= self.config.max_steps:
                break
        return Plan(steps[: self.config.max_steps], frozenset(ends))

    def features(self, specs: Iterable[ScoreSpec]) -> ClipFeatures:
        """Access to the features that the specs name."""
        dtype = torch.bfloat16 if self.config.precision == "bf16" else None
        device, keep_mb = self.accelerator.device, self.config.keep_features_mb
        return ClipFeatures(self.builder.streams, specs, device, keep_mb, dtype, self.noise)

    @property
    def noise(self) -> FeatureNoise | None:
        """Makes rejected inputs of noise, where the settings name them."""
        config = self.config
        if isinstance(config, PreferenceConfig) and config.negatives in NOISE_RECIPES:
            return FeatureNoise(config.negatives, config.seed, config.diffusion_step)
        return None

    @property
    def input_names(self) -> dict[int, str]:
        """Names for the keys of scores: each store row's clip and content, and its features under noise."""
        clips = self.store.clips
        ids, files = clips["clip_id"].to_pylist(), clips["sha256"].to_pylist()
        names = {row: f"{name} {content}" for row, (name, content) in enumerate(zip(ids, files, strict=True))}
        made = {noise_row(row): f"{name} {self.noise} {row}" for row, name in names.items() if self.noise}
        return {**names, **made}  # the row's number too: it decides the noise

    def plan_once(self, rows: Sequence[PlanRow]) -> list[StepPlan]:
        """Steps that take in all rows once, in an order that does not matter."""
        packing = Packing(self.config.pairing, len(rows), self.config.tokens_per_batch)
        return plan_epoch(rows, self.builder, packing, seed=0, world_size=self.accelerator.num_processes)

    def sources(self, digest: str, rows: Sequence[PlanRow], plan: Plan) -> dict[str, Any]:
        """Digests of everything the run reads; a run resumes only while they stay the same.

        Args:
            digest: Of the file of rows.
            rows: All rows joined with the store.
            plan: Of the run.
        """
        files = self.store.clips["sha256"].to_pylist()
        used = sorted(
            {clip for row in rows for spec in row.specs for clip in (spec.video, spec.audio) if clip is not None}
        )
        said = [[spec.subtitle for spec in row.specs] for row in rows]
        return {
            **({"subtitles": json_sha256(said)} if self.config.subtitles else {}),
            "rows": digest,
            "clips": json_sha256([files[clip] for clip in used]),
            "inputs": json_sha256([[(spec.video, spec.audio) for spec in row.specs] for row in rows]),
            "features": json_sha256(self.builder.streams.fingerprints()),
            "model": self.fingerprint,
            "plan": plan_digest(plan.steps),
            "processes": self.accelerator.num_processes,
        }

    def train(self, objective: Objective, plan: Plan, features: ClipFeatures, checks: Sequence[Check] = ()) -> Path:
        """Prepare the model, run the loop, and write `final/`, and `best/` if held-out rows say which that is.

        Args:
            objective: What to minimise.
            plan: All steps.
            features: Of all clips that are needed.
            checks: Measured at each checkpoint.

        Returns:
            The run directory.
        """
        if is_sharded(self.model):
            reshard(self.model)
            train_without_dropout(self.model.language_model)
        else:
            prepare_model(self.model, self.config)
        self.model.record_features(self.builder.streams.digests())
        trained = sum(parameter.numel() for parameter in trained_parameters(self.model).values())
        logger.info(
            "Training %.2f M weights on %d rows in %d steps", trained / 1e6, len(objective.rows), len(plan.steps)
        )
        if hint := faint_hint(len(plan.steps), self.config.learning_rate):
            logger.warning("%s", hint)
        if self.config.tracker_names:
            self.accelerator.init_trackers(TRACKED)
        try:
            loop = Loop(self, objective, features, plan, checks)
            loop.run()
        except BaseException:
            for tracker in self.accelerator.trackers:
                tracker.finish()  # end_training would also leave the other processes, which may still wait
            raise
        self._warn_of_rewards()
        self.model.eval()
        if self.config.holdout:
            self._save_best()
        if loop.averaged:
            load_mean_weights([self.run.checkpoint(step) for step in loop.averaged], self.model)
        self._save(self.run.final)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return self.run.path

    def _warn_of_rewards(self) -> None:
        """Say which answers' rewards ended on the wrong side of 0."""
        if self.accelerator.is_main_process and isinstance(self.config, PreferenceConfig):
            held = self.config.nll > 0 or self.config.anchor > 0
            for warning in reward_warnings(read_steps(self.run.metrics), self.config.rejected, held):
                logger.warning("%s: %s", self.run.path, warning)

    def _save(self, directory: Path) -> None:
        """Write what was trained where `load_model` can read it; every process has to call."""
        provenance: dict[str, Any] = {"training": self.config.to_json()}
        if self.question:
            provenance["question"] = self.question
        if (start := tuned_model(self.config.model)) is not None:
            provenance["start"] = start.to_json()
        main = self.accelerator.is_main_process
        if self.config.tune == "full":
            weights = gather_weights(self.model.language_model, keep=main) if is_sharded(self.model) else None
            save = partial(self.model.save, provenance=provenance, language_model=weights)
        else:
            save = partial(self.model.save_adapter, provenance=provenance)
        if main:
            self.run.save_model(directory, save)

    def _save_best(self) -> None:
        """Write the model of the best checkpoint to `best/`; the model is as before afterwards."""
        best = self.run.best_checkpoint()
        if best is None:
            return
        logger.info("The best checkpoint is that of step %d", best[0])
        source = self.model.source
        last = {name: value.detach().clone() for name, value in trained_parameters(self.model).items()}
        load_weights(best[1], self.model)
        self._save(self.run.best)
        self.model.source = source
        with torch.no_grad():
            for name, parameter in trained_parameters(self.model).items():
                parameter.copy_(last[name])


def make_accelerator(config: RunConfig) -> Accelerator:
    """Device and processes: one CPU, one GPU, or whatever `torchrun` or `accelerate launch` started.

    Raises:
        SettingError: A tracker is unknown or not installed, or the device is not there.
    """
    names = config.tracker_names
    for name in names:
        if name not in known_trackers():
            raise SettingError(f"trackers names {name}, which Accelerate does not know; set trackers=none or another.")
        if importlib.util.find_spec(name) is None:
            raise SettingError(f"trackers={name} needs the package {name}; install it, or set trackers=none.")
    if config.device != "auto":
        device = find_device(config.device, option="device", otherwise="device=auto")
        if device.index:
            torch.cuda.set_device(device)  # Accelerate takes the current GPU; of several processes each sets its own
    return Accelerator(
        cpu=config.device == "cpu",
        log_with=names or None,
        project_dir=str(config.out) if names else None,
    )


def known_trackers() -> set[str]:
    """Names of Accelerate's trackers."""
    return {str(tracker) for tracker in LoggerType} - {"all"}


def prepare_model(model: FamilyModel, config: RunConfig) -> None:
    """Mark what is trained, in float32, and freeze the rest.

    Args:
        model: As loaded; LoRA adapters are added if asked for.
        config: Settings.
    """
    if config.tune != "lora" or config.lora_new:
        model.merge()  # `add_lora` folds in what it does not train further
    model.requires_grad_(False)
    if config.tune == "lora":
        model.add_lora(config.lora_rank, config.lora_scale, seed=config.seed)
    elif config.tune == "full":
        model.language_model.requires_grad_(True)
    if config.train_projectors:
        for side in SIDES:
            for projector in model.projectors(side) if config.streams in ("both", side) else ():
                projector.requires_grad_(True)
    for parameter in trained_parameters(model).values():
        parameter.data = parameter.data.float()
    if config.gradient_checkpointing:
        model.checkpoint_activations()
    train_without_dropout(model.language_model)
