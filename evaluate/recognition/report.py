"""Tables and the page of emotion recognition results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from avem import __version__
from avem.evaluate.intervals import few_note, interval_text
from avem.evaluate.page import page_environment
from avem.evaluate.paper import RECOGNITION, RECOGNITION_COLUMNS
from avem.evaluate.recognition.confusion import confusion_svg
from avem.evaluate.recognition.labels import emotion_set
from avem.evaluate.recognition.results import LABEL_METHODS, RecognitionResult, likeliest
from avem.evaluate.sheets import Sheet
from avem.files import save_page, write_atomic
from avem.text.escaping import file_name

METRIC_NAMES = {"uar": "UAR", "war": "WAR", "weighted_f1": "weighted F1", "macro_f1": "macro F1"}
SHOWN_ITEMS = 2000
"""Most clips that the page lists; the JSON file has them all."""


def recognition_sheet(results: Sequence[RecognitionResult]) -> Sheet:
    """One row a model, streams and method: UAR, WAR, weighted F1 with intervals, then the recall of each label."""
    classes = results[0].classes
    metrics = [name for name in METRIC_NAMES if name != "macro_f1"]
    rows, records = [], []
    for result in results:
        for method in LABEL_METHODS:
            if (score := result.scores.get(method)) is None:
                continue
            recalls = [score["recall"][label] for label in classes]
            intervals = score.get("intervals", {})
            shown = [f"{score[name]:.1f}{interval_text(intervals.get(name), score['n'])}" for name in metrics]
            cells = ["" if recall is None else f"{recall:.1f}" for recall in recalls]
            rows.append((f"{result.name}, {result.streams}, {method}", str(score["n"]), *shown, *cells))
            record = {"model": result.name, "dataset": result.dataset, "streams": result.streams, "way": method}
            for name in METRIC_NAMES:
                low, high = intervals.get(name, (None, None))
                record |= {name: score[name], f"{name}_low": low, f"{name}_high": high}
            record |= {f"recall_{label}": recall for label, recall in zip(classes, recalls, strict=True)}
            records.append(record | {"n": score["n"], "unreadable": score["unreadable"]})
    title = f"{emotion_set(results[0].dataset).title}, percent [95 % interval]"
    header = ("model, streams, method", "clips", *(METRIC_NAMES[name] for name in metrics), *classes)
    return Sheet(title, header, tuple(rows), tuple(records), few_note(rows))


def write_recognition_report(path: Path, results: Sequence[RecognitionResult]) -> Path:
    """Write one self-contained page on results of one dataset, and the confusion pictures in its folder."""
    dataset = emotion_set(results[0].dataset)
    pictures = {}
    for result in results:
        for method, score in result.scores.items():
            title = f"{dataset.title}: {result.name}, {result.streams}, {method}"
            svg = confusion_svg(score["confusion"], result.classes, title)
            name = f"confusion-{result.name}-{result.streams}-{method}.svg"
            write_atomic(path.parent / file_name(name), svg)
            pictures[title.split(": ", 1)[1]] = Markup(svg)  # every text in it was escaped
    page = (
        page_environment()
        .get_template("recognition.html.jinja")
        .render(
            dataset=dataset,
            results=results,
            sheet=recognition_sheet(results),
            headline=[(METRIC_NAMES[name], name) for name in dataset.headline],
            pictures=pictures,
            likeliest=likeliest,
            shown=SHOWN_ITEMS,
            paper=RECOGNITION.get(dataset.name, ()),
            paper_columns=RECOGNITION_COLUMNS.get(dataset.name, ()),
            version=__version__,
        )
    )
    save_page(path, page)
    return path
