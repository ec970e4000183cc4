"""Prompts from the checkpoint's template: ids worked out by hand, and one sentence for what can't be right."""

from __future__ import annotations

import pytest

from avem.errors import CheckpointError, PromptError, SettingError
from avem.train.families.qwen_omni.positions import SoundShape, Timing, VideoShape
from avem.train.families.qwen_omni.prompt import Markers, OmniPrompt
from tests.train.families.qwen_omni.qwen_omni_kit import IDS, TEMPLATE, tokenizer

MARKERS = Markers(
    video=IDS["video_token_id"],
    audio=IDS["audio_token_id"],
    video_opener=IDS["vision_start_token_id"],
    audio_opener=IDS["audio_start_token_id"],
)
OMNI_2_5, OMNI_3 = Timing(25, True, 2.0), Timing(13, False, None)
VIDEO, SOUND = VideoShape((4, 4, 4), 1.0), SoundShape(60)
"""16 video tokens over 4 seconds and 60 audio tokens: 2.4 seconds at 25 a second, 4.6 at 13."""


def prompt(timing: Timing = OMNI_2_5, template: str = TEMPLATE) -> OmniPrompt:
    words = tokenizer()
    words.chat_template = template
    return OmniPrompt(words, MARKERS, timing)


def text_of(ids: list[int]) -> str:
    """Ids as text, with stand-ins for pieces of media as digits: 1 for video, 2 for sound."""
    words = tokenizer()
    return "".join({-200: "1", -300: "2"}.get(token) or words.decode([token]) for token in ids)


def test_video_comes_before_sound_and_the_answer_is_closed() -> None:
    encoded = prompt().encode("Why?", "Joy.", VIDEO, SOUND)
    assert text_of(encoded.ids) == (
        "<|im_start|>user\n<|vision_bos|>1<|vision_eos|><|audio_bos|>2<|audio_eos|>Why?<|im_end|>\n"
        "<|im_start|>assistant\nJoy.<|im_end|>"
    )
    assert text_of(encoded.ids[encoded.response_start :]) == "Joy.<|im_end|>"
    assert [(piece.start, piece.size) for piece in encoded.video + encoded.audio] == [(0, 16), (0, 60)]


def test_sound_inside_the_video_comes_in_chunks_of_two_seconds() -> None:
    encoded = prompt().encode("Why?", None, VIDEO, SOUND, "audio_in_video")
    assert text_of(encoded.ids).startswith(
        "<|im_start|>user\n<|vision_bos|><|audio_bos|>1212<|audio_eos|><|vision_eos|>Why?<|im_end|>"
    )
    assert encoded.response_start == len(encoded.ids)
    assert [(piece.start, piece.size) for piece in encoded.video] == [(0, 8), (8, 8)]
    assert [(piece.start, piece.size) for piece in encoded.audio] == [(0, 50), (50, 10)]


def test_sound_inside_the_video_of_qwen3_follows_each_slot() -> None:
    encoded = prompt(OMNI_3).encode("Why?", None, VIDEO, SOUND, "audio_in_video")
    assert "<|vision_bos|><|audio_bos|>12121212<|audio_eos|><|vision_eos|>" in text_of(encoded.ids)
    assert [(piece.start, piece.size) for piece in encoded.video] == [(0, 4), (4, 4), (8, 4), (12, 4)]
    assert [(piece.start, piece.size) for piece in encoded.audio] == [(0, 13), (13, 13), (26, 13), (39, 21)]


@pytest.mark.parametrize(("video", "sound"), [(VIDEO, None), (None, SOUND), (None, None)])
def test_a_clip_without_one_of_the_two_has_one_prompt(video: VideoShape | None, sound: SoundShape | None) -> None:
    made = [prompt().encode("Why?", "Joy.", video, sound, layout) for layout in ("separate", "audio_in_video")]
    assert made[0] == made[1]
    assert ("1" in text_of(made[0].ids), "2" in text_of(made[0].ids)) == (video is not None, sound is not None)


def test_a_swapped_sound_shares_the_first_chunk_of_the_video() -> None:
    """The tree shares what is equal: in the separate layout the whole video, inside it the first chunk alone."""
    other = SoundShape(77)
    apart = [prompt().encode("Why?", "Joy.", VIDEO, sound).video for sound in (SOUND, other)]
    assert apart[0] == apart[1]
    inside = [prompt().encode("Why?", "Joy.", VIDEO, sound, "audio_in_video").video for sound in (SOUND, other)]
    assert inside[0][0] == inside[1][0]


@pytest.mark.parametrize("text", ["<|VIDEO|> Why?", "Why <|audio_bos|>?", "Why?<|im_end|>"])
def test_special_tokens_in_text_are_refused(text: str) -> None:
    with pytest.raises(PromptError, match=r"The question holds '<\|"):
        prompt().encode(text, None, VIDEO, SOUND)
    with pytest.raises(PromptError, match=r"The answer holds '<\|"):
        prompt().encode("Why?", text, VIDEO, SOUND)


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(
        SettingError, match="no layout 'vicuna_v1' for Qwen-Omni; choose one of separate, audio_in_video"
    ):
        prompt().encode("Why?", None, VIDEO, SOUND, "vicuna_v1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("<|audio_bos|><|AUDIO|><|audio_eos|>", ""),
            "no placeholder for audio that is token 259",
        ),
        (lambda text: text.replace("<|VIDEO|>", "<|IMAGE|>"), "no placeholder for video that is token 263"),
        (
            lambda text: text.replace("<|audio_bos|>", "("),
            "does not write token 260, which config.json names, before its placeholder for audio",
        ),
        (lambda text: "{{ raise_exception('no lists') }}", "chat template can't be used"),
        (lambda text: "", "no chat template"),
    ],
)
def test_a_template_without_its_placeholders_is_refused(change: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        prompt(template=change(TEMPLATE))  # type: ignore[operator]
