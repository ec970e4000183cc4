"""Generation: cached and shared decoding gives what whole forward passes give."""

from __future__ import annotations

import pytest
import torch
from model_kit import byte_tokenizer, random_audio, random_video, tiny_config, tiny_language_model, tiny_model

from avem.errors import PromptError, SettingError
from avem.train import AudiovisualLM, ScoredSequence
from avem.train.model.generate import generate_ids, make_batches

VIDEO, OTHER, AUDIO = random_video(0), random_video(1), random_audio(0)


@pytest.fixture(scope="module", params=["llama-gqa", "gemma2"])
def model(request) -> AudiovisualLM:
    return tiny_model(request.param)


@torch.no_grad()
def greedy_by_hand(model: AudiovisualLM, prompt: ScoredSequence, count: int) -> list[int]:
    """The whole sequence again for every token."""
    ids = prompt.ids.tolist()
    for _ in range(count):
        sequence = ScoredSequence(ids, prompt.video_features, prompt.audio_features, prompt.response_start)
        ids.append(int(model.language_model(inputs_embeds=model.embed(sequence)[None]).logits[0, -1].argmax()))
    return ids[prompt.response_start :]


def test_windowed_attention_beyond_its_window():
    language_model = tiny_language_model("mistral", sliding_window=40).double()
    model = AudiovisualLM.create(language_model, byte_tokenizer(), tiny_config())
    prompts = mixed_prompts(model)
    expected = [greedy_by_hand(model, prompt, 4) for prompt in prompts]
    assert generate_ids(model, prompts, 4, stop_at_end=False) == expected


def mixed_prompts(model: AudiovisualLM) -> list[ScoredSequence]:
    return [
        model.prompt("Why?", VIDEO, AUDIO),
        model.prompt("Is there a smile in the clip?", VIDEO, AUDIO),
        model.prompt("Why?", OTHER, AUDIO),
        model.prompt("Why?", VIDEO, AUDIO),
        model.prompt("What is heard?", None, AUDIO),
        model.prompt("Who?"),
    ]


def test_greedy_equals_whole_passes(model):
    prompts = mixed_prompts(model)
    expected = [greedy_by_hand(model, prompt, 6) for prompt in prompts]
    for batch_size in (1, 2, 16):
        assert generate_ids(model, prompts, 6, stop_at_end=False, batch_size=batch_size) == expected


def test_answers_stop_at_the_end_token(model):
    prompt = model.prompt("Why?", VIDEO, AUDIO)
    long = generate_ids(model, [prompt], 8, stop_at_end=False)[0]
    last = next(place for place in range(7, -1, -1) if long[place] not in long[:place])
    settings, before = model.language_model.generation_config, model.language_model.generation_config.eos_token_id
    settings.eos_token_id = [long[last]]
    try:
        assert generate_ids(model, [prompt], 8) == [long[:last]]
    finally:
        settings.eos_token_id = before


def test_text_comes_back_without_special_tokens(model):
    answers = model.generate(mixed_prompts(model), 4)
    assert len(answers) == 6
    assert all(isinstance(answer, str) and "<s>" not in answer for answer in answers)


def test_samples_depend_on_the_seed_alone(model):
    prompts = [model.prompt("Why?", VIDEO, AUDIO)] * 3
    first = generate_ids(model, prompts, 12, temperature=2.0, seed=1, stop_at_end=False)
    assert generate_ids(model, prompts, 12, temperature=2.0, seed=1, stop_at_end=False) == first
    assert generate_ids(model, prompts, 12, temperature=2.0, seed=2, stop_at_end=False) != first
    assert first[0] != first[1]


def test_cold_or_narrow_sampling_is_greedy(model):
    prompt = model.prompt("Why?", VIDEO, AUDIO)
    greedy = generate_ids(model, [prompt], 6, stop_at_end=False)
    assert generate_ids(model, [prompt], 6, temperature=1e-4, stop_at_end=False) == greedy
    assert generate_ids(model, [prompt], 6, temperature=1.0, top_p=1e-6, stop_at_end=False) == greedy


def test_batches_share_media_and_cover_everything_once():
    paths = [[1, -1, 2, 3], [1, -1, 2, 4], [1, -2, 5], [1, -1, 2, 3], [6], [7, 8]]
    batches = list(make_batches(paths, 2))
    assert sorted(number for batch in batches for number in batch.numbers) == [0, 1, 2, 3, 4, 5]
    for batch in batches:
        assert len(batch.numbers) <= 2
        for number, rest in zip(batch.numbers, batch.rests, strict=True):
            assert rest
            assert [*batch.prefix, *rest] == paths[number]
    assert batches[0].prefix == [1, -1, 2]


@pytest.mark.parametrize(
    "numbers", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"batch_size": 0}]
)
def test_numbers_out_of_range(model, numbers):
    with pytest.raises(SettingError, match="Generation needs"):
        generate_ids(model, [], **{"max_new_tokens": 3, **numbers})


def test_answers_must_fit_the_context(model):
    with pytest.raises(PromptError, match="the context holds 2048"):
        model.generate([model.prompt("Why?")], 2000)


def test_no_prompts(model):
    assert model.generate([], 3) == []
