"""Scores over a prefix tree equal scores one by one, values and gradients, whatever the tree and the model."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model_kit import FAMILIES, random_audio, random_video, tiny_config, tiny_language_model, tiny_model
from model_kit import byte_tokenizer as make_tokenizer
from transformers import GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from avem.errors import FingerprintError, PromptError, SettingError
from avem.train import AudiovisualLM, ScoredSequence
from avem.train.model.embedding import embed_atoms
from avem.train.model.sequences import AUDIO_ID, VIDEO_FRAME_ID, MediaBank
from avem.train.prefix import attention as attention_module
from avem.train.prefix.tree import plan_blocks

VIDEOS = [None, random_video(0), random_video(1), random_video(2, frames=2, tokens=5)]
AUDIOS = [None, random_audio(0), random_audio(1), random_audio(2, steps=9)]


@pytest.fixture(scope="module")
def models() -> dict[str, AudiovisualLM]:
    return {family: tiny_model(family) for family in FAMILIES}


@pytest.fixture(scope="module")
def float_model() -> AudiovisualLM:
    return tiny_model("llama-gqa", torch.float32)


def exact_norm(self, hidden: torch.Tensor) -> torch.Tensor:
    """Root-mean-square norm in the input's own format; transformers' rounds to float32 on the way."""
    return self.weight * hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


def some_sequences(model: AudiovisualLM) -> list[ScoredSequence]:
    """Two questions, two answers, six mixtures of media: 24 sequences that share a lot."""
    media = [(VIDEOS[v], AUDIOS[a]) for v, a in ((1, 1), (1, 2), (2, 1), (0, 1), (1, 0), (0, 0))]
    return [
        model.sequence(question, answer, *pair)
        for question in ("Why?", "What is heard?")
        for answer in ("Joy.", "Just rain.")
        for pair in media
    ]


def gradients(model: AudiovisualLM, sequences: list[ScoredSequence], share: bool) -> list[torch.Tensor]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    scores = model.response_logprobs(sequences, share_prefixes=share)
    weights = torch.linspace(-1, 1, len(sequences), dtype=scores.dtype)
    found = torch.autograd.grad((scores * weights).sum(), parameters, allow_unused=True)
    return [torch.zeros(1) if gradient is None else gradient for gradient in found]


@pytest.mark.parametrize("family", FAMILIES)
def test_families_score_alike(models, family):
    sequences = some_sequences(models[family])
    with torch.no_grad():
        shared = models[family].response_logprobs(sequences)
        plain = models[family].response_logprobs(sequences, share_prefixes=False)
    assert shared.dtype == torch.float64
    torch.testing.assert_close(shared, plain, atol=1e-9, rtol=0)
    assert plain.unique().numel() == len(sequences)


@pytest.mark.parametrize("limit", [1, 40, 1024])
@pytest.mark.parametrize("family", ["llama", "llama-gqa"])
def test_gradients_are_equal(models, family, limit, monkeypatch):
    monkeypatch.setattr(LlamaRMSNorm, "forward", exact_norm)
    monkeypatch.setattr(attention_module, "plan_blocks", lambda tree, _: plan_blocks(tree, limit))
    sequences = some_sequences(models[family])
    for shared, plain in zip(
        gradients(models[family], sequences, True), gradients(models[family], sequences, False), strict=True
    ):
        torch.testing.assert_close(shared, plain, atol=1e-9, rtol=1e-9)


def test_float32_is_close():
    model = tiny_model("llama-gqa", torch.float32)
    sequences = some_sequences(model)
    with torch.no_grad():
        shared = model.response_logprobs(sequences)
        plain = model.response_logprobs(sequences, share_prefixes=False)
    assert shared.dtype == torch.float32
    torch.testing.assert_close(shared, plain, atol=1e-4, rtol=0)


tokens = st.integers(5, 8)
recipes = st.lists(
    st.tuples(
        st.lists(tokens, min_size=1, max_size=6),
        st.integers(0, 3),
        st.integers(0, 3),
        st.booleans(),
        st.lists(tokens, max_size=6),
        st.lists(tokens, min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=9,
)


def make_sequence(recipe) -> ScoredSequence:
    system, video, audio, audio_first, question, answer = recipe
    frames = [VIDEO_FRAME_ID] * (0 if VIDEOS[video] is None else len(VIDEOS[video]))
    sound = [] if AUDIOS[audio] is None else [AUDIO_ID]
    media = [*sound, 5, *frames] if audio_first else [*frames, 5, *sound]
    prompt = [*system, *media, *question]
    return ScoredSequence([*prompt, *answer], VIDEOS[video], AUDIOS[audio], len(prompt))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(recipes, st.sampled_from(list(FAMILIES)), st.sampled_from([1, 6, 15, 1024]))
def test_random_trees_score_alike(models, monkeypatch, recipes, family, limit):
    monkeypatch.setattr(attention_module, "plan_blocks", lambda tree, _: plan_blocks(tree, limit))
    sequences = [make_sequence(recipe) for recipe in recipes]
    with torch.no_grad():
        shared = models[family].response_logprobs(sequences)
        plain = models[family].response_logprobs(sequences, share_prefixes=False)
    torch.testing.assert_close(shared, plain, atol=1e-9, rtol=0)


@settings(max_examples=10)
@given(recipes)
def test_random_trees_in_float32(float_model, recipes):
    sequences = [make_sequence(recipe) for recipe in recipes]
    with torch.no_grad():
        shared = float_model.response_logprobs(sequences)
        plain = float_model.response_logprobs(sequences, share_prefixes=False)
    torch.testing.assert_close(shared, plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("video", "audio"), [("linear", "stack-mlp"), ("qformer", "qformer")])
def test_every_projector_scores_alike(video, audio):
    model = tiny_model("llama-gqa", video_projector=video, audio_projector=audio)
    sequences = some_sequences(model)
    with torch.no_grad():
        shared = model.response_logprobs(sequences)
        plain = model.response_logprobs(sequences, share_prefixes=False)
    torch.testing.assert_close(shared, plain, atol=1e-9, rtol=0)


def test_order_and_duplicates_do_not_matter(models):
    model = models["llama"]
    sequences = some_sequences(model)[:6]
    with torch.no_grad():
        forward = model.response_logprobs(sequences)
        backward = model.response_logprobs([*sequences[::-1], *sequences])
    torch.testing.assert_close(backward[:6], forward.flip(0), atol=1e-9, rtol=0)
    torch.testing.assert_close(backward[6:], forward, atol=1e-9, rtol=0)


def test_each_medium_is_projected_once(models, monkeypatch):
    model = models["llama"]
    counts = []
    project = model.project_video
    monkeypatch.setattr(model, "project_video", lambda features: counts.append(len(features)) or project(features))
    clip = VIDEOS[1].clone()
    batch = torch.stack([clip, clip])
    sequences = [model.sequence("Q", answer, batch[0], None) for answer in ("a", "b", "c")]
    model.response_logprobs([*sequences, model.sequence("Q", "a", batch[1], None)])
    assert counts == [2]


def test_scores_are_log_softmax_sums(models):
    """By hand: logits of the whole sequence, shifted, at the response's tokens."""
    model = models["llama"]
    sequence = model.sequence("Q", "abc", VIDEOS[1], AUDIOS[1])
    logits = model.language_model(inputs_embeds=model.embed(sequence)[None]).logits[0].log_softmax(-1)
    response = sequence.ids[sequence.response_start :]
    before = len(logits) - len(response) - 1
    by_hand = sum(logits[before + place, token] for place, token in enumerate(response))
    torch.testing.assert_close(model.response_logprobs([sequence])[0], by_hand, atol=1e-9, rtol=0)


