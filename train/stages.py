"""The stages of training by name: the configuration, presets and default paths of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from avem.errors import SettingError
from avem.starts import BASE, BASE_ENCODER, LOCAL_BASE, default_model
from avem.train.settings.config import PreferenceConfig, RunConfig, SupervisedConfig
from avem.train.settings.presets import PREFERENCE_PRESETS, SUPERVISED_PRESETS, preset
from avem.train.settings.sources import build_config

if TYPE_CHECKING:
    from avem.train.packing.epoch import PlanSummary

StageName = Literal["preference", "sft", "projector"]


@dataclass(frozen=True, slots=True)
class StageDefaults:
    """Defaults of a stage."""

    kind: type[RunConfig]
    presets: Mapping[str, dict[str, Any]]
    preset: str
    paths: Mapping[str, str]


STAGES: dict[str, StageDefaults] = {
    "preference": StageDefaults(
        PreferenceConfig, PREFERENCE_PRESETS, "paper", {"prefs": "./preferences.jsonl", "out": "./runs/avem-dpo"}
    ),
    "sft": StageDefaults(
        SupervisedConfig, SUPERVISED_PRESETS, "sft", {"data": "./instructions.jsonl", "out": "./runs/sft"}
    ),
    "projector": StageDefaults(
        SupervisedConfig, SUPERVISED_PRESETS, "projector", {"data": "./instructions.jsonl", "out": "./runs/projector"}
    ),
}


def stage_config(
    stage: StageName,
    given: Mapping[str, Any],
    *,
    preset_name: str | None = None,
    file: Path | None = None,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """Resolve a stage's configuration: default paths, preset, file, given, overrides, the later ones winning.

    Args:
        stage: `preference`, `sft` or `projector`.
        given: Settings named by the caller; those that are None are left to the other sources.
        preset_name: A preset of the stage; None for the stage's own.
        file: A TOML file.
        overrides: `option=value` texts.

    Raises:
        SettingError: A setting is unknown, out of range or contradicts another.
    """
    defaults = STAGES[stage]
    chosen = preset(defaults.presets, preset_name or defaults.preset)
    base = {"cache": "./cache", "model": default_model(), **defaults.paths, **chosen}
    named = {option: value for option, value in given.items() if value is not None}
    return build_config(defaults.kind, named, preset=base, file=file, overrides=overrides)


def check_default_base(cache: Path, model: str) -> None:
    """Refuse the default base where the store holds another model's features, before the base is downloaded.

    Args:
        cache: The feature store.
        model: The model that was resolved; any but `BASE` passes.

    Raises:
        SettingError: The store has no stream that the base reads.
    """
    if model != BASE:
        return
    from avem.cache import FeatureStore

    held = FeatureStore.open(cache).streams
    if not any(name.endswith(f"/{BASE_ENCODER}") for name in held):
        raise SettingError(
            f"No --model is given, there is no {LOCAL_BASE}, and {cache} holds {', '.join(held) or 'no features'}, "
            f"which {BASE} does not read; name the model with --model, or run `avem extract CLIPS --for {BASE}`."
        )


def run_stage(config: RunConfig) -> Path:
    """Train as the configuration says; returns the run directory."""
    from avem.train.run.training import run_training

    return run_training(_training_of(config))


def preview_stage(config: RunConfig) -> PlanSummary:
    """Check everything that training would, and count its work."""
    from avem.train.run.training import preview_training

    return preview_training(_training_of(config))


def _training_of(config: RunConfig) -> Any:
    """What the configuration's kind of training is made of; torch loads only now."""
    from avem.train.preference import PreferenceTraining
    from avem.train.supervised import SupervisedTraining

    if isinstance(config, PreferenceConfig):
        return PreferenceTraining(config)
    if isinstance(config, SupervisedConfig):
        return SupervisedTraining(config)
    raise TypeError(f"nothing trains with a {type(config).__name__}")
