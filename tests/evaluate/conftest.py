"""A model and a store that stand in for the real ones, and questions on the store's clips."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from avem.errors import FingerprintError, StoreError
from avem.records import Question


@dataclass(frozen=True)
class FakeSequence:
    """Like `ScoredSequence`; id 0 ends a sequence."""

    question: str
    answer: str | None
    video: torch.Tensor | None
    audio: torch.Tensor | None
    ids: list
    response_start: int


@dataclass
class FakeModel:
    """Likes each answer by a number that depends on the prompt, the answer and the clip; `calls` records how it is
    asked."""

    name: str = "fake"
    die_at: int = -1
    """Call at which `on_death` is run."""
    on_death: object = None
    calls: list = field(default_factory=list)
    features: str = ""
    """Digest it asks for; empty: any."""
    source: str = "memory"
    tokenizer: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(all_special_ids=[0]))

    def eval(self):
        return self

    def fingerprint(self):
        return self.name

    def check_features(self, kind, digest):
        if self.features and self.features != digest:
            raise FingerprintError(f"trained on {self.features}, not {digest}")

    def sequence(self, question, answer, video=None, audio=None):
        ids = [*question.encode(), *(answer or "").encode(), *([0] if answer else [])]
        return FakeSequence(question, answer, video, audio, ids, len(question))

    def prompt(self, question, video=None, audio=None):
        return self.sequence(question, None, video, audio)

    def response_logprobs(self, sequences):
        self._count("logprobs", sequences)
        for item in sequences:
            if item.ids[-1] == 0:
                raise ValueError("an option is weighed with its end")
        return torch.tensor([self._like(item) for item in sequences], dtype=torch.float64)

    def generate(self, prompts, max_new_tokens):
        self._count("generate", prompts)
        return ["(B) it is" if item.video is not None and item.video.sum() > 0 else "no idea" for item in prompts]

    def _count(self, kind, sequences):
        self.calls.append((kind, list(sequences)))
        if len(self.calls) == self.die_at:
            self.on_death()

    def _like(self, item):
        media = 0.0 if item.video is None else float(item.video.float().sum())
        return -float((len(item.question) * 7 + ord(item.answer[0]) * 13 + media * 5) % 17)


class FakeStore:
    """Clips `clips/c<i>.mp4`; features are zeros, but row i is filled with i in one place; row 3 has no audio, row 4
    nothing."""

    def __init__(self, clips=5):
        self.clips = pa.table(
            {
                "clip_id": [f"demo/clips/c{i}" for i in range(clips)],
                "path": [f"clips/c{i}.mp4" for i in range(clips)],
                "sha256": [f"{i:064x}" for i in range(clips)],
            }
        )
        self.location = SimpleNamespace(url="memory://store")
        self.roots = {"demo": "media"}
        self._has = {"video": np.arange(clips) != 4, "audio": ~np.isin(np.arange(clips), [3, 4])}

    def available(self, kind):
        return self._has[kind].copy()

    def fingerprint(self, kind):
        return {"encoder": f"fake-{kind}"}

    def video(self, rows):
        return self._read("video", rows, (2, 3, 4))

    def audio(self, rows):
        return self._read("audio", rows, (6, 4))

    def _read(self, kind, rows, shape):
        if not self._has[kind][rows].all():
            raise StoreError(f"no {kind} of {rows}")
        features = torch.zeros((len(rows), *shape), dtype=torch.float16)
        features.view(len(rows), -1)[:, 0] = torch.tensor(rows, dtype=torch.float16)
        return features


def make_questions(clips=6, each=2):
    """Questions on clips c0 to c<clips-1>; the store of the fixture lacks c5."""
    questions = []
    for clip in range(clips):
        for number in range(each):
            yes_no = number % 2 == 0
            questions.append(
                Question(
                    f"q{clip}-{number}",
                    f"clips/c{clip}.mp4",
                    "reasoning_stress_video" if yes_no else "reasoning_basic_video",
                    f"Question {'?' * (clip + number + 1)}",
                    ("(A) Yes", "(B) No") if yes_no else ("(A) a smile", "(B) a frown", "(C) tears", "(D) wide eyes"),
                    "AB"[clip % 2],
                    {"subtask": "spurious"} if yes_no and clip % 2 else {},
                )
            )
    return questions


@pytest.fixture
def fake_model():
    return FakeModel


@pytest.fixture
def fake_store():
    return FakeStore()


@pytest.fixture
def questions():
    return make_questions()
