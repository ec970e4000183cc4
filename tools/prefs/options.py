"""Options of the two builds, checked before anything is asked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avem.endpoint.chat import ChatSettings
from avem.errors import SettingError
from avem.tools.prefs.instruct.style import Style
from avem.tools.prefs.media import MediaOptions
from avem.tools.prefs.steps.pipeline import MAIN, SOUND
from avem.tools.prefs.steps.steps import (
    BENCHMARK_TASKS,
    INSTRUCTION_TASKS,
    PLAIN_TASKS,
    PREFERENCE_TASKS,
    check_tasks,
)

Kind = Literal["prefs", "emorealm", "instruct"]
TASKS: dict[Kind, tuple[str, ...]] = {
    "prefs": PREFERENCE_TASKS,
    "emorealm": BENCHMARK_TASKS,
    "instruct": INSTRUCTION_TASKS,
}
"""What each kind of build makes by default."""
RESPONSE_FORMATS = ("none", "json_object")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """What to build from, whom to ask, and where it goes."""

    root: Path
    """The dataset's folder, in a layout that `avem extract` knows; for instruction data, also a `captions.jsonl`."""
    out: Path
    """Gets the log, the ledger, the counts and the result."""
    kind: Kind = "prefs"
    dataset: str | None = None
    split: str | None = None
    """Only clips of this split."""
    limit: int | None = None
    """At most so many clips, drawn by the seed."""
    tasks: tuple[str, ...] = ()
    """All if empty."""
    endpoint: str = "http://localhost:8000/v1"
    model: str = ""
    """Writes captions of pictures, questions and answers."""
    audio_model: str = ""
    """Writes captions of sound; `model` if empty."""
    guess_models: tuple[str, ...] = ()
    """Guess from the text alone, each as `name` or `name@endpoint`. If empty, `model` guesses for the benchmark, and
    nobody for preference data: section 3.3 filters the benchmark alone."""
    key_variable: str = "OPENAI_API_KEY"
    parallel: int = 8
    retries: int = 5
    pause_s: float = 1.0
    timeout_s: float = 120.0
    temperature: float = 0.0
    response_format: str = "none"
    prompts: Path | None = None
    media: MediaOptions = field(default_factory=MediaOptions)
    batch: bool = False
    """Write requests for the provider's batch service instead of sending them."""
    balance: bool | None = None
    """Leave out rows until yes and no are even and emotions are as in the source. None: for the benchmark alone, which
    is what section 3.4 balances."""
    emotion_tolerance: float = 0.05
    """Total variation distance between the emotions of the result and of the source that is accepted."""
    style: Style = "letters"
    """How multiple-choice questions become instruction rows; see `avem.tools.prefs.instruct.rows.question_row`."""
    stores: tuple[Path, ...] = ()
    """Feature stores that have to hold the clips of instruction rows."""
    benchmarks: tuple[Path, ...] = ()
    """Benchmark files; clips of theirs are left out of instruction data, before anything is asked."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that can't work.

        Raises:
            SettingError: Names the option.
        """
        check_tasks(self.tasks, TASKS[self.kind], self._further)
        if self.response_format not in RESPONSE_FORMATS:
            raise SettingError(f"--response-format {self.response_format} is not known; known are none, json_object.")
        if not 0 <= (self.media.blur_captions or 0) < 1 or self.media.frames < 1 or self.media.longest_side < 16:
            raise SettingError(
                "--frames must be at least 1, --longest-side 16, and --blur-captions auto, off or from 0 to below 1."
            )
        if self.limit is not None and self.limit < 1:
            raise SettingError("--limit must be at least 1.")

    @property
    def all_tasks(self) -> tuple[str, ...]:
        """The tasks that are built."""
        return check_tasks(self.tasks, TASKS[self.kind], self._further)

    @property
    def _further(self) -> tuple[str, ...]:
        return PLAIN_TASKS if self.kind == "instruct" else ()

    def settings(self) -> dict[str, ChatSettings]:
        """Endpoints by the names that jobs use: the main model, the one for sound, and the guessers."""
        base = ChatSettings(
            endpoint=self.endpoint,
            model=self.model,
            key_variable=self.key_variable,
            timeout_s=self.timeout_s,
            retries=self.retries,
            pause_s=self.pause_s,
            parallel=self.parallel,
        )
        named = {MAIN: base, SOUND: replace(base, model=self.audio_model or self.model)}
        for guesser in self.guessers:
            name, _, endpoint = guesser.partition("@")
            named[guesser] = replace(base, model=name, endpoint=endpoint or self.endpoint)
        return named

    @property
    def guessers(self) -> tuple[str, ...]:
        """Models that guess from the text alone."""
        return self.guess_models or ((self.model,) if self.kind == "emorealm" else ())

    @property
    def balances(self) -> bool:
        """Whether the result is balanced."""
        return self.kind == "emorealm" if self.balance is None else self.balance
