"""Prompts of the Qwen-Omni thinkers: the checkpoint's own chat template, with placeholders for video and sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

from avem.chat_templates import frozen_date
from avem.errors import CheckpointError, PromptError, SettingError
from avem.guards.special_tokens import find_special, special_tokens
from avem.text.subtitles import with_subtitle
from avem.train.families.qwen_omni.positions import (
    SoundShape,
    Timing,
    VideoShape,
    interleaved_pieces,
    sound_piece,
    video_piece,
)
from avem.train.model.media import Piece, Side
from avem.train.model.prompts import EncodedPrompt
from avem.train.model.sequences import AUDIO_ID, VIDEO_FRAME_ID

Layout: TypeAlias = Literal["separate", "audio_in_video"]
"""Video and then sound, or the sound inside the video; transformers calls the second `use_audio_in_video`."""
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
ANSWER_MARK = "\ue002"
"""Stands for an answer while a template is rendered."""
STAND_INS = {"video": VIDEO_FRAME_ID, "audio": AUDIO_ID}


@dataclass(frozen=True, slots=True)
class Markers:
    """Token ids around and instead of media, as `config.json` states them."""

    video: int
    """`video_token_id`: stands for a video."""
    audio: int
    """`audio_token_id`: stands for a sound."""
    video_opener: int
    """`vision_start_token_id`."""
    audio_opener: int
    """`audio_start_token_id`."""


@dataclass(frozen=True, slots=True)
class OmniPrompt:
    """Turns questions and answers into token ids.

    Args:
        tokenizer: The checkpoint's, with its chat template.
        markers: From its configuration.
        timing: The family's.

    Raises:
        CheckpointError: The template has no placeholder for a video or a sound, or the tokenizer gives it another id
            than the configuration.
    """

    tokenizer: Any
    markers: Markers
    timing: Timing
    audio_closer: int = field(init=False)
    """Id of the token that closes a sound."""
    _special: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.tokenizer.chat_template:
            raise CheckpointError(
                "The tokenizer has no chat template; put the checkpoint's chat_template.json beside it."
            )
        object.__setattr__(self, "_special", special_tokens(self.tokenizer))
        object.__setattr__(self, "audio_closer", self._check_template())

    def encode(
        self,
        question: str,
        answer: str | None,
        video: VideoShape | None,
        audio: SoundShape | None,
        layout: Layout = "separate",
        subtitle: str | None = None,
    ) -> EncodedPrompt:
        """Lay out one turn: video, sound, question, and the answer with what closes it.

        Args:
            question: The user's question alone.
            answer: The response; None for a prompt to generate from.
            video: Shape of the video; None without one.
            audio: Shape of the sound; None without one.
            layout: Where the sound goes. A clip without one of the two has the same prompt in both layouts.
            subtitle: What is said, on a line before the question; None for no such line.

        Raises:
            PromptError: A text holds a special token.
            SettingError: There is no such layout.
        """
        if layout not in LAYOUTS:
            raise SettingError(f"There is no layout {layout!r} for Qwen-Omni; choose one of {', '.join(LAYOUTS)}.")
        self.check_text("question", question)
        self.check_text("answer", answer or "")
        self.check_text("subtitle", subtitle or "")
        inside = layout == "audio_in_video" and video is not None and audio is not None
        content = [{"type": "video", "video": "."}] if video else []
        content += [{"type": "audio", "audio": "."}] if audio and not inside else []
        content.append({"type": "text", "text": with_subtitle(question, subtitle)})
        text = self._render([{"role": "user", "content": content}], add_generation_prompt=True)
        prompt = self._tokens(text)
        ids = prompt
        if answer is not None:
            tail = answer + self._closing()
            ids = self._tokens(text + tail)
            if ids[: len(prompt)] != prompt:  # a token spans the border: keep the prompt as generation sees it
                ids = prompt + self._tokens(tail)
        return self._expand(ids, len(prompt), video, audio, inside)

    def check_text(self, name: str, text: str) -> None:
        """Refuse text that the tokenizer would turn into special tokens.

        Args:
            name: What the text is, for the message.
            text: As its author wrote it.

        Raises:
            PromptError: It holds a special token or a placeholder for media.
        """
        if found := find_special(text, self._special):
            raise PromptError(
                f"The {name} holds {found!r}, which the model does not read as text; give the {name} alone, special "
                "tokens and media are added to it."
            )

    def end_ids(self) -> set[int]:
        """Ids that end an answer: the end of sequence and of the assistant's turn."""
        ends = set(self._tokens(self._closing())[:1])
        return ends if self.tokenizer.eos_token_id is None else ends | {self.tokenizer.eos_token_id}

    def _expand(
        self, ids: Sequence[int], response_start: int, video: VideoShape | None, audio: SoundShape | None, inside: bool
    ) -> EncodedPrompt:
        """Put stand-ins for pieces of media where the template has one placeholder a medium."""
        found: dict[Side, list[Piece]] = {"video": [], "audio": []}
        expanded: list[int] = []
        for token in ids:
            if token == self.markers.video and video is not None:
                if inside and audio is not None:
                    expanded.append(self.markers.audio_opener)
                    start = float(len(expanded) - (1 if self.timing.whole else 0))  # two openers may share an id
                    pieces = interleaved_pieces(video, audio, self.timing, start)
                else:
                    pieces = (("video", video_piece(video, self.timing)),)
            elif token == self.markers.audio and audio is not None:
                pieces = (("audio", sound_piece(audio)),)
            else:
                expanded.append(token)
                continue
            for side, piece in pieces:
                expanded.append(STAND_INS[side])
                found[side].append(piece)
            if inside:
                expanded.append(self.audio_closer)
        start = response_start + len(expanded) - len(ids)
        return EncodedPrompt(expanded, start, tuple(found["video"]), tuple(found["audio"]))

    def _check_template(self) -> int:
        """Render a turn with both media, find their placeholders, and return the id that closes the sound."""
        media: list[Side] = ["video", "audio"]
        ids = {}
        for side in media:
            content = [{"type": side, side: "."}, {"type": "text", "text": "?"}]
            ids[side] = self._tokens(self._render([{"role": "user", "content": content}]))
            marker = getattr(self.markers, side)
            if marker in ids[side]:
                continue
            name = self.tokenizer.convert_ids_to_tokens(marker)
            raise CheckpointError(
                f"The chat template writes no placeholder for {side} that is token {marker} (here {name!r}), which "
                "config.json names; use the tokenizer and the chat template of the same checkpoint."
            )
        for side in media:
            opener = getattr(self.markers, f"{side}_opener")
            if ids[side][ids[side].index(getattr(self.markers, side)) - 1] != opener:
                raise CheckpointError(
                    f"The chat template does not write token {opener}, which config.json names, before its placeholder "
                    f"for {side}; use the tokenizer and the chat template of the same checkpoint."
                )
        return ids["audio"][ids["audio"].index(self.markers.audio) + 1]

    def _closing(self) -> str:
        """What the template writes after an answer, or the end of sequence where it writes nothing."""
        turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": ANSWER_MARK}]
        closing = self._render(turns).partition(ANSWER_MARK)[2].strip()
        return closing or str(self.tokenizer.eos_token or "")

    def _render(self, turns: list[dict[str, Any]], *, add_generation_prompt: bool = False) -> str:
        """The template's text of some turns.

        Raises:
            CheckpointError: The template raises an error.
        """
        try:
            text: str = self.tokenizer.apply_chat_template(
                turns,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **frozen_date(self.tokenizer.chat_template),
            )
        except Exception as error:  # a template is a program, which can fail in any way
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise CheckpointError(
                f"The tokenizer's chat template can't be used ({reason}); fetch the checkpoint's own again."
            ) from error
        return text

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids
