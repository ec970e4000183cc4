"""`avem.prefix.score` on Hugging Face models: as transformers computes it, shared as unshared, kept as computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import Gemma2Config, Gemma2ForCausalLM, MambaConfig, MambaForCausalLM, Qwen3Config, Qwen3ForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from avem.errors import PromptError, SettingError
from avem.prefix import EmbeddedMedia, TokenSequence, cached_score, score
from avem.train import load_model
from avem.train.library import scoring
from tests.train.families.qwen_omni.qwen_omni_kit import IDS, clip, thinker
from tests.train.families.test_door import exact_norm
from tests.train.library_kit import llama
from tests.train.training_kit import make_kit

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft reads it

PROMPT = [1, 2, 3, 4, 5, 6, 7]
SEQUENCES = [
    TokenSequence([*PROMPT, 8], 7),
    TokenSequence([*PROMPT, 9, 10], 7),
    TokenSequence([*PROMPT, 9, 11, 12], 8),
    TokenSequence([1, 2, 3, 20, 21], 4),
    TokenSequence([30, 31], 1),
]


def small(kind: str) -> Any:
    torch.manual_seed(0)
    shape = {"vocab_size": 42, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0}
    made = {
        "llama": llama,
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**shape)),
        "gemma2": lambda: Gemma2ForCausalLM(Gemma2Config(**shape, sliding_window=64)),
    }[kind]()
    return made.double().eval()


@pytest.mark.parametrize(("kind", "tolerance"), [("llama", 1e-9), ("qwen3", 1e-9), ("gemma2", 1e-6)])
def test_scores_are_those_of_transformers(kind, tolerance):
    """Gemma scales embeddings by a float32 number."""
    model = small(kind)
    expected = []
    for sequence in SEQUENCES:
        ids = torch.tensor([sequence.ids])
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        chosen = logprobs.gather(1, ids[0, 1:, None])[:, 0]
        expected.append(chosen[sequence.response_start - 1 :].sum())
    for options in ({}, {"share_prefixes": False}, {"tokens_per_batch": 8}):
        with torch.no_grad():
            found = score(model, SEQUENCES, **options)
        torch.testing.assert_close(found, torch.stack(expected), atol=tolerance, rtol=0)


def test_gradients_of_shared_prefixes_are_those_of_each_sequence(monkeypatch):
    monkeypatch.setattr(LlamaRMSNorm, "forward", exact_norm)
    model = get_peft_model(llama(), LoraConfig(target_modules="all-linear", r=2))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = [
        torch.autograd.grad((score(model, SEQUENCES, share_prefixes=share) * torch.arange(5)).sum(), learned)
        for share in (True, False)
    ]
    for packed, alone in zip(*found, strict=True):
        assert alone.abs().max() > 0
        torch.testing.assert_close(packed, alone, atol=1e-9, rtol=1e-9)


def test_prefixes_go_through_the_model_once():
    model, seen = llama(), []
    model.model.layers[0].register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        score(model, SEQUENCES[:3])
        score(model, SEQUENCES[:3], share_prefixes=False)
    assert seen == [len(PROMPT) + 2, 7, 8, 9]  # 9 and 11 beyond the prompt; nothing is predicted from a last token


def test_batches_hold_as_many_tokens_as_asked(monkeypatch):
    sizes = []
    real = scoring.HubModel.response_logprobs
    monkeypatch.setattr(
        scoring.HubModel,
        "response_logprobs",
        lambda self, sequences, share: sizes.append(len(sequences)) or real(self, sequences, share),
    )
    with torch.no_grad():
        score(llama(), SEQUENCES, tokens_per_batch=12)
    assert sizes == [3, 2]


@pytest.mark.parametrize("with_sound", [False, True])
def test_a_qwen_omni_thinker_scores_embedded_media_as_its_towers_do(with_sound):
    model = thinker("qwen2_5_omni")
    shown = clip("qwen2_5_omni", seed=2)
    seen = model.get_video_features(shown.pixels, shown.grid, return_dict=True).pooler_output[0].detach()
    heard = model.get_audio_features(shown.mel, shown.mel_mask, return_dict=True).last_hidden_state.detach()
    heard = heard.reshape(-1, heard.shape[-1])
    slots, rows, columns = (int(shown.grid[0, 0]), int(shown.grid[0, 1]) // 2, int(shown.grid[0, 2]) // 2)
    places = torch.cartesian_prod(torch.arange(slots) * 25, torch.arange(rows), torch.arange(columns)).T  # [3, W]
    video, sound = EmbeddedMedia(seen, places), EmbeddedMedia(heard)
    start = [256, 7, IDS["vision_start_token_id"], -200, IDS["vision_end_token_id"]]
    if with_sound:
        start += [IDS["audio_start_token_id"], -300, IDS["audio_end_token_id"]]
    prompt = [*start, 50, 51, 52]
    answers = [[60, 61], [60, 62, 63]]
    more = {"sound": sound} if with_sound else {}
    sequences = [TokenSequence([*prompt, *answer], len(prompt), visual=video, **more) for answer in answers]
    with torch.no_grad():
        packed, alone = score(model, sequences), score(model, sequences, share_prefixes=False)
        expected = torch.stack([with_towers(model, sequence, shown, with_sound) for sequence in sequences])
    torch.testing.assert_close(packed, alone, atol=1e-9, rtol=0)
    torch.testing.assert_close(packed, expected, atol=1e-6, rtol=0)
    assert abs(float(packed[0] - packed[1])) > 1e-3


def with_towers(model: Any, sequence: TokenSequence, shown: Any, with_sound: bool) -> torch.Tensor:
    """The answer's log-probability as transformers computes it from pixels and sound."""
    sizes = {-200: [IDS["video_token_id"]] * len(sequence.visual.tokens)}
    if with_sound:
        sizes[-300] = [IDS["audio_token_id"]] * len(sequence.sound.tokens)
    ids = torch.tensor([[token for one in sequence.ids for token in sizes.get(one, [one])]])
    heard = {"input_features": shown.mel, "feature_attention_mask": shown.mel_mask} if with_sound else {}
    logits = model(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values_videos=shown.pixels,
        video_grid_thw=shown.grid,
        video_second_per_grid=torch.tensor([shown.seconds_per_slot]),
        **heard,
    ).logits[0]
    count = len(sequence.ids) - sequence.response_start
    return logits[:-1].log_softmax(-1).gather(1, ids[0, 1:, None])[-count:, 0].sum()


