"""Emotion-LLaMA against the authors' code: prompts, projections, log-probabilities, generation and gradients."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from avem.train import load_model
from avem.train.families.emotion_llama.adapters import adapter_parameters
from avem.train.families.emotion_llama.checkpoint import read_released, released_name
from avem.train.families.emotion_llama.importing import ReleasedFiles, import_released
from avem.train.families.emotion_llama.projections import FACE, FRAME, MOTION, SOUND, Projections
from avem.train.families.emotion_llama.prompts import GENERATE, TRAIN, EmotionPrompt, Turn, clean_answer, prompt_text
from avem.train.model.generate import generate_ids
from avem.train.model.sequences import AUDIO_ID, VIDEO_FRAME_ID
from avem.train.model.tokenizers import load_tokenizer

ALPHA = 16  # in no file: the authors' training settings


@pytest.fixture(scope="module")
def folder(golden):
    return golden / "emotion_llama"


@pytest.fixture(scope="module")
def io(folder):
    return {name: torch.from_numpy(value) for name, value in np.load(folder / "io.npz").items()}


@pytest.fixture(scope="module")
def texts(folder):
    return json.loads((folder / "texts.json").read_text())


@pytest.fixture(scope="module")
def tokenizer(folder):
    return load_tokenizer(folder / "llama")


def projections(path):
    released = read_released(path)
    made = Projections(released.sizes)
    made.load_state_dict(released.projections, strict=False)
    return made


def streams(io, tokens="eva_tokens"):
    vectors = dict(zip((FACE, MOTION, SOUND), io["utterance"].unbind(1), strict=True))
    return {FRAME: io[tokens], **vectors}


@pytest.fixture(scope="module")
def imported(folder, tmp_path_factory):
    return import_golden(folder, tmp_path_factory.mktemp("imported") / "model")


def import_golden(folder, out, checkpoint="checkpoint.pth"):
    files = ReleasedFiles(
        folder / "llama", folder / checkpoint, folder / "eva_vit.pth", folder / "hubert", folder / "eva_config.json"
    )
    import_released(files, out, lora_alpha=ALPHA)
    return out


def of_row(io, number):
    return {name: rows[number] for name, rows in streams(io).items()}


def asked(row):
    return {"task": row["task"], "subtitle": row["subtitle"]}


def sequences(model, io, texts, **options):
    return [
        model.sequence(row["question"], row["raw_answer"], streams=of_row(io, row["row"]), **asked(row), **options)
        for row in texts["rows"]
    ]


def close(actual, expected, tolerance):
    np.testing.assert_allclose(actual.detach().numpy(), expected.numpy(), atol=tolerance, rtol=0)


def expanded(ids, count):
    """Ids in the notation of the golden data: -1 for each token of the image, then -2 to -5 for one token each."""
    seen = iter([-1, -2, -3, -5])
    kinds = [next(seen) if token == VIDEO_FRAME_ID else -4 if token == AUDIO_ID else token for token in ids]
    return [token for one in kinds for token in ([one] * count if one == -1 else [one])]


def test_projections_equal_reference(folder, io):
    made = projections(folder / "checkpoint.pth")
    close(made.ln_vision(io["eva_tokens"]), io["ln_tokens"], 5e-5)
    close(made(streams(io)), io["projected"], 5e-5)


def test_a_norm_in_the_file_is_taken(folder, io):
    made = projections(folder / "checkpoint_with_ln_vision.pth")
    close(made.ln_vision(io["eva_tokens"]), io["alt_ln_tokens"], 5e-5)
    close(made(streams(io)), io["alt_projected"], 5e-5)


def test_prompts_equal_reference(io, texts, tokenizer):
    prompts = EmotionPrompt(tokenizer)
    count = io["projected"].shape[1] - 4
    for row in texts["rows"]:
        number, asked = row["row"], {"task": row["task"], "subtitle": row["subtitle"]}
        assert prompt_text(row["question"], **asked) == row["train_prompt"]
        answer = clean_answer(row["raw_answer"])
        assert answer == row["answer"]
        shown = {**asked, "image_tokens": count}
        turn = prompts.encode(Turn(row["question"], answer, **shown), TRAIN)
        assert expanded(turn.ids, count) == io[f"train_ids_{number}"].tolist()
        targets = io[f"train_targets_{number}"]
        shift = len(targets) - len(turn.ids)
        counted = [place + shift for place in range(turn.response_start, len(turn.ids)) if place not in turn.uncounted]
        assert counted == torch.nonzero(targets >= 0)[:, 0].tolist()
        assert counted == (io[f"train_positions_{number}"] + 1).tolist()
        assert [turn.ids[place - shift] for place in counted] == io[f"train_answer_ids_{number}"].tolist()
        generated = prompts.encode(Turn(row["question"], None, **shown), GENERATE)
        assert expanded(generated.ids, count) == io[f"gen_prompt_ids_{number}"].tolist()
    limit = int(io["train_truncated_max_txt_len"])
    cut = EmotionPrompt(tokenizer, max_answer_tokens=limit).answer_ids(texts["rows"][1]["answer"])
    assert cut == io["train_truncated_ids"].tolist()
    assert cut[-1] != tokenizer.eos_token_id


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_probabilities_equal_reference(imported, io, texts, dtype):
    model = load_model(imported, dtype=dtype)
    assert model.family == "emotion_llama"
    close(model.media_tokens(streams(io)), io["projected"].to(dtype), 5e-5)
    scored = sequences(model, io, texts)
    for number, sequence in enumerate(scored):
        close(model.embed(sequence)[: len(io[f"train_embeds_{number}"])], io[f"train_embeds_{number}"], 5e-5)
    with torch.no_grad():
        for share in (False, True):
            sums = model.response_logprobs(scored, share_prefixes=share)
            close(sums, io["train_sum_logp"].to(sums.dtype), 5e-4)
            close(sums, io["train_sum_logp_batched"].to(sums.dtype), 5e-4)


def test_token_log_probabilities_and_logits_equal_reference(imported, io, texts):
    model = load_model(imported)
    for number, sequence in enumerate(sequences(model, io, texts)):
        with torch.no_grad():
            logits = model.language_model(inputs_embeds=model.embed(sequence)[None]).logits[0]
        close(logits[::8], io[f"train_every8_logits_{number}"], 2e-4)
        answer, places = io[f"train_answer_ids_{number}"], io[f"train_positions_{number}"]
        close(logits[places], io[f"train_answer_logits_{number}"], 2e-4)
        picked = logits[places].double().log_softmax(-1).gather(1, answer[:, None])[:, 0]
        close(picked, io[f"train_token_logp_{number}"], 1e-4)


def test_a_norm_in_the_file_changes_the_scores_as_in_the_reference(folder, io, texts, tmp_path):
    model = load_model(import_golden(folder, tmp_path / "model", "checkpoint_with_ln_vision.pth"))
    with torch.no_grad():
        sums = model.response_logprobs(sequences(model, io, texts))
    close(sums, io["alt_train_sum_logp"].float(), 5e-4)
    assert (io["alt_train_sum_logp"] - io["train_sum_logp"]).abs().min() > 5e-3


def test_answers_after_the_generation_prompt(imported, io, texts):
    model = load_model(imported)
    with torch.no_grad():
        sums = model.response_logprobs(sequences(model, io, texts, prompt_format=GENERATE))
    expected = [io[f"gen_answer_token_logp_{number}"].sum() for number in range(len(sums))]
    close(sums, torch.stack(expected).float(), 5e-4)


def test_generation_equals_reference(imported, io, texts):
    model = load_model(imported)
    prompts = [model.prompt(row["question"], streams=of_row(io, row["row"]), **asked(row)) for row in texts["rows"]]
    for number, prompt in enumerate(prompts):
        close(model.embed(prompt), io[f"gen_embeds_{number}"], 5e-5)
    for size in (1, len(prompts)):
        found = generate_ids(model, prompts, 8, batch_size=size)
        for number, ids in enumerate(found):
            expected = [token for token in io[f"gen_ids_{number}"].tolist()[1:] if token != 2]
            assert ids == expected


def test_losses_equal_reference(imported, io, texts):
    model = load_model(imported)
    with torch.no_grad():
        sums = model.response_logprobs(sequences(model, io, texts))
    counts = torch.tensor([len(io[f"train_positions_{row['row']}"]) for row in texts["rows"]])
    close(-sums / counts, io["train_loss"], 1e-4)
    close(-sums.sum() / counts.sum(), io["train_loss_batched"], 1e-4)
    padded = io["train_batch_targets"].shape[1]
    close(
        -sums / (padded - 1), io["train_loss_none_batched"], 1e-4
    )  # their reduction "none" divides by the padding too


def test_padded_batches_hold_the_rows_by_themselves(imported, io, texts):
    """The reference pads training rows on the right and prompts on the left; avem pads nothing."""
    model = load_model(imported)
    for number, sequence in enumerate(sequences(model, io, texts)):
        size = int(io["train_batch_attention_mask"][number].sum())
        row = model.embed(sequence)
        assert size == len(row)
        close(row, io["train_batch_embeds"][number, :size], 5e-5)
    for row in texts["rows"]:
        prompt = model.embed(model.prompt(row["question"], streams=of_row(io, row["row"]), **asked(row)))
        mask, padded = io["gen_batch_attention_mask"][row["row"]], io["gen_batch_embeds"][row["row"]]
        assert mask.tolist() == [0] * (len(mask) - len(prompt)) + [1] * len(prompt)
        close(prompt, padded[-len(prompt) :], 5e-5)


def test_logits_of_each_generated_token_equal_reference(imported, io, texts):
    model = load_model(imported)
    table = model.language_model.get_input_embeddings()
    for row in texts["rows"]:
        number = row["row"]
        prompt = model.embed(model.prompt(row["question"], streams=of_row(io, number), **asked(row)))
        new = io[f"gen_ids_{number}"][1:]
        expected = io[f"gen_step_logits_{number}"]
        with torch.no_grad():
            fed = torch.cat([prompt, table(new[: len(expected) - 1])])[None]
            logits = model.language_model(inputs_embeds=fed).logits[0]
        close(logits[-len(expected) :], expected, 2e-4)
        assert expected.argmax(-1).tolist() == new[: len(expected)].tolist()


def test_the_demo_shows_zeros_for_face_and_motion(imported, io):
    model = load_model(imported)
    zeros = torch.zeros_like(io["utterance"][:1, 0])
    shown = {FRAME: io["eva_tokens"][1:2], FACE: zeros, MOTION: zeros, SOUND: io["demo_sound_utterance"][None]}
    tokens = model.media_tokens(shown)
    close(tokens, io["demo_projected"], 5e-5)
    close(io["demo_sound_utterance"], io["hubert_utterance_0"], 5e-5)
    ids = io["demo_prompt_ids"]
    table = model.language_model.get_input_embeddings()
    embeddings = table(ids.clamp(min=0)).detach().clone()
    embeddings[ids < 0] = tokens[0].detach()
    close(embeddings, io["demo_embeds"], 5e-5)


def test_gradients_equal_reference(imported, io, texts, folder):
    model = load_model(imported)
    model.add_lora(model.config.lora_rank, model.config.lora_scale)  # trains the released adapters further
    for side in ("video", "audio"):
        for layer in model.projectors(side):
            layer.requires_grad_(True)
    counted = sum(len(io[f"train_positions_{row['row']}"]) for row in texts["rows"])
    loss = -model.response_logprobs(sequences(model, io, texts)).sum() / counted
    np.testing.assert_allclose(loss.item(), io["train_loss_batched"].item(), atol=1e-5)
    loss.backward()
    found = {released_name(name): one.grad for name, one in adapter_parameters(model.peft_model).items()}
    found |= {name: one.grad for name, one in model.projections.named_parameters() if one.grad is not None}
    expected = {name.removeprefix("grad/"): value for name, value in io.items() if name.startswith("grad/")}
    norms = json.loads((folder / "manifest.json").read_text())["grad_norm"]
    assert found.keys() == norms.keys()
    for name, value in expected.items():
        close(found[name], value, 1e-4)
    for name, norm in norms.items():
        np.testing.assert_allclose(found[name].norm().item(), norm, rtol=1e-4)
