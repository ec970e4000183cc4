"""`avem bench emer`: descriptions in, a judge's grades out; every grade is kept, and none is paid for twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avem.endpoint.chat import ChatClient, ChatRequest, ChatSettings, ask_each
from avem.errors import DataError, EndpointError, SettingError
from avem.evaluate.bootstrap import RESAMPLES
from avem.evaluate.emer.rubric import Description, Rubric, grade_means
from avem.evaluate.intervals import few_note, interval_text
from avem.evaluate.predict.log import AnswerLog
from avem.evaluate.sheets import Sheet
from avem.files import json_sha256
from avem.progress import stage
from avem.sealed.files import write_sealed

logger = logging.getLogger(__name__)

REPLY_TOKENS = 600
"""Longest reply of the judge; four grades and four sentences take about 200."""
EXPECTED_REPLY_TOKENS = 200
CHARACTERS_PER_TOKEN = 4.0
"""Approximate, for English."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeOptions:
    """How often the judge is called, and what it may cost."""

    attempts: int = 3
    """Most requests for one description; a reply that is not the required JSON object is requested again."""
    input_price: float = 0.0
    """Price of a million tokens read, in any currency."""
    output_price: float = 0.0
    """Price of a million tokens written."""
    max_cost: float | None = None
    """Refuse to start above this estimate."""
    resamples: int = RESAMPLES
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """Approximate requests, tokens and cost of the grades that are missing."""

    requests: int
    input_tokens: int
    output_tokens: int
    cost: float

    def __str__(self) -> str:
        tokens = f"{self.input_tokens:,} tokens in, {self.output_tokens:,} out"
        return f"{self.requests:,} requests, about {tokens}" + (f", cost {self.cost:.2f}" if self.cost else "")


@dataclass(frozen=True, slots=True)
class EmerResult:
    """A model's graded descriptions."""

    name: str
    judge: str
    rubric: str
    """Digest of the rubric."""
    criteria: dict[str, str]
    """Criterion to its title."""
    means: dict[str, dict[str, float]]
    """Criterion to `mean, low, high` over the clips that were graded or had no description."""
    items: tuple[dict[str, Any], ...]
    """A clip's `id, reference, candidate, grades` and, where there are none, `problem`."""
    missing: tuple[str, ...] = ()
    """Clips without a description of the model; they get the worst grade everywhere."""
    ungraded: tuple[str, ...] = ()
    """Clips on which the judge gave no usable grades; they are left out of the means."""
    tokens: dict[str, int] = field(default_factory=dict)

    @property
    def graded(self) -> int:
        """Clips that the means are over."""
        return len(self.items) - len(self.ungraded)

    def sheet(self) -> Sheet:
        """One row: the mean of each criterion with its interval."""
        shown = [
            f"{mean['mean']:.2f}{interval_text((mean['low'], mean['high']), self.graded, 2)}"
            for mean in self.means.values()
        ]
        record: dict[str, Any] = {"model": self.name, "judge": self.judge, "clips": len(self.items)}
        for name, mean in self.means.items():
            record |= {name: mean["mean"], f"{name}_low": mean["low"], f"{name}_high": mean["high"]}
        record |= {"missing": len(self.missing), "ungraded": len(self.ungraded)}
        counts = (str(len(self.items)), str(len(self.missing)), str(len(self.ungraded)))
        header = ("model", "clips", "missing", "ungraded", *self.criteria.values())
        title, row = f"EMER, graded by {self.judge}, 1 to 10 [95 % interval]", (self.name, *counts, *shown)
        return Sheet(title, header, (row,), (record,), few_note([row]))


def estimate(
    descriptions: Sequence[Description],
    candidates: Mapping[str, str],
    rubric: Rubric,
    settings: ChatSettings,
    options: JudgeOptions,
    log: AnswerLog | None = None,
) -> Estimate:
    """Requests, tokens and cost of the grades that the log does not hold yet."""
    ungraded = [
        rubric.messages(each.reference, candidates[each.id])
        for each in descriptions
        if candidates.get(each.id, "").strip()
        and (log is None or log.get(_key(each, candidates[each.id], rubric, settings)) is None)
    ]
    characters = sum(len(message["content"]) for messages in ungraded for message in messages)
    tokens = int(characters / CHARACTERS_PER_TOKEN)
    written = EXPECTED_REPLY_TOKENS * len(ungraded)
    cost = (tokens * options.input_price + written * options.output_price) / 1e6
    return Estimate(len(ungraded), tokens, written, cost)