def test_nothing_to_score(models):
    assert models["llama"].response_logprobs([]).shape == (0,)
    with pytest.raises(PromptError, match="Sequence 0 has no response"):
        models["llama"].response_logprobs([models["llama"].prompt("Q")])


def test_gradient_checkpointing_keeps_scores_and_gradients():
    model = tiny_model("llama-gqa")
    sequences = some_sequences(model)
    expected = gradients(model, sequences, True)
    model.train()
    model.checkpoint_activations()
    for found, wanted in zip(gradients(model, sequences, True), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)


def test_adapters_score_alike():
    model = tiny_model("llama-gqa")
    sequences = some_sequences(model)
    base = model.response_logprobs(sequences).detach()
    model.add_lora(rank=2, scale=4.0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
        shared = model.response_logprobs(sequences)
        plain = model.response_logprobs(sequences, share_prefixes=False)
        with model.adapter_disabled():
            disabled = model.response_logprobs(sequences)
    torch.testing.assert_close(shared, plain, atol=1e-9, rtol=0)
    torch.testing.assert_close(disabled, base, atol=0, rtol=0)
    assert (shared - base).abs().min() > 1e-6


def test_windowed_attention_is_refused_only_where_it_matters():
    language_model = tiny_language_model("mistral", sliding_window=64).double()
    model = AudiovisualLM.create(language_model, make_tokenizer(), tiny_config())
    long = model.sequence("Q", "a", VIDEOS[1])
    with pytest.raises(SettingError, match="windows of 64 positions"):
        model.response_logprobs([long])
    assert model.response_logprobs([long], share_prefixes=False).isfinite().all()
    short = [ScoredSequence([5, *ending], None, None, 1) for ending in ([6, 7], [6, 8], [9])]
    torch.testing.assert_close(
        model.response_logprobs(short), model.response_logprobs(short, share_prefixes=False), atol=1e-9, rtol=0
    )


def test_other_positions_than_rotary_work_too():
    torch.manual_seed(0)
    language_model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4)).double().eval()
    model = AudiovisualLM.create(language_model, make_tokenizer(), tiny_config())
    sequences = some_sequences(model)
    with torch.no_grad():
        shared = model.response_logprobs(sequences)
        plain = model.response_logprobs(sequences, share_prefixes=False)
    torch.testing.assert_close(shared, plain, atol=1e-9, rtol=0)


