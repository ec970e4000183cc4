"""What every predictor shares: the request for one prediction, the answer, and the protocol of a predictor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from avem.errors import SettingError
from avem.evaluate.emorealm.questions import letters, option_text
from avem.records import Question

if TYPE_CHECKING:
    from avem.records import Kind

STYLES = ("letters", "cloze")
STREAMS: tuple[Kind, ...] = ("video", "audio")


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """One prediction to make: a question, a method of choosing an option, and the clip."""

    question: Question
    method: str
    """One of `avem.evaluate.emorealm.results.METHODS`."""
    position: Any
    """The clip's row in the store, or its media file; None without media."""
    key: str
    """Hash of everything the answer depends on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A model's answer to one request: log-probabilities, a reply, or the reason why there is neither."""

    logprobs: tuple[float, ...] | None = None
    """Log-probability of each option in nats."""
    reply: str | None = None
    """What the model wrote."""
    failed: str = ""
    """Why there is no answer."""

    def to_record(self, request: PredictionRequest) -> dict[str, Any]:
        """The answer as the answer log keeps it: `{"id", "way", "logprobs"}` or `{"id", "way", "reply"}`."""
        said = {"reply": self.reply} if self.logprobs is None else {"logprobs": list(self.logprobs)}
        return {"id": request.question.id, "way": request.method, **said}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Answer:
        """Read what `to_record` made."""
        logprobs = record.get("logprobs")
        return cls(None if logprobs is None else tuple(logprobs), record.get("reply"))


Keep: TypeAlias = Callable[[Mapping[str, Answer]], None]
"""Takes answers as they arrive, by the key of their request."""


class Predictor(Protocol):
    """A model that answers questions on clips: over a store, over media files, or behind an endpoint."""

    style: str
    methods: tuple[str, ...]
    """Those of `avem.evaluate.emorealm.results.METHODS` that the model supports."""

    def request(self, question: Question, method: str, position: Any) -> PredictionRequest:
        """Describe one prediction; `position` is where the clip is."""

    def predict(self, requests: Sequence[PredictionRequest], keep: Keep) -> dict[str, str]:
        """Make predictions and hand each to `keep` as it arrives; returns the keys that failed, with the reason."""

    def has_media(self, position: Any) -> bool:
        """Whether the model can be shown anything of a clip."""

    def clip(self, position: Any) -> tuple[str, str]:
        """Name and path of a clip."""

    def about(self) -> dict[str, dict[str, Any]]:
        """The `model` and the `store`, as the result describes them."""


def check_style(style: str) -> None:
    """Refuse an unknown prompt style.

    Raises:
        SettingError: `style` is neither `letters` nor `cloze`.
    """
    if style not in STYLES:
        raise SettingError(f"There is no prompt style {style!r}; choose letters or cloze.")


def options_of(question: Question, style: str) -> tuple[str, ...]:
    """The responses whose log-probabilities are compared: option letters, or for `cloze` the options' texts."""
    if style == "cloze":
        return tuple(option_text(choice) for choice in question.choices)
    return tuple(letters(question))
