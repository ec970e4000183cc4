"""Cached tower outputs against transformers' whole thinker with its towers in the loop, and the packed tree against
one sequence at a time."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni
from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe

from avem.train import load_model
from avem.train.families.qwen_omni.experts import outline
from avem.train.families.qwen_omni.language_model import add_at
from avem.train.families.qwen_omni.model import QwenOmniModel
from avem.train.model.sequences import ScoredSequence
from tests.train.families.qwen_omni.qwen_omni_kit import FAMILIES, IDS, Clip, clip, save_checkpoint, thinker

RMS_NORMS = (
    modeling_qwen2_5_omni.Qwen2_5OmniRMSNorm,
    modeling_qwen3_omni_moe.Qwen3OmniMoeThinkerTextRMSNorm,
    modeling_qwen3_omni_moe.Qwen3OmniMoeTextRMSNorm,
)
LAYOUTS = ("separate", "audio_in_video")
SHAPES: dict[str, dict[str, Any]] = {
    "two slots": {"grid": (2, 4, 6), "mel": 170},
    "not a multiple of the window": {"grid": (3, 10, 14), "mel": 333, "seconds_per_slot": 1.0},
    "one slot": {"grid": (1, 4, 4), "mel": 150},
    "long slots": {"grid": (3, 4, 4), "mel": 260, "seconds_per_slot": 3.7},
    "fractions": {"grid": (5, 2, 4), "mel": 210, "seconds_per_slot": 1 / 3},
    "no sound": {"grid": (2, 6, 4), "mel": None},
    "sound alone": {"grid": None, "mel": 203},
    "neither": {"grid": None, "mel": None},
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Path]]:
    """transformers' thinker of each family, and the same as a full checkpoint on disk."""
    made = {}
    for family in FAMILIES:
        model = thinker(family)
        made[family] = (model, save_checkpoint(model, tmp_path_factory.mktemp(family)))
    return made


@pytest.fixture
def in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Norms and routers in float64: transformers rounds both to float32, and so the gradients of every position."""

    def norm(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)

    def route(self: Any, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = hidden.reshape(-1, self.hidden_dim) @ self.weight.T
        values, indices = logits.softmax(-1).topk(self.top_k, dim=-1)
        return logits, values / values.sum(-1, keepdim=True) if self.norm_topk_prob else values, indices

    for each in RMS_NORMS:
        monkeypatch.setattr(each, "forward", norm)
    monkeypatch.setattr(modeling_qwen3_omni_moe.Qwen3OmniMoeThinkerTextTopKRouter, "forward", route)


def loaded(folder: Path, dtype: torch.dtype = torch.float64) -> QwenOmniModel:
    return cast("QwenOmniModel", load_model(folder, dtype=dtype))


def sequence(
    model: QwenOmniModel, reference: Any, shown: Clip, answer: str, layout: str, question: str
) -> ScoredSequence:
    rows = {f"{side}/{model.family}": row for side, row in shown.rows(reference).items()}
    return model.sequence(question, answer, streams=rows, prompt_format=layout)


def token_ids(scored: ScoredSequence) -> list[int]:
    """A sequence's ids with the processor's placeholders, one a token."""
    assert scored.pieces is not None
    sides = {side: iter(pieces) for side, pieces in scored.pieces.items()}
    ids: list[int] = []
    for token in scored.ids.tolist():
        if token >= 0:
            ids.append(token)
        elif token == -200:
            ids += [IDS["video_token_id"]] * next(sides["video"]).size
        else:
            ids += [IDS["audio_token_id"]] * next(sides["audio"]).size
    return ids


def with_towers(reference: Any, scored: ScoredSequence, shown: Clip, layout: str) -> torch.Tensor:
    """The answer's log-probability as transformers computes it from pixels and sound."""
    ids = torch.tensor([token_ids(scored)])
    inside = layout == "audio_in_video" and shown.grid is not None and shown.mel is not None
    logits = reference(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        input_features=shown.mel,
        feature_attention_mask=shown.mel_mask,
        pixel_values_videos=shown.pixels,
        video_grid_thw=shown.grid,
        video_second_per_grid=None if shown.grid is None else torch.tensor([shown.seconds_per_slot]),
        use_audio_in_video=inside,
    ).logits[0]
    count = len(scored.ids) - scored.response_start
    chosen = logits[:-1].log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0]
    return chosen[-count:].sum()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_features_score_as_towers_in_the_loop(
    bases: dict[str, tuple[Any, Path]], family: str, shape: str, layout: str
) -> None:
    reference, folder = bases[family]
    shown = clip(family, **SHAPES[shape], seed=3)
    model = loaded(folder)
    scored = sequence(model, reference, shown, "She smiles, but her voice shakes.", layout, "How does she feel?")
    with torch.no_grad():
        expected = with_towers(reference, scored, shown, layout)
        alone = model.response_logprobs([scored], share_prefixes=False)
        packed = model.response_logprobs([scored])
    assert abs(float(alone[0] - expected)) < 1e-9
    assert abs(float(packed[0] - expected)) < 1e-9


