"""Asking a model: what it is shown, which options it weighs, and how many questions share one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import torch

from avem.cache.windows import clip_spans
from avem.chat_templates import DATE, frozen_date
from avem.errors import SettingError
from avem.evaluate.emorealm.questions import letters, option_text, prompt_text
from avem.files import json_sha256
from avem.guards.secrets import mask
from avem.records import Question

if TYPE_CHECKING:
    from avem.cache.records import Kind
    from avem.cache.store import FeatureStore
    from avem.train.model.audiovisual import AudiovisualLM

STYLES = ("letters", "cloze")
STREAMS: tuple[Kind, ...] = ("video", "audio")
KEY_VERSION = 1
"""Raised when the same key would mean another number."""

POSITIONS_PER_CALL = 8192
"""About how many token positions one call holds: as many clips as fit share a call, one at least."""

TEXT_ASKS_PER_CALL = 64


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing to ask: a question, one way of choosing, and the clip it is asked on."""

    question: Question
    way: str
    """One of `avem.evaluate.emorealm.results.WAYS`."""
    place: Any
    """Where the clip is: its row of the store, or its media file; None without media."""
    key: str
    """Hash of everything the answer depends on."""


Shown: TypeAlias = tuple[str, torch.Tensor | None, torch.Tensor | None]
"""A prompt, a clip's video features and its audio features."""

Keep: TypeAlias = Callable[[Mapping[str, dict[str, Any]]], None]
"""Takes answers as they come: key to `{"id", "way", "logprobs"}` or `{"id", "way", "reply"}`."""


class Questioner(Protocol):
    """Whoever can be asked questions on clips: a model over a store, over media files, or behind an endpoint."""

    style: str
    ways: tuple[str, ...]
    """Those of `avem.evaluate.emorealm.results.WAYS` that it can answer in."""

    def ask(self, question: Question, way: str, place: Any) -> Ask:
        """Name one thing to ask."""

    def answer_all(self, asks: Sequence[Ask], keep: Keep) -> dict[str, str]:
        """Ask, handing answers to `keep` as they come; gives the keys that have none, with the reason."""

    def clip(self, place: Any) -> tuple[str, str]:
        """Name and path of a clip."""

    def about(self) -> dict[str, dict[str, Any]]:
        """What is asked (`model`) over what (`store`), for the result."""


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


def without_end(sequence: Any, ends: set[int]) -> Any:
    """A scored sequence whose response may go on: the special tokens that close it are left out.

    A model that answers "Yes, because ..." gives the end right after "Yes" next to no probability, and for each option
    another one, so that the end would drown what is asked: which option the reply begins with.
    """
    length = len(sequence.ids)
    while length > sequence.response_start + 1 and int(sequence.ids[length - 1]) in ends:
        length -= 1
    return replace(sequence, ids=sequence.ids[:length])


