"""The reference implementation's numbers, from projected tokens to greedy answers."""

from __future__ import annotations

import torch

from avem.train import AudiovisualLM, ScoredSequence
from avem.train.model.generate import generate_ids

TOLERANCE = 1e-4


def reference_sequence(golden, whisper_states, number, prefix="", video=True, audio=True):
    """One reference sample as a ScoredSequence: its ids, and the response start from its labels."""
    ids = golden.tensor(f"{prefix}input_ids")[number]
    labels = golden.tensor(f"{prefix}labels")[number]
    keep = ids != 0
    return ScoredSequence(
        ids[keep],
        golden.tensor("video_features")[number] if video else None,
        whisper_states[number] if audio else None,
        int((labels[keep] != -100).nonzero()[0]),
    )


def test_projected_tokens(avere_model: AudiovisualLM, avere_golden, whisper_states):
    with torch.no_grad():
        video = avere_model.project_video(avere_golden.tensor("video_features"))
        audio = avere_model.project_audio(whisper_states)
    expected = avere_golden.tensor("projected_video").flatten(1, 2)
    torch.testing.assert_close(video, expected, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(audio, avere_golden.tensor("projected_audio"), atol=TOLERANCE, rtol=0)


def test_spliced_embeddings_and_logits(avere_model, avere_golden, whisper_states):
    start = int(avere_golden.arrays["logits_tail_start"])
    for number in range(3):
        sequence = reference_sequence(avere_golden, whisper_states, number)
        valid = avere_golden.tensor("spliced_attention_mask")[number].bool()
        with torch.no_grad():
            embeddings = avere_model.embed(sequence)
            logits = avere_model.language_model(inputs_embeds=embeddings[None]).logits[0]
        expected = avere_golden.tensor("spliced_inputs_embeds")[number][valid]
        torch.testing.assert_close(embeddings, expected, atol=TOLERANCE, rtol=0)
        tail = avere_golden.tensor("logits_tail")[number][valid[start:]]
        torch.testing.assert_close(logits[start:], tail, atol=TOLERANCE, rtol=0)
        every16 = avere_golden.tensor("logits_every16")[number][valid[::16]]
        torch.testing.assert_close(logits[::16], every16, atol=TOLERANCE, rtol=0)


def test_summed_logprobs_with_and_without_sharing(avere_model, avere_golden, whisper_states):
    sequences = [reference_sequence(avere_golden, whisper_states, number) for number in range(3)]
    for share in (True, False):
        with torch.no_grad():
            scores = avere_model.response_logprobs(sequences, share_prefixes=share)
        torch.testing.assert_close(scores.double(), avere_golden.tensor("sum_logp"), atol=1e-3, rtol=0)


def test_single_modalities_score_alike_in_one_call(avere_model, avere_golden, whisper_states):
    kinds = [("video_only_", True, False), ("audio_only_", False, True), ("text_only_", False, False)]
    sequences = [
        reference_sequence(avere_golden, whisper_states, 0, prefix, video, audio) for prefix, video, audio in kinds
    ]
    with torch.no_grad():
        scores = avere_model.response_logprobs(sequences)
    expected = torch.cat([avere_golden.tensor(f"{prefix}sum_logp") for prefix, _, _ in kinds])
    torch.testing.assert_close(scores.double(), expected, atol=1e-3, rtol=0)


def test_prompts_reproduce_the_reference_ids(avere_model, avere_golden, whisper_states):
    for number, sample in enumerate(avere_golden.texts["samples"]):
        question = sample["prompt"].removeprefix("<video>\n<audio>\n")
        expected = reference_sequence(avere_golden, whisper_states, number)
        video = avere_golden.tensor("video_features")[number]
        made = avere_model.sequence(question, sample["answer"], video, whisper_states[number])
        assert made.ids.tolist() == expected.ids.tolist()
        assert made.response_start == expected.response_start


def test_prompts_with_fewer_modalities(avere_model, avere_golden, whisper_states):
    sample = avere_golden.texts["samples"][0]
    question = sample["prompt"].removeprefix("<video>\n<audio>\n")
    video, audio = avere_golden.tensor("video_features")[0], whisper_states[0]
    for prefix, media in (("video_only_", (video, None)), ("audio_only_", (None, audio)), ("text_only_", (None, None))):
        made = avere_model.sequence(question, sample["answer"], *media)
        assert made.ids.tolist() == avere_golden.tensor(f"{prefix}input_ids")[0].tolist()
        labels = avere_golden.tensor(f"{prefix}labels")[0]
        assert made.response_start == int((labels != -100).nonzero()[0])


def test_audio_before_video(avere_model, avere_golden, whisper_states):
    ids = avere_golden.tensor("infer_order_input_ids")[0]
    sequence = ScoredSequence(ids, avere_golden.tensor("video_features")[0], whisper_states[0], len(ids))
    with torch.no_grad():
        logits = avere_model.language_model(inputs_embeds=avere_model.embed(sequence)[None]).logits[0, -1]
    torch.testing.assert_close(logits, avere_golden.tensor("infer_order_logits_last")[0], atol=TOLERANCE, rtol=0)


def test_evaluation_prompt_and_greedy_answer(avere_model, avere_golden, whisper_states):
    question = avere_golden.texts["samples"][0]["prompt"].removeprefix("<video>\n<audio>\n")
    video, audio = avere_golden.tensor("video_features")[0], whisper_states[0]
    prompt = avere_model.prompt(question, video, audio, prompt_format="llava_v1")
    assert prompt.ids.tolist() == avere_golden.tensor("eval_input_ids")[0].tolist()
    assert prompt.response_start == len(prompt.ids)
    new = generate_ids(avere_model, [prompt], max_new_tokens=12, stop_at_end=False)
    assert new == avere_golden.tensor("eval_greedy_new_ids").tolist()


def test_tokenizer_cases(avere_model, avere_golden):
    for case in avere_golden.texts["tokenizer_cases"]:
        assert avere_model.tokenizer(case["text"]).input_ids == case["ids"], case["text"]
