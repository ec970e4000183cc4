"""Statistics of a benchmark (Table 1, Figs. 7 and 9): tasks, subtasks, and emotions against the source's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avem.emotions import parse_emotion
from avem.evaluate.emorealm.metrics import chance
from avem.evaluate.emorealm.questions import in_order, polarities, task_name
from avem.evaluate.emorealm.subtasks import PRESENT, STRESS_TASKS, says_no, subtask_note
from avem.evaluate.sheets import Sheet
from avem.files import write_atomic
from avem.records import Emotion, Question
from avem.sealed.files import write_sealed
from avem.tools.sweep.outcome import svg_text


@dataclass(frozen=True, slots=True)
class BenchmarkStats:
    """What a benchmark holds."""

    tasks: dict[str, dict[str, float]]
    """Task, and `all`, to `questions`, `clips` (unique), `chance` (percent), `yes` and `no` (right answers)."""
    subtasks: dict[str, dict[str, int]]
    """Stress task to subtask to questions; those without one under `unknown`."""
    emotions: dict[str, int]
    """Emotion to unique clips, of clips whose emotion is known."""
    source: dict[str, int]
    """The same of the source dataset; empty where none was given."""
    note: str = ""

    @property
    def distance(self) -> float | None:
        """Total variation distance between the emotions of the benchmark and of its source, 0 to 1."""
        if not self.source or not self.emotions:
            return None
        own, theirs = _shares(self.emotions), _shares(self.source)
        return 0.5 * sum(abs(own.get(name, 0.0) - theirs.get(name, 0.0)) for name in {*own, *theirs})

    def sheet(self) -> Sheet:
        """Table 1: a row a task, and all."""
        rows, records = [], []
        for task, numbers in self.tasks.items():
            counts = (f"{numbers['questions']:.0f}", f"{numbers['clips']:.0f}", f"{numbers['chance']:.1f}")
            answers = f"{numbers['yes']:.0f} / {numbers['no']:.0f}" if numbers["yes"] + numbers["no"] else ""
            rows.append((task if task == "all" else task_name(task), *counts, answers))
            records.append({"task": task, **numbers})
        header = ("task", "questions", "unique clips", "chance, %", "yes / no")
        return Sheet("The benchmark by task", header, tuple(rows), tuple(records), self.note)


def benchmark_stats(
    questions: Sequence[Question],
    source: Sequence[Emotion] = (),
    emotions: Mapping[str, Emotion] | None = None,
) -> BenchmarkStats:
    """Count a benchmark.

    Args:
        questions: The questions.
        source: Labels of all clips of the dataset that the benchmark was made from.
        emotions: A question's video to its clip's label, for benchmarks that do not state it.
    """
    groups = {task: [q for q in questions if q.task == task] for task in in_order(q.task for q in questions)}
    tasks = {task: _numbers(members) for task, members in {**groups, "all": list(questions)}.items()}
    subtasks: dict[str, Counter[str]] = {}
    for question in questions:
        if question.task in STRESS_TASKS:
            known = str(question.extra.get("subtask") or ("unknown" if says_no(question) else PRESENT))
            subtasks.setdefault(question.task, Counter())[known] += 1
    labels: dict[str, str] = {}
    for question in questions:
        stated = parse_emotion(str(question.extra.get("emotion") or ""))
        if label := stated or (emotions or {}).get(question.video):
            labels[question.video] = str(label)
    return BenchmarkStats(
        tasks,
        {task: dict(counts) for task, counts in subtasks.items()},
        dict(Counter(labels.values())),
        dict(Counter(map(str, source))),
        subtask_note(questions),
    )


def _numbers(questions: Sequence[Question]) -> dict[str, float]:
    gold = Counter(polarities(question).get(question.answer.upper()) for question in questions)
    return {
        "questions": len(questions),
        "clips": len({question.video for question in questions}),
        "chance": chance(questions),
        "yes": gold["yes"],
        "no": gold["no"],
    }


def write_stats(stats: BenchmarkStats, languages: Mapping[str, int], out: Path) -> list[Path]:
    """Write `stats.json`, `stats.md` and the pictures that there is something for.

    Args:
        stats: What was counted.
        languages: Language to clips (Fig. 8); empty where it was not found out.
        out: The folder.

    Returns:
        The files.
    """
    content: dict[str, Any] = {
        "tasks": stats.tasks,
        "subtasks": stats.subtasks,
        "emotions": stats.emotions,
        "source_emotions": stats.source,
        "emotion_distance": stats.distance,
        "languages": dict(languages),
    }
    write_sealed(out / "stats.json", content)
    write_atomic(out / "stats.md", stats.sheet().form("markdown"))
    pictures = {
        "tasks": _bars(
            {task_name(t): n["questions"] for t, n in stats.tasks.items() if t != "all"}, "Questions by task"
        ),
        "emotions": _emotions(stats),
        "subtasks": _stacked(stats.subtasks) if stats.subtasks else "",
        "languages": _bars(dict(languages), "Clips by language of the speech") if languages else "",
    }
    paths = [out / "stats.json", out / "stats.md"]
    for name, svg in pictures.items():
        if svg:
            write_atomic(out / f"{name}.svg", svg)
            paths.append(out / f"{name}.svg")
    return paths


def _bars(values: Mapping[str, float], title: str) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2, 0.4 * len(values) + 1.0), layout="constrained")
    panel = figure.subplots()
    drawn = panel.barh(list(values)[::-1], list(values.values())[::-1])
    panel.bar_label(drawn, padding=3, fontsize="small")
    panel.margins(x=0.15)
    panel.set_title(title, fontsize="medium")
    return svg_text(figure, title)


def _emotions(stats: BenchmarkStats) -> str:
    """Shares of emotions, beside the source's where they are known (Fig. 7, right)."""
    if not stats.emotions:
        return ""
    from matplotlib.figure import Figure

    names = [str(emotion) for emotion in Emotion]
    figure = Figure(figsize=(6.0, 3.2), layout="constrained")
    panel = figure.subplots()
    shown = {"benchmark": _shares(stats.emotions), **({"source": _shares(stats.source)} if stats.source else {})}
    width = 0.8 / len(shown)
    for number, (name, shares) in enumerate(shown.items()):
        places = [place + (number - (len(shown) - 1) / 2) * width for place in range(len(names))]
        panel.bar(places, [100 * shares.get(emotion, 0.0) for emotion in names], width, label=name)
    panel.set_xticks(range(len(names)), names, rotation=20, ha="right", fontsize="small")
    panel.set_ylabel("percent of clips")
    panel.legend(frameon=False, fontsize="small")
    panel.set_title("Emotions", fontsize="medium")
    return svg_text(figure, "emotions")


def _stacked(subtasks: Mapping[str, Mapping[str, int]]) -> str:
    """Subtasks within each stress task (Fig. 9)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 2.2), layout="constrained")
    panel = figure.subplots()
    kinds = list(dict.fromkeys(kind for counts in subtasks.values() for kind in counts))
    left = [0] * len(subtasks)
    for kind in kinds:
        values = [counts.get(kind, 0) for counts in subtasks.values()]
        drawn = panel.barh([task_name(task) for task in subtasks], values, left=left, label=kind.replace("_", " "))
        panel.bar_label(drawn, [str(value or "") for value in values], label_type="center", fontsize="small")
        left = [start + value for start, value in zip(left, values, strict=True)]
    panel.legend(frameon=False, fontsize="small", ncols=len(kinds), loc="upper center", bbox_to_anchor=(0.5, -0.15))
    panel.set_title("Subtasks of the stress test", fontsize="medium")
    return svg_text(figure, "subtasks")


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}
