"""The result of a bench: every item with everything needed to score it again, and the numbers."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from avem.errors import DataError, MissingFileError, SettingError
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.choice import likeliest
from avem.evaluate.emorealm.detection import Odds, cue_detection, detection, log_odds
from avem.evaluate.emorealm.metrics import Outcome, group_by_task
from avem.evaluate.emorealm.questions import letters, to_question
from avem.evaluate.emorealm.scoring import score_letters, subtask_scores
from avem.evaluate.emorealm.subtasks import with_subtasks
from avem.files import write_atomic
from avem.reading import read_json
from avem.records import Question
from avem.sealed.checksums import CHECK, seal, unseal
from avem.sealed.files import plain

FORMAT = "avem-bench-1"

METHODS = ("likelihood", "generation", "text_only")
"""How an option is chosen: the likeliest one, the one the model writes, the likeliest one without media."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question and all answers of a model to it."""

    question: Question
    clip_id: str | None = None
    clip_path: str = ""
    """Media file as the store's manifest names it."""
    absent: str = ""
    """Why there is no answer; empty where there is one."""
    logprobs: tuple[float, ...] | None = None
    """Summed log-probability of each option as the response, in nats."""
    reply: str | None = None
    reply_letter: str | None = None
    text_logprobs: tuple[float, ...] | None = None
    """The same without media."""
    windows: tuple[str, ...] = ()
    """Ids of the windows that the answer is pooled over; empty where the clip is one row."""
    orders: tuple[tuple[float, ...], ...] = ()
    """With `--permute`, the options' log-probabilities as they were shown: rotation by rotation, the file's first.

    `logprobs` is then their mean (`avem.evaluate.emorealm.orders.mean_logprobs`)."""

    def letter(self, method: str) -> str | None:
        """The chosen option: `method` is one of `METHODS`; None where there is none, or two are exactly as likely."""
        if method == "generation":
            return self.reply_letter
        values = self.scored(method)
        chosen = None if values is None else likeliest(values)
        return None if chosen is None else letters(self.question)[chosen]

    def scored(self, method: str) -> tuple[float, ...] | None:
        """The options' log-probabilities with media (`likelihood`) or without (`text_only`), or None."""
        return self.logprobs if method == "likelihood" else self.text_logprobs

    def probabilities(self, method: str = "likelihood") -> list[float] | None:
        """Softmax over the options' log-probabilities, or None."""
        values = self.scored(method)
        if values is None:
            return None
        weights = np.exp(np.array(values) - max(values))
        return [float(weight) for weight in weights / weights.sum()]

    def to_json(self) -> dict[str, Any]:
        """The item as an object of `result.json`, its derived values included for other readers."""
        own = {name: getattr(self, name) for name in self.__slots__ if name != "question"}
        derived = {"probabilities": self.probabilities(), "letter": self.letter("likelihood")}
        return {"question": self.question.to_json(), **own, **derived}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], where: str) -> Item:
        """Read an object of `result.json`."""
        own: dict[str, Any] = {
            name: entry.get(name)
            for name in cls.__slots__
            if name not in ("question", "clip_path", "absent", "windows", "orders")
        }
        for name in ("logprobs", "text_logprobs"):
            own[name] = None if own[name] is None else tuple(own[name])
        own |= {name: str(entry.get(name) or "") for name in ("clip_path", "absent")}
        own["windows"] = tuple(entry.get("windows") or ())
        own["orders"] = tuple(tuple(values) for values in entry.get("orders") or ())
        return cls(to_question(entry["question"], where), **own)


class Headline:
    """What results of every benchmark share: the method that the headline numbers come from."""

    __slots__ = ()
    scores: dict[str, dict[str, Any]]

    @property
    def method(self) -> str:
        """The method that headline numbers come from: the chosen one, else likelihood where it was run."""
        chosen: str = getattr(self, "headline", "")
        return chosen or ("likelihood" if "likelihood" in self.scores else "generation")

    @property
    def score(self) -> dict[str, Any]:
        """The headline numbers."""
        return self.scores[self.method]


