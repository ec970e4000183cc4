"""Emotion-LLaMA's prompts, to the token: the layout of its training, and the other one of its generation.

The released code shows a model two different inputs for the same sample. While training, the image's tokens stand
between the video tags, and face, motion, sound and CLS between the feature tags. While generating, all of them stand
between the video tags, `<FeatureHere>` stays as text, and the text begins with a second beginning-of-sequence token.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from avem.errors import PromptError
from avem.guards.special_tokens import find_special, special_tokens

TRAIN, GENERATE = "emotion_llama_train", "emotion_llama_generate"
FORMATS = (TRAIN, GENERATE)
IMAGE_ID, FACE_ID, MOTION_ID, SOUND_ID, CLS_ID = -1, -2, -3, -4, -5
"""Stand for media among token ids; the image's is one id whatever the number of its tokens."""
VIDEO_HERE, FEATURE_HERE = "<VideoHere>", "<FeatureHere>"
PAD = "$$"
"""The released code pads with this ordinary piece of the vocabulary, so where an answer holds it, it is not counted."""
MAX_WORDS = 200
"""Words of an answer that are kept."""
REPLACED = re.compile(r'[.!"()*#:;~]')
"""Characters of an answer that become spaces."""


@dataclass(frozen=True, slots=True)
class EncodedTurn:
    """Ids of a prompt and an answer."""

    ids: list[int]
    """Token ids, and the negative numbers above for media."""
    response_start: int
    """Index of the answer's first id; the length of `ids` without an answer."""
    uncounted: frozenset[int]
    """Indices of the answer's ids that the released loss leaves out."""


@dataclass(frozen=True, slots=True)
class EmotionPrompt:
    """Turns questions and answers into ids.

    Args:
        tokenizer: Llama's, with beginning- and end-of-sequence tokens.
        max_answer_tokens: The answer is cut after so many tokens, its end-of-sequence token included; 0 cuts nothing.
    """

    tokenizer: Any
    max_answer_tokens: int = 0
    _special: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_special", special_tokens(self.tokenizer))

    def encode(
        self, question: str, answer: str | None, *, layout: str = TRAIN, task: str = "reason", subtitle: str | None = None
    ) -> EncodedTurn:
        """Encode one turn about a clip with all its media.

        Args:
            question: The question alone.
            answer: The response as it is to be read, see `clean_answer`; None for a prompt to generate from.
            layout: `emotion_llama_train` or `emotion_llama_generate`.
            task: The tag in front of the question, such as `emotion` or `reason`.
            subtitle: What the person says; None leaves the sentence out.

        Raises:
            PromptError: A text holds a special token or a placeholder, or there is no such layout.
        """
        for name, text in (("question", question), ("answer", answer), ("subtitle", subtitle), ("task", task)):
            self._check(name, text or "")
        text = prompt_text(question, task=task, subtitle=subtitle)
        if layout == TRAIN:
            prompt = self._training(text)
        elif layout == GENERATE:
            prompt = self._generation(text)
        else:
            raise PromptError(f"Emotion-LLaMA has no prompt format {layout!r}; choose one of {', '.join(FORMATS)}.")
        if answer is None:
            return EncodedTurn(prompt, len(prompt), frozenset())
        ids = self.answer_ids(answer)
        start, pad = len(prompt), self.tokenizer.convert_tokens_to_ids(PAD)
        uncounted = frozenset(start + index for index, token in enumerate(ids) if token == pad)
        return EncodedTurn(prompt + ids, start, uncounted if layout == TRAIN else frozenset())

    def text_only(self, question: str, answer: str | None, *, task: str = "reason") -> EncodedTurn:
        """The same turn without media, for a text prior: tags, task and question stay, the media between them go.

        The released code has no such prompt.
        """
        for name, text in (("question", question), ("answer", answer), ("task", task)):
            self._check(name, text or "")
        prompt = [self._bos, *self._tokens(f"[INST] [{task}] {question}  [/INST]")]
        ids = [] if answer is None else self.answer_ids(answer)
        return EncodedTurn(prompt + ids, len(prompt), frozenset())

    def answer_ids(self, answer: str) -> list[int]:
        """An answer's ids with the end of sequence; the end of a long answer is cut off, that token included."""
        ids = self._tokens(f"{answer}{self.tokenizer.eos_token}")
        return ids[: self.max_answer_tokens or None]

    @property
    def _bos(self) -> int:
        return int(self.tokenizer.bos_token_id)

    def _training(self, text: str) -> list[int]:
        head, rest = text.split(VIDEO_HERE)
        middle, tail = rest.split(FEATURE_HERE)
        media = [FACE_ID, MOTION_ID, SOUND_ID, CLS_ID]
        return [self._bos, *self._tokens(head), IMAGE_ID, *self._tokens(middle), *media, *self._tokens(tail)]

    def _generation(self, text: str) -> list[int]:
        head, tail = text.split(VIDEO_HERE)
        media = [IMAGE_ID, FACE_ID, MOTION_ID, SOUND_ID, CLS_ID]
        return [self._bos, *self._tokens(f"{self.tokenizer.bos_token}{head}"), *media, *self._tokens(tail)]

    def _tokens(self, text: str) -> list[int]:
        """Ids of one piece, which begins with SentencePiece's space as a text of its own does."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def _check(self, name: str, text: str) -> None:
        placeholders = (mark for mark in (VIDEO_HERE, FEATURE_HERE) if mark in text)
        if found := find_special(text, self._special) or next(placeholders, ""):
            raise PromptError(
                f"The {name} holds {found!r}, which the model does not read as text; give the {name} alone, special "
                "tokens and media are added to it."
            )


def prompt_text(question: str, *, task: str, subtitle: str | None) -> str:
    """A turn's text with both placeholders; without a subtitle its sentence is left out.

    Example:
        >>> prompt_text("What does he feel?", task="reason", subtitle=None)
        '[INST] <video><VideoHere></video> <feature><FeatureHere></feature> [reason] What does he feel?  [/INST]'
    """
    says = "" if subtitle is None else f"The person in video says: {subtitle}.  "
    media = f"<video>{VIDEO_HERE}</video> <feature>{FEATURE_HERE}</feature>"
    return f"[INST] {media} {says}[{task}] {question}  [/INST]"


def clean_answer(answer: str) -> str:
    """An answer as the released training data have it: lower case, little punctuation, at most 200 words.

    Example:
        >>> clean_answer('He smiles (slightly): "Happy!"')
        'he smiles slightly happy'
    """
    plain = re.sub(r"\s{2,}", " ", REPLACED.sub(" ", answer.lower())).rstrip("\n").strip(" ")
    return " ".join(plain.split(" ")[:MAX_WORDS])