def test_a_model_of_avems_own_is_scored_as_it_scores_itself(tmp_path):
    kit = make_kit(tmp_path)
    model = load_model(kit.model)
    made = [model.sequence("What?", answer) for answer in ("joy", "anger now")]
    with torch.no_grad():
        assert torch.equal(score(model, made), model.response_logprobs(made))


def test_kept_scores_are_computed_once_and_belong_to_their_weights(tmp_path, monkeypatch):
    counts: list[int] = []
    real = scoring.score
    monkeypatch.setattr(
        scoring, "score", lambda model, wanted, **options: counts.append(len(wanted)) or real(model, wanted, **options)
    )
    model = llama()
    first = cached_score(model, SEQUENCES, tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(first, real(model, SEQUENCES), atol=1e-9, rtol=0)
    assert torch.equal(cached_score(model, SEQUENCES[::-1], tmp_path), first.flip(0))
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", r=2, init_lora_weights=False))
    assert torch.equal(cached_score(adapted, SEQUENCES, tmp_path), first)  # the reference has no adapter
    assert counts == [len(SEQUENCES)]
    other = cached_score(llama(seed=1), SEQUENCES, tmp_path)
    assert counts == [len(SEQUENCES)] * 2
    assert not torch.allclose(first, other)


def test_media_and_ids_are_part_of_a_kept_scores_key():
    tokens = torch.zeros(2, 4)
    plain = TokenSequence([1, -200, 2, 3], 3, visual=EmbeddedMedia(tokens))
    others = [
        TokenSequence([1, -200, 2, 3], 2, visual=EmbeddedMedia(tokens)),
        TokenSequence([1, -200, 2, 3], 3, visual=EmbeddedMedia(tokens + 1)),
        TokenSequence([1, -200, 2, 3], 3, visual=EmbeddedMedia(tokens, torch.zeros(3, 2, dtype=torch.int64))),
        TokenSequence([1, -200, 2, 4], 3, visual=EmbeddedMedia(tokens)),
    ]
    keys = {scoring.sequence_key(one) for one in (plain, *others)}
    assert len(keys) == 5
    assert scoring.sequence_key(TokenSequence(plain.ids, 3, visual=EmbeddedMedia(tokens.clone()))) in keys


def test_what_can_not_be_scored_is_refused():
    model = llama()
    with pytest.raises(PromptError, match="Sequence 0 has no response"):
        score(model, [TokenSequence([1, 2], 2)])
    with pytest.raises(PromptError, match="no video features"):
        score(model, [TokenSequence([1, -200, 2, 3], 3)])
    with pytest.raises(PromptError, match=r"shape \[2, 4\]; \[axes, 3\] is needed"):
        score(model, [TokenSequence([1, -200, 2], 2, visual=EmbeddedMedia(torch.zeros(3, 32), torch.zeros(2, 4)))])
    virtual = get_peft_model(llama(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(SettingError, match="virtual tokens"):
        score(virtual, SEQUENCES)
    recurrent = MambaForCausalLM(MambaConfig(vocab_size=42, hidden_size=16, num_hidden_layers=1, state_size=4))
    with pytest.raises(SettingError, match="score with share_prefixes=False"):
        score(recurrent, SEQUENCES)


def test_nothing_to_score_is_nothing():
    assert score(llama(), []).shape == (0,)


def test_the_door_is_lazy():
    import subprocess
    import sys

    code = "import sys, avem.prefix; assert 'torch' not in sys.modules and 'trl' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path.home())
