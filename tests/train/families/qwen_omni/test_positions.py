"""Three-axis position ids against transformers' `get_rope_index`, and token order against its processors."""

from __future__ import annotations

from itertools import chain
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_5_omni.processing_qwen2_5_omni import Qwen2_5OmniProcessor
from transformers.models.qwen3_omni_moe.processing_qwen3_omni_moe import Qwen3OmniMoeProcessor

from avem.train.families.qwen_omni.positions import (
    SoundShape,
    ThreeAxisPositions,
    Timing,
    VideoShape,
    interleaved_pieces,
    sound_piece,
    video_piece,
)
from avem.train.model.media import Piece, Side
from avem.train.model.positions import row_positions, tree_positions
from avem.train.prefix.tree import build_tree
from tests.train.families.qwen_omni.qwen_omni_kit import FAMILIES, IDS, thinker

TIMING = {"qwen2_5_omni": Timing(25, True, 2.0), "qwen3_omni": Timing(13, False, None)}
OPEN_VIDEO, CLOSE_VIDEO = IDS["vision_start_token_id"], IDS["vision_end_token_id"]
OPEN_SOUND, CLOSE_SOUND = IDS["audio_start_token_id"], IDS["audio_end_token_id"]
PLACEHOLDER = {"video": IDS["video_token_id"], "audio": IDS["audio_token_id"]}


@pytest.fixture(scope="module")
def thinkers() -> dict[str, Any]:
    return {family: thinker(family) for family in FAMILIES}


def positions_of(family: str) -> ThreeAxisPositions:
    return ThreeAxisPositions(video_opener=OPEN_VIDEO, audio_opener=OPEN_SOUND, shared=family == "qwen2_5_omni")


def mel_frames(model: Any, family: str, tokens: int) -> int:
    """Frames that become so many tokens, as the family's towers count."""
    if family == "qwen2_5_omni":
        return 4 * tokens + 1  # ((L - 1) // 2 + 1 - 2) // 2 + 1
    return next(length for length in range(1, 100 * tokens) if _tokens_3(length) == tokens)


