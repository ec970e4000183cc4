"""An EMER bench from paths: reference descriptions, and those of a model or a file, to grades."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from avem.endpoint.chat import ChatSettings
from avem.errors import SettingError
from avem.evaluate.emer.bench import EmerResult, Estimate, JudgeOptions, bench_emer, estimate
from avem.evaluate.emer.report import write_emer_report
from avem.evaluate.emer.rubric import DESCRIBE, Description, Rubric, load_rubric, read_references
from avem.evaluate.predict.answers import read_answers
from avem.evaluate.predict.clips import resolve_clips
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.loading import open_model, short_names
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.predict.pooling import replies
from avem.evaluate.predict.predictions import predict_all
from avem.guards.output_kinds import BENCH
from avem.guards.ownership import opened, owned
from avem.records import Question
from avem.text.escaping import file_name

DESCRIPTION_TOKENS = 512
"""Longest description in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmerOptions:
    """Settings of `avem bench emer`."""

    references: Path
    judge: ChatSettings
    answers: Path | None = None
    """The model's descriptions, see `avem.evaluate.predict.answers.read_answers`; instead of `model`."""
    model: str = ""
    cache: Path = Path("./cache")
    prompt: str = DESCRIBE
    rubric: Path | None = None
    judging: JudgeOptions = field(default_factory=JudgeOptions)
    device: str = "auto"
    precision: str = "auto"
    out: Path = Path("./bench")
    dry_run: bool = False
    """Only estimate requests, tokens and cost."""


def run_emer(options: EmerOptions) -> EmerResult | Estimate:
    """Grade a model's descriptions and write a page, or with `dry_run` estimate what that would take.

    Raises:
        AvemError: Something is missing or wrong; the message says what and which option supplies it.
    """
    if (options.answers is None) == (not options.model):
        raise SettingError("EMER grades one model; name it with --model, or its descriptions with --answers.")
    descriptions, rubric = read_references(options.references), load_rubric(options.rubric)
    name = file_name(options.answers.stem) if options.answers else short_names([options.model])[0]
    folder = options.out / "emer" / name
    if options.dry_run and options.answers:
        return estimate(descriptions, read_answers(options.answers), rubric, options.judge, options.judging)
    reads = [options.references, options.answers, options.model or None, options.cache, options.rubric]
    with opened(options.out, BENCH, reads=reads, alone=False), owned(folder):
        return _run_emer(options, descriptions, rubric, folder, name)


def _run_emer(
    options: EmerOptions, descriptions: Sequence[Description], rubric: Rubric, folder: Path, name: str
) -> EmerResult | Estimate:
    candidates = read_answers(options.answers) if options.answers else describe(options, descriptions, folder, name)
    if options.dry_run:
        return estimate(descriptions, candidates, rubric, options.judge, options.judging)
    result = bench_emer(descriptions, candidates, rubric, options.judge, folder, name=name, options=options.judging)
    write_emer_report(folder / "report.html", result, rubric)
    return result


def describe(options: EmerOptions, descriptions: Sequence[Description], folder: Path, name: str) -> Mapping[str, str]:
    """Let a model describe the clips that a store holds; what it wrote is kept, so that a resumed run repeats nothing.

    The descriptions of a clip's windows are joined in the order of time, one a line.
    """
    from avem.cache import FeatureStore

    store = FeatureStore.open(options.cache)
    model = open_model(options.model, options.device, options.precision).eval()
    predictor = FeaturePredictor(model, store, "cloze", DESCRIPTION_TOKENS)
    questions = [Question(each.id, each.video, "emer", options.prompt, (), "") for each in descriptions]
    positions = resolve_clips(store.clips, questions).with_media(predictor.has_media).positions
    with AnswerLog(folder / "answers.jsonl") as log:
        answers = predict_all(predictor, questions, positions, ("generation",), log, name)
    written = {key: replies(methods.get("generation", [])) for key, methods in answers.items()}
    return {key: "\n".join(texts) for key, texts in written.items() if texts}
