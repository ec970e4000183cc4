"""Probes from paths: models, a store and questions in, numbers, pictures and a page out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from avem import __version__
from avem.errors import SettingError
from avem.evaluate.bench import select_questions
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emorealm.questions import read_questions, task_name
from avem.evaluate.intervals import FEWEST, few_note, interval_text
from avem.evaluate.page import page_environment
from avem.evaluate.predict.clips import ResolvedClips, resolve_clips
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.loading import open_model, short_names
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.probes.attention import AttentionItem, AttentionResult, attention_probe
from avem.evaluate.probes.cases import swap_cases
from avem.evaluate.probes.densities import Sample, density_svg
from avem.evaluate.probes.swap import OTHER, SwapResult, swap_probe
from avem.evaluate.probes.violins import Violin, violin_svg
from avem.evaluate.sheets import Sheet
from avem.files import write_atomic
from avem.guards.output_kinds import PROBE
from avem.guards.ownership import opened
from avem.records import Question
from avem.text.escaping import file_name

SWAP_LEDE = (
    "Questions about sound are paired with another clip's picture, and questions about the picture with another "
    "clip's sound. A model that reasons from the right modality gives the correct answer the same log-likelihood."
)
SWAPPED = {"audio": "audio questions, other video", "video": "visual questions, other sound"}
ATTENTION_LEDE = (
    "How attention is divided between video and audio tokens, at the position where the answer begins: the mean over "
    "layers and heads."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeOptions:
    """Settings of `avem probe`."""

    questions: Path = Path("./emorealm_v1.json")
    cache: Path = Path("./cache")
    models: tuple[str, ...] = ()
    style: str = "letters"
    tasks: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    resamples: int = RESAMPLES
    device: str = "auto"
    precision: str = "auto"
    out: Path = Path("./probe")


def run_swap(options: ProbeOptions) -> list[SwapResult]:
    """Swap the other modality under every model; writes `swap.json`, pictures and `swap.html`.

    Raises:
        AvemError: Something is missing or wrong; the message says what and which option supplies it.
    """
    with _opened(options):
        return _run_swap(options)


def _run_swap(options: ProbeOptions) -> list[SwapResult]:
    results = []
    for name, predictor, questions, rows in _predictors(options):
        with AnswerLog(options.out / name / "swap.jsonl") as log:
            results.append(
                swap_probe(predictor, questions, rows, log, name=name, resamples=options.resamples, seed=options.seed)
            )
    write_swap(options.out, results)
    return results


def write_swap(out: Path, results: Sequence[SwapResult]) -> None:
    """Write `swap.json`, pictures and `swap.html` into a folder."""
    pictures = {}
    for result in results:
        for asked, other in OTHER.items():
            if svg := swap_svg(result, asked):
                write_atomic(out / file_name(f"swap-{result.name}-{asked}.svg"), svg)
                pictures[f"{result.name}-{other}"] = Markup(svg)
    _write(
        out,
        "swap",
        results,
        title="Adversarial modality swap",
        lede=SWAP_LEDE,
        sheet=swap_sheet(results),
        pictures=list(pictures.values()),
        cases=swap_cases(results),
        left_out=results[0].left_out,
    )


def run_attention(options: ProbeOptions) -> list[AttentionResult]:
    """Measure the attention of every model; writes `attention.json` and `attention.html`.

    Raises:
        AvemError: Something is missing or wrong; the message says what and which option supplies it.
    """
    with _opened(options):
        return _run_attention(options)


def _run_attention(options: ProbeOptions) -> list[AttentionResult]:
    results = [
        attention_probe(predictor, questions, rows, name=name, resamples=options.resamples, seed=options.seed)
        for name, predictor, questions, rows in _predictors(options)
    ]
    write_attention(options.out, results)
    return results


def write_attention(out: Path, results: Sequence[AttentionResult]) -> None:
    """Write `attention.json` and `attention.html` into a folder."""
    tasks = results[0].tasks
    pictures = [Markup(svg) for svg in attention_violins(results)]
    bars = [(f"{task_name(task)}, {result.name}", result.tasks[task]["video"]) for task in tasks for result in results]
    _write(
        out,
        "attention",
        results,
        title="Attention on video and audio",
        lede=ATTENTION_LEDE,
        sheet=attention_sheet(results),
        bars=bars,
        pictures=pictures,
        left_out=results[0].left_out,
    )


def attention_violins(results: Sequence[AttentionResult]) -> list[str]:
    """Two pictures: how attention on media is split for each task and model, and how much of all falls on media."""
    groups = [
        (f"{task_name(task)}, {result.name}", [item for item in result.items if item.task == task])
        for task in dict.fromkeys(item.task for item in results[0].items)
        for result in results
    ]
    split = [
        Violin(f"{name}, {kind}", np.array([_of_media(item, kind) for item in members]), kind)
        for name, members in groups
        for kind in ("video", "audio")
        if members
    ]
    media = [
        Violin(name, np.array([100 * (item.video + item.audio) for item in members]), "video")
        for name, members in groups
        if members
    ]
    return [
        violin_svg(split, "Attention on video and on audio tokens, by question", "percent of the attention on media"),
        violin_svg(media, "Attention on media, by question", "percent of all attention"),
    ]


def _of_media(item: AttentionItem, kind: str) -> float:
    own = item.video if kind == "video" else item.audio
    return 100 * own / (item.video + item.audio)


def _opened(options: ProbeOptions) -> AbstractContextManager[None]:
    """Own the output folder while a probe runs."""
    return opened(options.out, PROBE, reads=[options.questions, options.cache, *options.models])


def swap_sheet(results: Sequence[SwapResult]) -> Sheet:
    """One row a model and modality: the mean absolute shift with its interval, the mean shift, answers that changed."""
    rows, records = [], []
    for result in results:
        for asked, numbers in result.numbers.items():
            about = {"audio": "audio questions, other video", "video": "visual questions, other sound"}.get(
                asked, asked
            )
            interval = interval_text((numbers.get("low"), numbers.get("high")), int(numbers["n"]), 3)
            shown = (f"{numbers['mean_absolute_shift']:.3f}{interval}", f"{numbers['mean_shift']:+.3f}")
            rows.append((f"{result.name}, {about}", str(numbers["n"]), *shown, f"{numbers['changed']:.1f}"))
            records.append({"model": result.name, "asked": asked, **numbers})
    header = ("model, questions", "n", "mean |shift| in nats", "mean shift", "answers changed, %")
    return Sheet(
        "Log-likelihood of the correct answer after the swap", header, tuple(rows), tuple(records), few_note(rows)
    )


def attention_sheet(results: Sequence[AttentionResult]) -> Sheet:
    """One row a model and task: shares of the attention on media, and of all attention."""
    rows, records = [], []
    for result in results:
        for task, numbers in result.tasks.items():
            shares = []
            for column in ("video", "audio", "media"):
                edges = (numbers.get(f"{column}_low"), numbers.get(f"{column}_high"))
                interval = interval_text(edges, int(numbers["n"]))
                shares.append(f"{numbers[column]:.1f}{interval}")
            rows.append(
                (f"{result.name}, {task_name(task)}", str(numbers["n"]), *shares, f"{numbers['audio_tokens']:.1f}")
            )
            records.append({"model": result.name, "task": task, **numbers})
    header = ("model, task", "n", "on video, %", "on audio, %", "media of all, %", "audio tokens of media, %")
    return Sheet("Shares of attention where the answer begins", header, tuple(rows), tuple(records), few_note(rows))


def swap_svg(result: SwapResult, asked: str) -> str:
    """The distributions before and after (Figs. 13 and 14); empty where there is no such question."""
    members = [item for item in result.items if item.asked == asked]
    if not members:
        return ""
    kind = {"audio": "other video", "video": "other sound"}[asked]
    samples = (
        Sample("the clip itself", np.array([item.logprob for item in members]), "own"),
        Sample(kind, np.array([item.swapped for item in members]), "other"),
    )
    shift = result.numbers[asked]["mean_absolute_shift"]
    title = f"{result.name}: {'audio' if asked == 'audio' else 'visual'} questions, mean |shift| {shift:.3f} nats"
    return density_svg(samples, title, "log-likelihood of the correct answer, nats")


def _predictors(options: ProbeOptions) -> Iterator[tuple[str, FeaturePredictor, list[Question], Mapping[str, int]]]:
    """Every model with its name, the questions, and where their clips are."""
    from avem.cache import FeatureStore

    if not options.models:
        raise SettingError("There is nothing to probe; name a model with --model.")
    questions = select_questions(read_questions(options.questions), options.tasks, options.limit)
    for name, path in zip(short_names(options.models), options.models, strict=True):
        model = open_model(path, options.device, options.precision).eval()
        store = FeatureStore.open(options.cache)
        asked, rows = _on_windows(questions, resolve_clips(store.clips, questions))
        yield name, FeaturePredictor(model, store, options.style, 1), asked, rows


def _on_windows(questions: Sequence[Question], resolved: ResolvedClips) -> tuple[list[Question], dict[str, int]]:
    """The questions with their rows; one on a clip in windows is measured on each window, as `id#1`, `id#2`, ..."""
    asked, rows = [], dict(resolved.rows)
    for question in questions:
        windows = resolved.windows.get(question.id)
        if windows is None:
            asked.append(question)
            continue
        for number, row in enumerate(windows.rows, start=1):
            one = replace(question, id=f"{question.id}#{number}")
            asked.append(one)
            rows[one.id] = row
    return asked, rows


def _write(out: Path, stem: str, results: Sequence[Any], **page: Any) -> None:
    content = [{"format": f"avem-probe-{stem}-1", **asdict(result)} for result in results]
    write_atomic(out / f"{stem}.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    few = any("<circle" in picture for picture in page.get("pictures", ()))
    given = {"pictures": [], "bars": [], "cases": [], "left_out": {}, "version": __version__, **page}
    given |= {"few": few, "fewest": FEWEST}
    write_atomic(out / f"{stem}.html", page_environment().get_template("probe.html.jinja").render(**given))
