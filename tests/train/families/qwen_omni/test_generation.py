"""Generation from cached features against transformers' `generate` with towers in the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch

from avem.train import load_model
from avem.train.families.qwen_omni.model import QwenOmniModel
from avem.train.model.generate import generate_ids
from tests.train.families.qwen_omni.qwen_omni_kit import FAMILIES, Clip, clip, save_checkpoint, thinker
from tests.train.families.qwen_omni.test_equality import LAYOUTS, SHAPES, token_ids

NEW = 12


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    made = {}
    for family in FAMILIES:
        model = thinker(family)
        made[family] = (model, save_checkpoint(model, tmp_path_factory.mktemp(family)))
    return made


def continued(reference: Any, ids: list[int], shown: Clip, layout: str) -> list[int]:
    """What transformers' thinker says, one whole forward pass a token, so that no cache can hide a wrong position."""
    said: list[int] = []
    for _ in range(NEW):
        row = torch.tensor([ids + said])
        logits = reference(
            input_ids=row,
            attention_mask=torch.ones_like(row),
            input_features=shown.mel,
            feature_attention_mask=shown.mel_mask,
            pixel_values_videos=shown.pixels,
            video_grid_thw=shown.grid,
            video_second_per_grid=None if shown.grid is None else torch.tensor([shown.seconds_per_slot]),
            use_audio_in_video=layout == "audio_in_video" and shown.grid is not None and shown.mel is not None,
        ).logits
        said.append(int(logits[0, -1].argmax()))
    return said


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_transformers(bases: dict[str, tuple[Any, Path]], family: str, layout: str) -> None:
    """Prompts of several lengths in one batch, and several on one clip, whose beginning is computed once."""
    reference, folder = bases[family]
    model = cast("QwenOmniModel", load_model(folder, dtype=torch.float64))
    clips = [clip(family, **SHAPES[name], seed=4) for name in ("fractions", "no sound", "sound alone", "neither")]
    asked = [(shown, question) for shown in clips for question in ("Why?", "What does the face show?")]
    prompts = []
    for shown, question in asked:
        rows = {f"{side}/{family}": row for side, row in shown.rows(reference).items()}
        prompts.append(model.prompt(question, streams=rows, prompt_format=layout))
    answers = generate_ids(model, prompts, NEW, stop_at_end=False)
    with torch.no_grad():
        wanted = [
            continued(reference, token_ids(prompt), shown, layout)
            for prompt, (shown, _) in zip(prompts, asked, strict=True)
        ]
    assert answers == wanted
    assert len({tuple(answer) for answer in answers}) > 1


def test_an_answer_ends_where_the_template_closes_the_turn(bases: dict[str, tuple[Any, Path]]) -> None:
    model = cast("QwenOmniModel", load_model(bases["qwen2_5_omni"][1]))
    assert model.end_ids() == {258}  # <|im_end|>