def bench_emer(
    descriptions: Sequence[Description],
    candidates: Mapping[str, str],
    rubric: Rubric,
    settings: ChatSettings,
    out_dir: Path,
    *,
    name: str = "model",
    options: JudgeOptions | None = None,
) -> EmerResult:
    """Have a judge grade a model's descriptions; writes `grades.jsonl` (kept grades) and `emer.json`.

    Args:
        descriptions: The reference descriptions.
        candidates: Clip id to what the model wrote.
        rubric: The judge's instructions.
        settings: The judge.
        out_dir: Where grades and result go.
        name: Short name of the model.
        options: Attempts, prices, bootstrap.

    Raises:
        DataError: No candidate matches a description, or the judge graded nothing.
        EndpointError: Every further request would fail too; grades so far are kept.
        SettingError: The estimate exceeds `max_cost`.
    """
    options = options or JudgeOptions()
    present = [each for each in descriptions if candidates.get(each.id, "").strip()]
    if not present:
        raise DataError("None of the descriptions' ids is among the answers; compare the two files' ids.")
    with AnswerLog(out_dir / "grades.jsonl") as log:
        expected = estimate(descriptions, candidates, rubric, settings, options, log)
        logger.info("%s will grade %s.", settings.model, expected)
        if options.max_cost is not None and expected.cost > options.max_cost:
            raise SettingError(f"The estimate is {expected.cost:.2f}, above --max-cost {options.max_cost:.2f}.")
        keys = {each.id: _key(each, candidates[each.id], rubric, settings) for each in present}
        ungraded = [each for each in present if log.get(keys[each.id]) is None]
        problems = asyncio.run(_grade(ungraded, candidates, keys, rubric, settings, options, log)) if ungraded else {}
        records = {each.id: log.get(keys[each.id]) for each in present}
    result = _result(descriptions, candidates, records, problems, rubric, settings, name, options)
    write_sealed(out_dir / "emer.json", asdict(result))
    return result


def _key(each: Description, candidate: str, rubric: Rubric, settings: ChatSettings) -> str:
    judge = {"endpoint": settings.identity, "model": settings.model, "rubric": rubric.digest}
    return json_sha256({**judge, "reference": each.reference, "candidate": candidate})


async def _grade(
    ungraded: Sequence[Description],
    candidates: Mapping[str, str],
    keys: Mapping[str, str],
    rubric: Rubric,
    settings: ChatSettings,
    options: JudgeOptions,
    log: AnswerLog,
) -> dict[str, str]:
    """Grade in rounds: an invalid reply is requested again with a reminder. Returns the remaining problems."""
    waiting = {each.id: rubric.messages(each.reference, candidates[each.id]) for each in ungraded}
    problems: dict[str, str] = {}
    async with ChatClient(settings) as judge:
        with stage("grades", len(waiting), "clips") as bar:
            for _ in range(options.attempts):
                requests = ((key, ChatRequest(messages, REPLY_TOKENS)) for key, messages in waiting.items())
                again: dict[str, list[dict[str, str]]] = {}
                async for name, reply in ask_each(judge, requests):
                    if isinstance(reply, EndpointError):
                        problems[name] = str(reply)
                        continue
                    try:
                        grades = rubric.read(reply.text)
                    except ValueError as error:
                        problems[name] = f"the judge's reply can't be used: {error}"
                        said = {"role": "assistant", "content": reply.text}
                        again[name] = [*waiting[name], said, {"role": "user", "content": rubric.reminder(str(error))}]
                        continue
                    tokens = {"input": reply.prompt_tokens, "output": reply.completion_tokens}
                    log.append({keys[name]: {"id": name, "grades": grades, "tokens": tokens}})
                    problems.pop(name, None)
                    bar.advance()
                waiting = again
    return problems


def _result(
    descriptions: Sequence[Description],
    candidates: Mapping[str, str],
    records: Mapping[str, dict[str, Any] | None],
    problems: Mapping[str, str],
    rubric: Rubric,
    settings: ChatSettings,
    name: str,
    options: JudgeOptions,
) -> EmerResult:
    items, counted = [], []
    tokens = {"input": 0, "output": 0}
    for each in descriptions:
        item: dict[str, Any] = {"id": each.id, "reference": each.reference, "candidate": candidates.get(each.id)}
        if each.id not in records:
            grades: dict[str, Any] | None = dict.fromkeys(rubric.names, rubric.low)
            item |= {"grades": grades, "problem": "the model gave no description"}
        elif (record := records[each.id]) is not None:
            grades = record["grades"]
            item["grades"] = grades
            tokens = {kind: count + record["tokens"][kind] for kind, count in tokens.items()}
        else:
            grades = None
            item |= {"grades": None, "problem": problems.get(each.id, "the judge was not called")}
        items.append(item)
        if grades is not None:
            counted.append(grades)
    if not counted:
        raise DataError(f"{settings.model} graded nothing: {next(iter(problems.values()), 'no reply')}")
    missing = tuple(each.id for each in descriptions if each.id not in records)
    ungraded = tuple(key for key, record in records.items() if record is None)
    if missing or ungraded:
        logger.warning(
            "%s: %d clips have no description and get the worst grade; %d clips were not graded by the judge.",
            name,
            len(missing),
            len(ungraded),
        )
    means = grade_means(counted, rubric.names, options.resamples, options.seed)
    return EmerResult(
        name, settings.model, rubric.digest, rubric.titles, means, tuple(items), missing, ungraded, tokens
    )
