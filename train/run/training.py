"""What preference and supervised training have in common from the first line to the last: check, plan, run, save."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from avem.cache.windows import whole_ids
from avem.errors import SettingError
from avem.guards.output_kinds import RUN
from avem.guards.outputs import folder_target
from avem.guards.ownership import is_main_process, owned
from avem.seeds import draw
from avem.starts import warn_if_tuned
from avem.train.checkpoints.load import load_skeleton
from avem.train.data.features import ClipFeatures
from avem.train.data.rows import rows_digest, usual_question
from avem.train.model.saving import check_model
from avem.train.packing.epoch import PlanRow, PlanSummary, StepPlan, summarise
from avem.train.packing.specs import ScoreSpec
from avem.train.run.checks import HeldOut, Reliance, swapped_specs
from avem.train.run.directory import RunDirectory, run_sources
from avem.train.run.loop import Check, Objective
from avem.train.run.preview import run_memory
from avem.train.run.session import Session
from avem.train.settings.config import RunConfig

if TYPE_CHECKING:
    from avem.train.families.base import FamilyModel

logger = logging.getLogger(__name__)

Example = TypeVar("Example", bound=PlanRow)

SHARES = 1 << 32
"""A share of the clips is compared with numbers drawn from this range."""


class Training(Protocol[Example]):
    """One kind of training."""

    @property
    def config(self) -> RunConfig:
        """Settings."""

    def read(self) -> Sequence[Any]:
        """The rows of the file that the settings name, in its order."""

    def examples(self, session: Session, rows: Sequence[Any]) -> list[Example]:
        """Those rows joined with the store."""

    def warnings(self, session: Session) -> list[str]:
        """What is wrong with what the examples hold, though a run can do without; a sentence each."""

    def objective(
        self, session: Session, examples: Sequence[Example], features: ClipFeatures, steps: Sequence[StepPlan]
    ) -> Objective:
        """What is minimised over the examples in some steps; their scores that don't change are computed here."""


def run_training(training: Training[Example], model: FamilyModel | None = None) -> Path:
    """Train one kind of model on its rows.

    Args:
        training: What to train on, and how.
        model: Train this model instead of the one that the settings name; it is changed.

    Returns:
        The run directory; its `final/` is what `load_model` reads.

    Raises:
        AvemError: See the children: settings, files, rows, store or model are not what the run needs.
    """
    config = training.config
    warn_if_tuned(config.model)
    run = RunDirectory(config.out)
    run.check(config)
    folder_target(config.out, RUN, reads=run_sources(config))
    with owned(config.out) if is_main_process() else nullcontext():
        return _run_owned(training, run, model)


def _run_owned(training: Training[Example], run: RunDirectory, model: FamilyModel | None) -> Path:
    config = training.config
    run.check(config)  # again: an earlier owner may have begun a run meanwhile
    if run.final.is_dir() and run.spelt_alike(config):
        check_model(run.final)
        logger.info("The run in %s is complete", run.path)
        return run.path
    rows = training.read()
    session = Session.open(config, model)
    session = replace(session, question=usual_question(rows))
    examples = training.examples(session, rows)
    kept, held = split(examples, session)
    plan = session.plan(kept)
    run.start(config, session.sources(rows_digest(rows), examples, plan), _warned(training, session))
    if run.final.is_dir():
        check_model(run.final)
        logger.info("The run in %s is complete", run.path)
        return run.path
    swapped = swapped_specs(kept, session.store, config.reliance_rows, config.seed, session.builder.subtitle)
    features = session.features([*_specs(examples), *(spec for row in swapped for spec in row)])
    objective = training.objective(session, kept, features, plan.steps)
    checks: list[Check] = []
    if held:
        steps = session.plan_once(held)
        checks.append(HeldOut(training.objective(session, held, features, steps), steps, features, session))
    if swapped:
        checks.append(Reliance(swapped, session.builder, features))
    return session.train(objective, plan, features, checks)


def preview_training(training: Training[Example], model: FamilyModel | None = None) -> PlanSummary:
    """Check what training would, and say what it amounts to and takes of memory; no weight is read, no run begun."""
    warn_if_tuned(training.config.model)
    rows = training.read()
    session = Session.open(training.config, model or load_skeleton(training.config.model))
    kept, _ = split(training.examples(session, rows), session)
    _warned(training, session)
    steps = session.plan(kept).steps
    summary = summarise(steps, kept, session.builder)
    return summary if model else replace(summary, memory=run_memory(session, steps, kept))


def _warned(training: Training[Example], session: Session) -> list[str]:
    """What a training warns of, which is logged."""
    warnings = training.warnings(session)
    for warning in warnings if session.accelerator.is_main_process else ():
        logger.warning("%s", warning)
    return warnings


def split(examples: Sequence[Example], session: Session) -> tuple[list[Example], list[Example]]:
    """Examples to train on and held-out ones; a clip's are on one side, drawn by its name and the seed.

    The windows of a clip are on one side, too.

    Raises:
        SettingError: Nothing would be left to train on, or nothing held out.
    """
    config = session.config
    if config.holdout == 0:
        return list(examples), []
    names = whole_ids(session.store.clips)
    limit = int(config.holdout * SHARES)
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sides[draw(config.seed, "held out", names[example.clip], choices=SHARES) < limit].append(example)
    for what, side in zip(("no row to train on", "no held-out row"), sides, strict=True):
        if not side:
            raise SettingError(f"holdout={config.holdout} leaves {what} of {len(examples)}; choose another share.")
    return sides


def _specs(examples: Iterable[PlanRow]) -> Iterator[ScoreSpec]:
    return (spec for example in examples for spec in example.specs)