def test_layers_outside_the_interface_are_noticed(models, monkeypatch):
    model = tiny_model("llama")
    monkeypatch.setattr(model.language_model.config, "num_hidden_layers", 3)
    with pytest.raises(SettingError, match="share_prefixes=False"):
        model.response_logprobs([model.sequence("Q", "a")])


def test_recurrent_models_are_scored_one_by_one():
    torch.manual_seed(0)
    language_model = MambaForCausalLM(MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2)).eval()
    model = AudiovisualLM.create(language_model, make_tokenizer(), tiny_config())
    sequence = model.sequence("Q", "a", VIDEOS[1])
    with pytest.raises(SettingError, match="MambaForCausalLM does not run all its layers"):
        model.response_logprobs([sequence])
    assert model.response_logprobs([sequence], share_prefixes=False).isfinite().all()


def test_attention_sinks_are_refused():
    row = torch.zeros(1, 2, 3, 4)
    with pytest.raises(SettingError, match="sinks"):
        attention_module.prefix_tree_attention(None, row, row, row, None, s_aux=torch.zeros(2))


def test_capped_attention_equals_transformers():
    language_model = tiny_language_model("gemma2").double()
    model = AudiovisualLM.create(language_model, make_tokenizer(), tiny_config())
    embeddings = model.embed(model.sequence("Q", "abc", VIDEOS[1], AUDIOS[1]))[None]
    with torch.no_grad():
        ours = model.language_model(inputs_embeds=embeddings).logits
        model.language_model.set_attn_implementation("eager")
        theirs = model.language_model(inputs_embeds=embeddings).logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_text_between_media_is_looked_up_once(models, monkeypatch):
    """Each lookup has a gradient as large as the table, so that their number counts where all weights are trained."""
    model = models["smollm2"]
    table = model.language_model.get_input_embeddings()
    looked_up, forward = [], table.forward
    monkeypatch.setattr(table, "forward", lambda ids: looked_up.append(len(ids)) or forward(ids))
    sequence = model.sequence("Why?", "Joy.", VIDEOS[1], AUDIOS[1])
    rows = model.embed(sequence)
    assert len(looked_up) == 1
    assert looked_up[0] < len(rows), "media are not text"
    without = model.embed(model.sequence("Why?", "Joy.", None, None))
    torch.testing.assert_close(rows[-4:], without[-4:])


def test_a_row_of_media_alone_is_embedded(models):
    model, bank = models["smollm2"], MediaBank()
    atoms = bank.atomise(model.sequence("Why?", "Joy.", VIDEOS[1], None), model.pieces)
    seen = [atom for atom in atoms if atom < 0]
    media = model.project_bank(bank)
    torch.testing.assert_close(embed_atoms(model, seen, media), torch.cat([media.tokens(atom) for atom in seen]))


def test_features_of_another_encoder(models):
    model = models["llama"]
    with pytest.raises(FingerprintError, match="7 channels but the model's projector was made for 6"):
        model.sequence("Q", "a", torch.zeros(4, 3, 7))
    with pytest.raises(FingerprintError, match="11 channels"):
        model.response_logprobs([ScoredSequence([5, AUDIO_ID, 6], None, torch.zeros(20, 11), 2)])


@pytest.mark.parametrize(
    ("ids", "video", "audio", "start", "message"),
    [
        ([5, -200, 6], None, None, 2, "1 video placeholders but no video"),
        ([5, -200, 6], VIDEOS[1], None, 2, "1 video placeholders, its features need 4"),
        ([5, 6], None, AUDIOS[1], 1, "0 audio placeholders, its features need 1"),
        ([5, 6], None, None, 0, "between 1 and 2"),
        ([5, 6], None, None, 3, "between 1 and 2"),
        ([[5, 6]], None, None, 1, "one dimension"),
        ([5, -300, 6], None, torch.zeros(3, 4, 5), 2, r"\[S, C\] is needed"),
        ([5, -7, 6], None, None, 2, "the id -7"),
        ([5, 6, -300, 7], None, AUDIOS[1], 1, "media belong before"),
    ],
)
def test_sequences_that_make_no_sense(ids, video, audio, start, message):
    with pytest.raises(PromptError, match=message):
        ScoredSequence(ids, video, audio, start)


def test_too_long_a_sequence_is_counted_and_refused(models):
    with pytest.raises(PromptError, match=r"fills \d+ positions, media included, and the context holds 2048"):
        models["llama"].sequence("Q" * 2000, "a", VIDEOS[1], AUDIOS[1])
    long = ScoredSequence([5] * 2045 + [AUDIO_ID, 6], None, AUDIOS[1], 2046)
    with pytest.raises(PromptError, match="fills 2056 positions"):
        models["llama"].response_logprobs([long])
