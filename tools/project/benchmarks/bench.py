"""Times the bench: options weighed with shared prefixes, given answers scored, and the page opened in Chromium.

python -m avem.tools.project.benchmarks.bench
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, cast

import numpy as np
import pyarrow as pa
import torch
import typer

from avem.errors import MissingFileError
from avem.evaluate import BenchResult, write_report
from avem.evaluate.emorealm import read_questions
from avem.evaluate.emorealm.questions import letters
from avem.evaluate.emorealm.results import Item, score_items
from avem.evaluate.predict.feature_model import FeaturePredictor
from avem.evaluate.predict.predictor import Answer, PredictionRequest
from avem.evaluate.runner import BenchOptions, score_answers
from avem.records import Question
from avem.tools.project.benchmarks.measure import alternate, show
from avem.tools.project.benchmarks.scoring import make_model

if TYPE_CHECKING:
    from avem.cache import FeatureStore

CLIP_SHARE = 2649 / 4000
"""Clips a question in EmoReAlM: 1.5 questions a clip."""
TASKS = (
    ("reasoning_basic_audio", ("(A) a voice that trembles", "(B) loud laughter", "(C) glass that breaks", "(D) rain")),
    ("reasoning_stress_video", ("(A) Yes", "(B) No")),
    ("reasoning_basic_video", ("(A) a wide smile", "(B) raised brows", "(C) a clenched jaw", "(D) tears")),
    ("modality_agreement", ("(A) Yes", "(B) No")),
    ("reasoning_stress_audio", ("(A) Yes", "(B) No")),
)
WHAT = "Which of these tells you most about how the person in the clip appears to feel, and why would you say so?"


ONE_FILTER = """
var start = performance.now(), outcome = document.querySelector("#filters select[name=outcome]");
outcome.value = "gained";
outcome.dispatchEvent(new Event("change", {bubbles: true}));
document.body.offsetHeight;
return performance.now() - start;
"""
"""Chooses an outcome, waits for the layout, and gives the milliseconds."""


class MemoryStore:
    """Clips of random features, read as from a store."""

    def __init__(self, clips: int, frames: int, frame_tokens: int, width: int = 256) -> None:
        names = [f"{clip}" for clip in range(clips)]
        self.clips = pa.table({"clip_id": names, "path": [f"{name}.mp4" for name in names], "sha256": names})
        self.location, self.roots = SimpleNamespace(url="memory://"), {"made": "."}
        generator = torch.Generator().manual_seed(1)
        self._video = torch.randn(clips, frames, frame_tokens, width, generator=generator)
        self._audio = torch.randn(clips, 1500, width, generator=generator)

    def available(self, kind: str) -> Any:
        """Every clip has both streams."""
        return np.ones(len(self.clips), dtype=bool)

    def fingerprint(self, kind: str) -> dict[str, str]:
        """Of made-up features."""
        return {"made": kind}

    def video(self, rows: list[int]) -> torch.Tensor:
        """`[R, T, N, C]`."""
        return self._video[rows]

    def audio(self, rows: list[int]) -> torch.Tensor:
        """`[R, S, C]`."""
        return self._audio[rows]


def make_questions(count: int) -> list[Question]:
    """Questions in EmoReAlM's shape: 1.5 a clip, two or four options."""
    clips = max(1, round(count * CLIP_SHARE))
    found = []
    for number in range(count):
        task, choices = TASKS[number % len(TASKS)]
        answer = letters_of(choices)[number * 7 % len(choices)]
        found.append(Question(f"q{number}", f"{number % clips}.mp4", task, f"{WHAT} ({number})", choices, answer))
    return found


def letters_of(choices: tuple[str, ...]) -> str:
    """The letters of some options."""
    return "ABCD"[: len(choices)]


def time_likelihood(width: int, layers: int, frame_tokens: int, questions: int, repeats: int) -> None:
    """Score the options of questions as the bench does, and one forward an option."""
    asked, frames = make_questions(questions), 8
    store = MemoryStore(len({question.video for question in asked}), frames, frame_tokens)
    predictor = FeaturePredictor(
        make_model(width, layers, frames, frame_tokens), cast("FeatureStore", store), "letters", 8
    )
    requests = [predictor.request(question, "likelihood", int(question.video[:-4])) for question in asked]
    found: dict[str, dict[str, Answer]] = {"shared": {}, "plain": {}}

    def shared() -> None:
        predictor.predict(requests, found["shared"].update)

    def plain() -> None:
        found["plain"].update({request.key: Answer(logprobs=one_by_one(predictor, request)) for request in requests})

    seconds = alternate({"shared": shared, "plain": plain}, repeats)
    difference = max(
        abs(own - other)
        for key, answer in found["shared"].items()
        for own, other in zip(answer.logprobs or (), found["plain"][key].logprobs or (), strict=True)
    )
    options = sum(len(question.choices) for question in asked)
    ratio = seconds["plain"] / seconds["shared"]
    show(
        f"Scoring options of EmoReAlM-shaped questions (8 x {frame_tokens} + 88 media tokens; Llama of width {width}, "
        f"{layers} layers, float32)",
        ("questions", "clips", "options", "one forward an option", "the bench", "ratio", "largest difference"),
        [
            (
                len(asked),
                len(store.clips),
                options,
                f"{seconds['plain']:.2f} s",
                f"{seconds['shared']:.2f} s",
                f"{ratio:.1f}x",
                f"{difference:.1e}",
            )
        ],
    )