def several(
    model: QwenOmniModel, reference: Any, layout: str, dtype: torch.dtype = torch.float64
) -> list[ScoredSequence]:
    """Clips of different lengths with several questions, answers and subtitles, a swapped sound, and text alone."""
    family = model.family
    clips = [
        clip(family, **SHAPES[name], seed=number, dtype=torch.float64)
        for number, name in enumerate(("two slots", "fractions", "no sound", "sound alone"))
    ]
    rows = [{f"{side}/{family}": row for side, row in each.rows(reference).items()} for each in clips]
    swapped = {f"video/{family}": rows[0][f"video/{family}"], f"audio/{family}": rows[3][f"audio/{family}"]}
    shown = [*rows, swapped, {}]
    return [
        model.sequence(question, answer, streams=streams, prompt_format=layout, subtitle=said)
        for streams in shown
        for question in ("Why?", "Why is he sad?")
        for said in (None, "Leave me!")
        for answer in ("He sighs.", "He smiles.")
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_tree_scores_as_one_sequence_at_a_time(
    bases: dict[str, tuple[Any, Path]], family: str, layout: str
) -> None:
    reference, folder = bases[family]
    model = loaded(folder)
    sequences = several(model, reference, layout)
    with torch.no_grad():
        packed = model.response_logprobs(sequences)
        alone = model.response_logprobs(sequences, share_prefixes=False)
    assert float((packed - alone).abs().max()) < 1e-9
    assert float(alone[0::2].sub(alone[1::2]).abs().min()) > 1e-3  # the answers differ
    single = loaded(folder, torch.float32)
    with torch.no_grad():
        rounded = single.response_logprobs(sequences)
    assert float((rounded - alone).abs().max()) < 1e-4


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_a_packed_tree_are_those_of_one_sequence_at_a_time(
    bases: dict[str, tuple[Any, Path]], family: str, layout: str
) -> None:
    reference, folder = bases[family]
    model = loaded(folder)
    model.add_lora(rank=2, seed=1)
    model.checkpoint_activations()
    table = model.language_model.get_input_embeddings().weight.requires_grad_()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            if "lora_B" in name:
                tensor.normal_(std=0.1, generator=generator)
    learned = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    assert any(tensor is table for _, tensor in learned)
    assert any("experts" in name for name, _ in learned) == (family == "qwen3_omni")
    sequences = several(model, reference, layout)
    weights = torch.linspace(-1, 1, len(sequences), dtype=torch.float64)
    grads = []
    for share in (True, False):
        scores = model.response_logprobs(sequences, share_prefixes=share)
        grads.append(torch.autograd.grad((scores * weights).sum(), [tensor for _, tensor in learned]))
    for (name, _), packed, alone in zip(learned, *grads, strict=True):
        assert float(alone.abs().max()) > 0, name
        assert float((packed - alone).abs().max()) < 1e-9, name


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_transformers_thinker(bases: dict[str, tuple[Any, Path]], family: str) -> None:
    reference, folder = bases[family]
    shown = clip(family, **SHAPES["not a multiple of the window"], seed=5)
    model = loaded(folder)
    scored = sequence(model, reference, shown, "He is calm.", "audio_in_video", "What is heard?")
    ours = dict(model.language_model.named_parameters())
    names = [name for name in ours if "embed" in name or "q_proj.weight" in name or "experts" in name]
    grads = torch.autograd.grad(model.response_logprobs([scored])[0], [ours[name] for name in names])
    theirs = dict(reference.named_parameters())
    expected = torch.autograd.grad(
        with_towers(reference, scored, shown, "audio_in_video"),
        [theirs[name.replace("model.", "model.language_model.", 1)] for name in names],
    )
    for name, one, other in zip(names, grads, expected, strict=True):
        assert float(other.abs().max()) > 0, name
        assert float((one - other).abs().max()) < 1e-9, name


def test_deepstack_is_added_where_a_mask_would_add_it() -> None:
    """Two rows, the first with padding before it."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 5, 3, generator=generator)
    added = torch.randn(4, 3, generator=generator)
    mask = torch.tensor([[False, False, True, True, False], [False, True, True, False, False]])
    expected = hidden.clone()
    expected[mask] += added
    assert torch.equal(add_at(hidden, mask.flatten().nonzero()[:, 0], added), expected)


@torch.no_grad()
def test_outlined_experts_have_the_shapes_of_real_ones(bases: dict[str, tuple[Any, Path]]) -> None:
    layer = loaded(bases["qwen3_omni"][1]).language_model.model.layers[0].mlp.experts
    hidden = torch.randn(7, 48, dtype=torch.float64)
    chosen, weights = torch.randint(0, 4, (7, 2)), torch.rand(7, 2, dtype=torch.float64)
    real, outlined = layer(hidden, chosen, weights), outline(layer, hidden, chosen, weights)
    assert (outlined.shape, outlined.dtype) == (real.shape, real.dtype)
    alike = torch.zeros_like(chosen)  # everything to the first expert: then the values agree too
    difference = layer(hidden, alike, weights) - outline(layer, hidden, alike, weights)
    assert float(difference.abs().max()) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outlined_experts_keep_the_number_formats_of_real_ones(bases: Any, dtype: torch.dtype) -> None:
    """Under autocast, which grouped products ignore: experts in float32 give float32, of twice the bytes."""
    language_model = loaded(bases["qwen3_omni"][1], dtype).language_model
    language_model.set_experts_implementation("grouped_mm")
    layer = language_model.model.layers[0].mlp.experts
    hidden, chosen, weights = torch.randn(7, 48), torch.randint(0, 4, (7, 2)), torch.rand(7, 2)
    gate, found = layer._apply_gate, []

    def watched(product: torch.Tensor) -> torch.Tensor:
        found.append(product.dtype)
        given: torch.Tensor = gate(product)
        found.append(given.dtype)
        return given

    layer._apply_gate = watched
    for run in (layer, functools.partial(outline, layer)):
        with torch.autocast("cpu", torch.bfloat16):
            found.append(run(hidden, chosen, weights).dtype)
    assert found[:3] == found[3:] == [dtype, dtype, torch.float32]
