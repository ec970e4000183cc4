"""A small page of every kind that avem writes, for tests in a browser."""

from __future__ import annotations

import json

import numpy as np

from avem.cache import mine_negatives
from avem.cache.negatives.report import write_negatives_report
from avem.evaluate import write_report
from avem.evaluate.emer.bench import EmerResult
from avem.evaluate.emer.report import write_emer_report
from avem.evaluate.emer.rubric import grade_means, load_rubric
from avem.evaluate.emorealm.results import score_items
from avem.evaluate.probes.attention import AttentionItem, AttentionResult, attention_numbers
from avem.evaluate.probes.runner import write_attention, write_swap
from avem.evaluate.probes.swap import SwapItem, SwapResult, swap_numbers
from avem.evaluate.recognition.report import write_recognition_report
from avem.evaluate.recognition.results import LabelItem, RecognitionResult, score_clips
from avem.evaluate.report.runs import write_run_report
from avem.records import Emotion
from avem.tools.prefs.survey.pages import SurveyOptions, make_survey
from tests.cache.helpers import make_store
from tests.evaluate.emer.test_report import make_item as make_graded
from tests.evaluate.media_kit import write_clip
from tests.evaluate.report.test_bench_page import make_items, make_run_folder


def bench(folder):
    write_clip(folder / "clips" / "0.mp4")
    about = {"style": "letters", "store": {"path": "./cache", "clips": 6, "roots": {"demo": str(folder)}}}
    results = [
        score_items(make_items(every), resamples=100, name=name, model={"source": f"runs/{name}"}, **about)
        for name, every in (("base", 3), ("trained", 1))
    ]
    return write_report(folder / "report.html", results, [make_run_folder(folder)], resamples=100)


def runs(folder):
    return write_run_report(folder / "runs.html", [make_run_folder(folder)])


def negatives(folder):
    store = make_store(folder / "cache", clips=40)
    mine_negatives(store, k=2)
    return write_negatives_report(store, "hard", folder / "negatives.html")


def survey(folder):
    question = {"id": "q", "video": "a.mp4", "task": "agreement", "question": "Do they agree?", "answer": "A"}
    (folder / "bench.json").write_text(json.dumps([{**question, "choices": ["(A) Yes", "(B) No"]}]))
    make_survey(SurveyOptions(source=folder / "bench.json", out=folder / "survey"))
    return folder / "survey" / "index.html"


def emer(folder):
    rubric = load_rubric()
    items = [make_graded(number) for number in (8, 0, 4)]
    items.append({"id": "odd", "reference": "A cry.", "candidate": "?", "grades": None, "problem": "it is not JSON"})
    means = grade_means([item["grades"] for item in items if item["grades"]], rubric.names, resamples=100)
    tokens = {"input": 12345, "output": 678}
    result = EmerResult("mine", "a judge", rubric.digest, rubric.titles, means, tuple(items), (), ("odd",), tokens)
    return write_emer_report(folder / "emer.html", result, rubric)


def recognition(folder):
    classes = tuple(map(str, Emotion))
    results = []
    for name, shift in (("base", 1), ("trained", 0)):
        items = []
        for number in range(21):
            label, said = classes[number % 7], classes[(number + shift * (number % 2)) % 7]
            values = tuple(-0.1 if each == said else -3.0 for each in classes)
            items.append(
                LabelItem(f"d/{number}", f"{number}.mp4", label, f"s{number % 3}", "", values, f"{said}.", said)
            )
        items.append(LabelItem("d/none", "none.mp4", classes[0], absent="it has no sound"))
        scores = score_clips(tuple(items), classes, resamples=100)
        given = {"left_out": {"calm": 2}, "prompt": "What is felt?", "model": {"source": f"runs/{name}"}}
        results.append(RecognitionResult(name, "ravdess", "audiovisual", classes, tuple(items), scores, **given))
    return write_recognition_report(folder / "recognition.html", results)


TASKS = {"reasoning_basic_audio": "audio", "reasoning_stress_video": "video"}


def swap(folder):
    results = []
    for name, shift in (("base", -2.0), ("trained", -0.5)):
        items = tuple(
            SwapItem(
                *(f"q{number}", f"c{number // 2}.mp4", asked, "other clip.mp4", -1.0, -1.0 + shift - 0.1 * number),
                number % 2 == 0,
                *(
                    "What does the voice show?",
                    "a long sigh that trails off",
                    "a sigh",
                    "a laugh" if shift < -1 else "a sigh",
                ),
            )
            for number, asked in enumerate(["audio", "video"] * 6)
        )
        results.append(SwapResult(name, items, swap_numbers(items, resamples=100), {"q99": "no clip in the store"}))
    write_swap(folder, results)
    return folder / "swap.html"


def attention(folder):
    results, values = [], np.linspace(0.05, 0.4, 8)
    for name in ("base", "trained"):
        items = tuple(
            AttentionItem(f"q{number}", f"c{number // 2}", task, float(value), 0.4 - float(value) / 2, 100, 50)
            for task in TASKS
            for number, value in enumerate(values)
        )
        results.append(AttentionResult(name, items, attention_numbers(items, resamples=100), {}))
    write_attention(folder, results)
    return folder / "attention.html"


PAGES = {
    "bench": bench,
    "runs": runs,
    "negatives": negatives,
    "survey": survey,
    "emer": emer,
    "recognition": recognition,
    "swap": swap,
    "attention": attention,
}
"""Name of a page to what writes it into a folder, and gives its path."""