def _tokens_3(length: int) -> int:
    left = (length % 100 - 1) // 2 + 1
    return ((left - 1) // 2 + 1 - 1) // 2 + 1 + length // 100 * 13


Parts = list["int | tuple[Side, Piece]"]


def laid_out(
    before: int, middle: list[tuple[Side, Piece]], openers: list[int], closers: list[int], after: int
) -> Parts:
    return [*range(before), *openers, *middle, *closers, *range(after)]


def ours(family: str, parts: Parts) -> torch.Tensor:
    media = [part for part in parts if not isinstance(part, int)]
    numbers = iter(range(-1, -len(media) - 1, -1))
    atoms = [part if isinstance(part, int) else next(numbers) for part in parts]
    return row_positions(positions_of(family), atoms, lambda atom: media[-1 - atom])[0]


def token_ids(parts: Parts) -> list[int]:
    runs = ([part] if isinstance(part, int) else [PLACEHOLDER[part[0]]] * part[1].size for part in parts)
    return list(chain.from_iterable(runs))


def theirs(model: Any, ids: list[int], video: VideoShape | None, frames: int | None, inside: bool) -> torch.Tensor:
    row = torch.tensor([ids])
    grid = None if video is None else torch.tensor([video.grid])
    seconds = None if video is None else torch.tensor([video.seconds_per_slot])
    lengths = None if frames is None else torch.tensor([frames])
    return model.get_rope_index(row, None, grid, torch.ones_like(row), inside, lengths, seconds)[0][:, 0]


videos = st.builds(
    VideoShape,
    st.tuples(st.integers(1, 9), st.integers(1, 6).map(lambda n: 2 * n), st.integers(1, 6).map(lambda n: 2 * n)),
    st.one_of(st.sampled_from([1.0, 2.0, 0.5, 1 / 3, 0.4, 7.5]), st.floats(0.05, 12.0)).map(
        lambda value: float(np.float32(value))
    ),
)
sounds = st.integers(1, 150).map(SoundShape)
lengths = st.tuples(st.integers(1, 40), st.integers(0, 60))


@pytest.mark.parametrize("family", FAMILIES)
@given(video=st.none() | videos, sound=st.none() | sounds, text=lengths)
@settings(max_examples=150)
def test_video_then_sound_has_the_ids_of_get_rope_index(
    thinkers: dict[str, Any], family: str, video: VideoShape | None, sound: SoundShape | None, text: tuple[int, int]
) -> None:
    parts: Parts = [*range(text[0])]
    if video:
        parts += [OPEN_VIDEO, ("video", video_piece(video, TIMING[family])), CLOSE_VIDEO]
    if sound:
        parts += [OPEN_SOUND, ("audio", sound_piece(sound)), CLOSE_SOUND]
    parts += range(text[1])
    frames = mel_frames(thinkers[family], family, sound.tokens) if sound else None
    expected = theirs(thinkers[family], token_ids(parts), video, frames, inside=False)
    assert torch.equal(ours(family, parts), expected.float())


@pytest.mark.parametrize("family", FAMILIES)
@given(video=videos, sound=sounds, text=lengths)
@settings(max_examples=150)
def test_sound_inside_a_video_has_the_ids_of_get_rope_index(
    thinkers: dict[str, Any], family: str, video: VideoShape, sound: SoundShape, text: tuple[int, int]
) -> None:
    start = float(text[0] + (1 if family == "qwen2_5_omni" else 2))
    middle = list(interleaved_pieces(video, sound, TIMING[family], start))
    parts = laid_out(text[0], middle, [OPEN_VIDEO, OPEN_SOUND], [CLOSE_SOUND, CLOSE_VIDEO], text[1])
    frames = mel_frames(thinkers[family], family, sound.tokens)
    expected = theirs(thinkers[family], token_ids(parts), video, frames, inside=True)
    assert torch.equal(ours(family, parts), expected.float())


@pytest.mark.parametrize("family", FAMILIES)
@given(video=videos, sound=sounds)
@settings(max_examples=150)
def test_sound_inside_a_video_takes_turns_as_in_the_processor(
    family: str, video: VideoShape, sound: SoundShape
) -> None:
    processor = Qwen2_5OmniProcessor if family == "qwen2_5_omni" else Qwen3OmniMoeProcessor
    stub = SimpleNamespace(
        video_processor=SimpleNamespace(merge_size=2),
        audio_bos_token="(",
        audio_eos_token=")",
        video_token="v",
        audio_token="a",
    )
    stub.get_chunked_index = lambda *given: processor.get_chunked_index(stub, *given)
    seen = {"video_grid_thw": torch.tensor([video.grid]), "video_second_per_grid": [video.seconds_per_slot]}
    heard = {"num_audio_tokens": [sound.tokens]}
    timing = TIMING[family]
    text = processor.replace_video_with_audio_token(
        stub, seen, 0, heard, 0, position_id_per_seconds=timing.ids_per_second, seconds_per_chunk=2.0
    )
    pieces = interleaved_pieces(video, sound, timing, 3.0)
    assert "(" + "".join(side[0] * piece.size for side, piece in pieces) + ")" == text
    for side, total in (("video", video.tokens), ("audio", sound.tokens)):
        rows = [row for name, piece in pieces if name == side for row in range(piece.start, piece.start + piece.size)]
        assert rows == list(range(total))


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_worked_out_by_hand(family: str) -> None:
    """Two slots of 1 x 2 tokens a second apart after three tokens: 3 on all axes, then time moves by a second."""
    second = TIMING[family].ids_per_second
    piece = video_piece(VideoShape((2, 2, 4), 1.0), TIMING[family])
    ids = ours(family, [7, 8, OPEN_VIDEO, ("video", piece), CLOSE_VIDEO, 9])
    assert ids.tolist() == [
        [0, 1, 2, 3, 3, 3 + second, 3 + second, 4 + second, 5 + second],
        [0, 1, 2, 3, 3, 3, 3, 4 + second, 5 + second],
        [0, 1, 2, 3, 4, 3, 4, 4 + second, 5 + second],
    ]


@pytest.mark.parametrize("family", FAMILIES)
@given(
    texts=st.lists(st.lists(st.integers(0, 2), max_size=5), min_size=1, max_size=6),
    video=videos,
    sounds=st.tuples(sounds, sounds),
)
@settings(max_examples=60)
def test_a_node_of_the_tree_has_the_ids_of_every_sequence_that_holds_it(
    family: str, texts: list[list[int]], video: VideoShape, sounds: tuple[SoundShape, SoundShape]
) -> None:
    media: list[tuple[Side, Piece]] = [("video", video_piece(video, TIMING[family]))]
    media += [("audio", sound_piece(sound)) for sound in sounds]
    sequences = [
        [5, 6, OPEN_VIDEO, -1, CLOSE_VIDEO, OPEN_SOUND, -2 - number % 2, CLOSE_SOUND, *text]
        for number, text in enumerate(texts)
    ]
    tree = build_tree(sequences, lambda atom: 1 if atom >= 0 else media[-1 - atom][1].size)
    packed = tree_positions(positions_of(family), tree, lambda atom: media[-1 - atom])
    for number, sequence in enumerate(sequences):
        alone = row_positions(positions_of(family), sequence, lambda atom: media[-1 - atom])[0]
        nodes = [tree.nodes[node] for node in tree.path(tree.leaves[number])]
        along = torch.cat([packed[:, node.start : node.start + node.size] for node in nodes], 1)
        assert torch.equal(along, alone)