@dataclass(frozen=True, slots=True)
class BenchResult(Headline):
    """One model on one benchmark."""

    name: str
    """Short name for tables."""
    items: tuple[Item, ...]
    scores: dict[str, dict[str, Any]]
    """Method to metrics (see `avem.evaluate.emorealm.scoring.score`), with intervals; only those that were run."""
    benchmark: str = "emorealm"
    asked: dict[str, Any] = field(default_factory=dict)
    """`file`, the name of the questions' file, and `questions`, how many it holds; empty where that is not known."""
    style: str = "letters"
    model: dict[str, Any] = field(default_factory=dict)
    store: dict[str, Any] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    """Ids of given answers that fit no question."""
    pooling: dict[str, Any] = field(default_factory=dict)
    """How many questions are pooled over windows of their clips, and how (`avem.evaluate.predict.pooling`).

    Empty where none is."""
    headline: str = ""
    """The method that headline numbers come from; empty for likelihood where it was run, else generation."""

    def with_headline(self, method: str) -> BenchResult:
        """The same result with headline numbers of another method; an empty name keeps the result's own.

        Raises:
            SettingError: The method was not run.
        """
        if not method or method == self.method:
            return self
        if method not in self.scores or method not in METHODS[:2]:
            has = ", ".join(name for name in METHODS[:2] if name in self.scores)
            raise SettingError(
                f"{self.name} has no answers by {method} for --headline; it has {has}. Run it without --no-generate."
            )
        return replace(self, headline=method)

    def with_subtasks(self, labels: Mapping[str, str]) -> BenchResult:
        """The same result with the subtasks of a side file, and their scores.

        Raises:
            DataError: The labels do not fit the questions.
        """
        questions = with_subtasks([item.question for item in self.items], labels)
        items = tuple(replace(item, question=question) for item, question in zip(self.items, questions, strict=True))
        labelled = replace(self, items=items)
        scores = {
            method: {**score, "subtasks": subtask_scores(labelled.outcomes(method))}
            for method, score in self.scores.items()
        }
        for method, score in scores.items():
            if "detection" in score:
                resamples = int(score.get("intervals", {}).get("resamples", 0))
                score["cues"] = cue_detection(labelled.log_odds(method), resamples)
        return replace(labelled, scores=scores)

    def log_odds(self, method: str) -> list[Odds]:
        """Log-odds of Yes of every yes/no question whose options were scored: `likelihood` or `text_only`."""
        return log_odds(self.questions, {item.question.id: item.scored(method) for item in self.items})

    @property
    def questions(self) -> list[Question]:
        """The questions, in the file's order."""
        return [item.question for item in self.items]

    @property
    def remedy(self) -> str:
        """A sentence with the command that extracts the clips missing from the store; empty where none is missing."""
        videos = dict.fromkeys(item.question.video for item in self.items if item.absent and item.clip_id is None)
        if not videos or "fingerprint" not in self.model:  # only models that read features need a store
            return ""
        roots = list(self.store.get("roots", {}).values())
        root = roots[0] if len(roots) == 1 else "<folder of the clips>"
        command = f"avem extract {shlex.quote(root) if len(roots) == 1 else root} --cache {self.store['path']}"
        again = " --retry-failed" if any("neither video" in item.absent for item in self.items) else ""
        return f"`{command}{again}` extracts these {len(videos)} clips, once they are in that folder."

    def outcomes(self, method: str | None = None) -> list[Outcome]:
        """Every question with the chosen option, in the file's order."""
        return [Outcome(item.question, item.letter(method or self.method)) for item in self.items]

    def disagreement(self) -> dict[str, dict[str, float | int]]:
        """How often the likeliest and the written option differ, in percent of items with both, per task."""
        result = {}
        for task, outcomes in group_by_task(self.outcomes()).items():
            ids = {outcome.question.id for outcome in outcomes}
            both = [item for item in self.items if item.question.id in ids and item.logprobs and item.reply is not None]
            differ = sum(item.letter("likelihood") != item.letter("generation") for item in both)
            if both:
                result[task] = {"n": len(both), "differ": differ, "share": 100 * differ / len(both)}
        return result

    def to_json(self) -> dict[str, Any]:
        """The whole result as `result.json` holds it."""
        known = {
            name: getattr(self, name)
            for name in ("name", "benchmark", "asked", "style", "model", "store", "scores", "pooling", "headline")
        }
        found = {"disagreement": self.disagreement(), "unknown": list(self.unknown)}
        return {"format": FORMAT, **known, **found, "items": [item.to_json() for item in self.items]}

    def write(self, path: Path) -> None:
        """Write `result.json`, whole or not at all, an item a line."""
        content = seal(plain(self.to_json()))
        items = ",\n".join(json.dumps(item, ensure_ascii=False) for item in content.pop("items"))
        check = json.dumps({CHECK: content.pop(CHECK)})
        head = json.dumps(content, ensure_ascii=False)
        write_atomic(path, f'{head[:-1]}, "items": [\n{items}\n], {check[1:]}\n')


def score_items(items: Sequence[Item], *, resamples: int = RESAMPLES, seed: int = 0, **about: Any) -> BenchResult:
    """Score items by every method that they have answers of.

    Args:
        items: One a question.
        resamples: Bootstrap resamples for the intervals.
        seed: Seed of the bootstrap.
        **about: The other fields of `BenchResult`.
    """
    questions = [item.question for item in items]
    scores: dict[str, dict[str, Any]] = {}
    present = {"likelihood": "logprobs", "generation": "reply", "text_only": "text_logprobs"}
    for method in METHODS:
        absent = [item.question.id for item in items if getattr(item, present[method]) is None]
        if len(absent) < len(items) or (method == "generation" and not scores):
            chosen = {item.question.id: item.letter(method) for item in items}
            scores[method] = score_letters(questions, chosen, missing=absent, resamples=resamples, seed=seed)
        if method in scores and method != "generation":
            values = {item.question.id: getattr(item, present[method]) for item in items}
            odds = log_odds(questions, values)
            scores[method]["detection"] = detection(odds, resamples, seed)
            scores[method]["cues"] = cue_detection(odds, resamples, seed)
    return BenchResult(items=tuple(items), scores=scores, **about)


def read_result(path: Path | str) -> BenchResult:
    """Read a bench's `result.json`.

    Args:
        path: The file, or the folder that holds it.

    Raises:
        MissingFileError: There is none.
        DataError: It is something else.
    """
    path = Path(path)
    path = path / "result.json" if path.is_dir() else path
    if not path.is_file():
        raise MissingFileError(f"There is no bench result at {path}; `avem bench emorealm` makes one.")
    try:
        content = unseal(read_json(path, dict, surrogates=True), str(path))
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']}, not {FORMAT}")
        items = [
            Item.from_json(entry, f"{path} item {number}") for number, entry in enumerate(content["items"], start=1)
        ]
        known = {name: content[name] for name in ("name", "benchmark", "style", "model", "store", "scores")}
    except DataError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not a bench result ({error}); `avem bench emorealm` makes one.") from error
    return BenchResult(
        items=tuple(items),
        unknown=tuple(content.get("unknown", ())),
        pooling=content.get("pooling", {}),
        asked=content.get("asked", {}),
        headline=str(content.get("headline", "")),
        **known,
    )