class Asker:
    """Puts questions to one model over one store.

    Args:
        model: An `avem.train.AudiovisualLM`, or anything with its `tokenizer, sequence, prompt, response_logprobs,
            generate, fingerprint, check_features`.
        store: An `avem.cache.FeatureStore`.
        style: `letters` shows the options and weighs their letters, as AVERE is asked; `cloze` shows the question alone
            and weighs the options' texts.
        max_new_tokens: Longest reply in tokens.
        streams: What the model is shown of each clip, `video`, `audio` or both.

    Raises:
        SettingError: There is no such style.
        FingerprintError: The model was trained on other features than the store's.
    """

    ways: tuple[str, ...] = ("likelihood", "generation", "text_only")

    def __init__(
        self,
        model: AudiovisualLM,
        store: FeatureStore,
        style: str,
        max_new_tokens: int,
        streams: Sequence[str] = STREAMS,
    ) -> None:
        check_style(style)
        self.model, self.store, self.style, self.max_new_tokens = model, store, style, max_new_tokens
        self.available = {kind: store.available(kind) & (kind in streams) for kind in STREAMS}
        self._asked = {"version": KEY_VERSION, "model": model.fingerprint(), "style": style}
        if frozen_date(getattr(model.tokenizer, "chat_template", None)):  # else answers from other days would be used
            self._asked["date"] = DATE.date().isoformat()
        kinds = [kind for kind in STREAMS if self.available[kind].any()]
        self._features = {kind: json_sha256(store.fingerprint(kind)) for kind in kinds}
        for kind, digest in self._features.items():
            model.check_features(kind, digest)
        self._contents = [
            content if span is None else f"{content}@{span[0]}-{span[1]}"
            for content, span in zip(store.clips["sha256"].to_pylist(), clip_spans(store.clips), strict=True)
        ]

    def ask(self, question: Question, way: str, place: int | None) -> Ask:
        """Name one thing to ask; the key covers model, features, clip, prompt, options and reply length."""
        depends: dict[str, Any] = {**self._asked, "way": way, "prompt": prompt_text(question, self.style)}
        if way == "generation":
            depends["max_new_tokens"] = self.max_new_tokens
        else:
            depends["options"] = options_of(question, self.style)
        if place is not None:
            features = {kind: digest for kind, digest in self._features.items() if self.available[kind][place]}
            depends |= {"clip": self._contents[place], "features": features}
        return Ask(question, way, place, json_sha256(depends))

    def answer_all(self, asks: Sequence[Ask], keep: Keep) -> dict[str, str]:
        """Ask in batches; nothing goes without an answer."""
        for batch in self.batches(asks):
            keep(self.answer(batch))
        return {}

    def clip(self, place: int) -> tuple[str, str]:
        """The clip's id and path in the store's manifest."""
        return self.store.clips["clip_id"][place].as_py(), self.store.clips["path"][place].as_py()

    def about(self) -> dict[str, dict[str, Any]]:
        """The model's source and fingerprint, the store's place, size and media roots."""
        model = {"source": str(getattr(self.model, "source", "")), "fingerprint": self.model.fingerprint()}
        store = {"path": mask(self.store.location.url), "clips": len(self.store.clips), "roots": self.store.roots}
        return {"model": model, "store": store}

    def has_media(self, row: int) -> bool:
        """Whether the store holds video or audio of a clip."""
        return any(bool(self.available[kind][row]) for kind in self.available)

    def batches(self, asks: Sequence[Ask]) -> Iterator[list[Ask]]:
        """Group asks so that those of one way and one clip are in one call, several clips together where they fit."""
        for way in dict.fromkeys(ask.way for ask in asks):
            chosen = sorted(
                (ask for ask in asks if ask.way == way), key=lambda ask: -1 if ask.place is None else ask.place
            )
            groups: dict[int | None, list[Ask]] = {}
            for number, ask in enumerate(chosen):
                groups.setdefault(-1 - number // TEXT_ASKS_PER_CALL if ask.place is None else ask.place, []).append(ask)
            clips = list(groups.values())
            size = 1 if way == "text_only" else self._clips_per_call()
            for start in range(0, len(clips), size):
                yield [ask for clip in clips[start : start + size] for ask in clip]

    @torch.inference_mode()
    def answer(self, asks: Sequence[Ask]) -> dict[str, dict[str, Any]]:
        """Ask the model, all in one call.

        Args:
            asks: Of one way.

        Returns:
            Key to `{"id", "way", "logprobs"}` or `{"id", "way", "reply"}`.
        """
        media = {row: self.media(row) for row in dict.fromkeys(ask.place for ask in asks)}
        prompts = [prompt_text(ask.question, self.style) for ask in asks]
        about: list[dict[str, Any]] = [{"id": ask.question.id, "way": ask.way} for ask in asks]
        if asks and asks[0].way == "generation":
            asked = [self.model.prompt(text, *media[ask.place]) for ask, text in zip(asks, prompts, strict=True)]
            replies = self.model.generate(asked, max_new_tokens=self.max_new_tokens)
            found: list[dict[str, Any]] = [
                {**known, "reply": reply} for known, reply in zip(about, replies, strict=True)
            ]
        else:
            shown = [(text, *media[ask.place]) for ask, text in zip(asks, prompts, strict=True)]
            values = self.weigh(shown, [options_of(ask.question, self.style) for ask in asks])
            found = [{**known, "logprobs": value} for known, value in zip(about, values, strict=True)]
        return {ask.key: record for ask, record in zip(asks, found, strict=True)}

    @torch.inference_mode()
    def weigh(self, shown: Sequence[Shown], options: Sequence[Sequence[str]]) -> list[list[float]]:
        """Log-probability of each option as the reply's beginning; one call, so that common prefixes are shared.

        Args:
            shown: Prompt, video `[T, N, C]` and audio `[S, C]` of each question; sequences share a medium where they
                hold the same tensor.
            options: The options of each.
        """
        ends = set(self.model.tokenizer.all_special_ids)
        sequences = [
            without_end(self.model.sequence(text, option, video, audio), ends)
            for (text, video, audio), texts in zip(shown, options, strict=True)
            for option in texts
        ]
        values = iter(self.model.response_logprobs(sequences).double().tolist())
        return [[next(values) for _ in texts] for texts in options]

    def media(self, row: int | None) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """A clip's features, `[T, N, C]` and `[S, C]`; None for what the store lacks."""
        if row is None:
            return None, None
        read = {"video": self.store.video, "audio": self.store.audio}
        video, audio = (read[kind]([row])[0] if self.available[kind][row] else None for kind in ("video", "audio"))
        return video, audio

    def _clips_per_call(self) -> int:
        first = next((row for row in range(len(self._contents)) if self.available["video"][row]), None)
        if first is None:
            return 8
        frames, tokens = (int(size) for size in self.store.video([first]).shape[1:3])
        return max(1, POSITIONS_PER_CALL // (frames * tokens + 128))
