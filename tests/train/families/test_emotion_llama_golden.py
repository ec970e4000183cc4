"""Emotion-LLaMA against the authors' code: prompts, projections, log-probabilities, generation and gradients."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from avem.train.families.emotion_llama.adapters import adapter_parameters, attach_adapters
from avem.train.families.emotion_llama.checkpoint import read_released, released_name
from avem.train.families.emotion_llama.projections import FACE, FRAME, MOTION, SOUND, Projections
from avem.train.families.emotion_llama.prompts import GENERATE, TRAIN, EmotionPrompt, clean_answer, prompt_text
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


def close(actual, expected, tolerance):
    np.testing.assert_allclose(actual.detach().numpy(), expected.numpy(), atol=tolerance, rtol=0)


def expanded(ids, count):
    """Ids in the notation of the golden data, where the image's id stands once for each of its tokens."""
    return [token for one in ids for token in ([one] * count if one == -1 else [one])]


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
        turn = prompts.encode(row["question"], answer, layout=TRAIN, **asked)
        assert expanded(turn.ids, count) == io[f"train_ids_{number}"].tolist()
        targets = io[f"train_targets_{number}"]
        shift = len(targets) - len(turn.ids)
        counted = [place + shift for place in range(turn.response_start, len(turn.ids)) if place not in turn.uncounted]
        assert counted == torch.nonzero(targets >= 0)[:, 0].tolist()
        assert counted == (io[f"train_positions_{number}"] + 1).tolist()
        assert [turn.ids[place - shift] for place in counted] == io[f"train_answer_ids_{number}"].tolist()
        generated = prompts.encode(row["question"], None, layout=GENERATE, **asked)
        assert expanded(generated.ids, count) == io[f"gen_prompt_ids_{number}"].tolist()
    limit = int(io["train_truncated_max_txt_len"])
    cut = EmotionPrompt(tokenizer, max_answer_tokens=limit).answer_ids(texts["rows"][1]["answer"])
    assert cut == io["train_truncated_ids"].tolist()
    assert cut[-1] != tokenizer.eos_token_id