@torch.inference_mode()
def one_by_one(predictor: FeaturePredictor, request: PredictionRequest) -> tuple[float, ...]:
    """One forward an option, nothing shared."""
    values = []
    for option in letters(request.question):
        text = " ".join((request.question.question, *request.question.choices))
        whole = predictor.model.sequence(text, option, *predictor.media(request.position))
        ends = set(predictor.model.tokenizer.all_special_ids)
        ids = whole.ids[:-1] if int(whole.ids[-1]) in ends else whole.ids
        sequence = type(whole)(ids, whole.video_features, whole.audio_features, whole.response_start)
        values.append(float(predictor.model.response_logprobs([sequence], share_prefixes=False)))
    return tuple(values)


def time_answers(count: int, folder: Path, repeats: int) -> None:
    """Read a benchmark and answers to it, score them with intervals, and write the result."""
    asked = make_questions(count)
    (folder / "questions.json").write_text(json.dumps([question.to_json() for question in asked]))
    replies = {question.id: f"({'ABCD'[number % len(question.choices)]})" for number, question in enumerate(asked)}
    (folder / "answers.json").write_text(json.dumps(replies))
    options = BenchOptions(questions=folder / "questions.json", answers=folder / "answers.json", out=folder / "bench")

    def run() -> BenchResult:
        return score_answers(folder / "answers.json", read_questions(folder / "questions.json"), options)

    first = timed(run)
    again = alternate({"score": run}, repeats, warmup=0)["score"]
    show(
        f"Scoring {count} given answers, 2000 bootstrap resamples over clips, from files to result.json",
        ("questions", "first time in a process", "again"),
        [(count, f"{first:.2f} s", f"{again:.2f} s")],
    )


def time_page(count: int, folder: Path, repeats: int) -> None:
    """Write the page of two models on many questions and open it in headless Chromium."""
    rng = np.random.default_rng(0)
    asked = make_questions(count)
    results = []
    for name in ("base", "trained"):
        items = []
        for question in asked:
            values = tuple(map(float, rng.normal(size=len(question.choices))))
            letter = letters(question)[int(np.argmax(values))]
            items.append(Item(question, question.video[:-4], question.video, "", values, f"({letter})", letter))
        results.append(score_items(items, resamples=100, name=name))
    page = folder / "page.html"
    written = timed(lambda: write_report(page, results, resamples=100))
    with browser(folder) as chromium:
        opened = [open_page(chromium, page, count) for _ in range(repeats + 1)][1:]
    load, ready, click = (f"{np.median(times):.2f} s" for times in zip(*opened, strict=True))
    show(
        f"The page of two models on {count} questions in headless Chromium",
        ("questions", "size", "written in", "opened (load event)", "filters ready", "a filter applied"),
        [(count, f"{page.stat().st_size / 1e6:.1f} MB", f"{written:.1f} s", load, ready, click)],
    )


def open_page(chromium: Any, page: Path, count: int) -> tuple[float, float, float]:
    """Seconds from the address to the load event, until the filters count the questions, and of one filter."""
    chromium.get("about:blank")
    start = time.perf_counter()
    chromium.get(page.as_uri())
    loaded = time.perf_counter() - start
    while f"{count}" not in chromium.find_element("id", "shown").text:
        time.sleep(0.01)
    ready = time.perf_counter() - start
    return loaded, ready, chromium.execute_script(ONE_FILTER) / 1000


def browser(folder: Path) -> Any:
    """Headless Chromium.

    Raises:
        MissingFileError: It or its driver is not installed.
    """
    from selenium import webdriver

    binary, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not binary or not driver:
        raise MissingFileError("There is no Chromium with its driver; install both, or leave the page out: --no-page.")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless=new", "no-sandbox", "disable-gpu", f"user-data-dir={folder / 'profile'}"):
        options.add_argument(f"--{flag}")
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def timed(run: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(
    width: Annotated[int, typer.Option(help="Width of the language model.")] = 512,
    layers: Annotated[int, typer.Option(help="Its layers.")] = 2,
    frame_tokens: Annotated[int, typer.Option(help="Tokens of a frame.")] = 257,
    questions: Annotated[int, typer.Option(help="Questions whose options are weighed.")] = 6,
    answers: Annotated[int, typer.Option(help="Given answers, and questions on the page.")] = 4000,
    repeats: Annotated[int, typer.Option(help="Timed rounds.")] = 2,
    page: Annotated[bool, typer.Option(help="Open the page in Chromium too.")] = True,
) -> None:
    """Print a table for each of the three."""
    time_likelihood(width, layers, frame_tokens, questions, repeats)
    with tempfile.TemporaryDirectory() as folder:
        time_answers(answers, Path(folder), repeats)
        if page:
            time_page(answers, Path(folder), repeats)


if __name__ == "__main__":
    typer.run(main)
