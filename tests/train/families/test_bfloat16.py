"""bfloat16 for every family: scores against float64, packed against single, the policy against its reference before the
first step, a run that was stopped, and steps cut into micro-batches.

Measured for these models: up to 0.002 nats a token against float64 and 0.0004 between ways of packing, and 0.05 for a
short answer.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from avem.cache import FeatureStore
from avem.train import load_model, score_answers, train_preferences
from avem.train.answers import score_specs
from avem.train.data.features import ClipFeatures
from avem.train.packing.specs import ScoreSpec, SequenceBuilder
from avem.train.run import loop
from avem.train.run.watch import SPEEDS
from tests.train.families.worlds import FAMILIES, World, make_world
from tests.train.training_kit import weights_of

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*pattern keys did not match:RuntimeWarning", "ignore:.*is_gradient_checkpointing:FutureWarning"
)
ROUNDING, PACKING, SHORT = 5e-3, 2e-3, 0.15
"""Bounds in nats a token: of a score against float64, and of a score against the same one in another pack; and what a
short answer may be off."""
SPEECH = "She smiles and nods, but her voice is low and shakes; she looks away twice. "


@pytest.fixture(scope="module", params=FAMILIES)
def world(request, tmp_path_factory) -> World:
    return make_world(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def store(world) -> FeatureStore:
    return FeatureStore.open(world.store)


@pytest.fixture(scope="module")
def model(world):
    return load_model(world.model, dtype=torch.bfloat16)


def asked(world: World) -> list[tuple[str, str, str]]:
    """Long answers, of which some share a beginning; Emotion-LLaMA's context is short here."""
    long = SPEECH * (3 if world.family == "emotion_llama" else 8)
    return [
        ("toy/000", "Why?", long),
        ("toy/000", "Why so?", long + "Yes."),
        ("toy/001", "Why?", "No. " + long),
        ("toy/001", "What?", "Joy."),
    ]


def tokens_of(model, answers) -> torch.Tensor:
    return torch.tensor([float(len(model.tokenizer(answer).input_ids)) for _, _, answer in answers])


def in_float64(world: World):
    """The same weights, rounded to bfloat16, in a format that adds no error of its own."""
    exact = load_model(world.model, dtype=torch.bfloat16).double()
    if world.family == "qwen3_omni":
        exact.language_model.set_experts_implementation("eager")  # grouped products know no float64
    return exact


@torch.no_grad()
def test_scores_are_near_float64_packed_or_single(world, store, model):
    answers = asked(world)
    lengths = tokens_of(model, answers)
    exact = score_answers(in_float64(world), store, answers)
    packed = score_answers(model, store, answers)
    single = score_answers(model, store, answers, share_prefixes=False)
    others = torch.cat([score_answers(model, store, answers[number : number + 1]) for number in range(len(answers))])
    assert packed.dtype == single.dtype == torch.float32
    assert ((packed - exact).abs() < SHORT + ROUNDING * lengths).all()
    assert ((packed - single).abs() < SHORT + PACKING * lengths).all()
    assert ((packed - others).abs() < SHORT + PACKING * lengths).all()
    assert (packed - exact).abs().max() > 1e-5  # it is bfloat16


@torch.no_grad()
def test_nothing_after_the_last_layer_is_rounded_to_bfloat16(world, store, model):
    """From the hidden states that enter the output layer, float64 gives the same sums to float32's precision."""
    answers, seen = asked(world)[:1], []
    layer = model.language_model.get_output_embeddings()
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0]))
    score = score_answers(model, store, answers)[0]
    hook.remove()
    assert layer.weight.dtype == torch.bfloat16
    assert "forward" not in vars(layer)  # generation has the layer as it was
    builder = SequenceBuilder(model, store)
    row = int(store.rows(["toy/000"])[0])
    spec = ScoreSpec(*answers[0][1:], row, row, None)
    ids, start = builder.ids(spec)
    logprobs = (seen[0].double() @ layer.weight.double().T).log_softmax(-1)  # [response tokens, V]
    assert len(logprobs) == len(ids) - start
    exact = logprobs.gather(1, torch.tensor(ids[start:])[:, None]).sum()
    assert abs(float(score - exact)) < 1e-6 * abs(float(exact))


@torch.no_grad()
def test_layers_multiply_in_bfloat16_and_add_in_float32(world, store, model):
    products, streams, hooks = set(), set(), []
    for name, part in model.language_model.named_modules():
        if name.endswith(("q_proj", "o_proj")):
            hooks.append(part.register_forward_hook(lambda _, __, output: products.add(output.dtype)))
        if name.endswith("post_attention_layernorm"):
            hooks.append(part.register_forward_pre_hook(lambda _, inputs: streams.add(inputs[0].dtype)))
    score_answers(model, store, asked(world)[2:])
    for hook in hooks:
        hook.remove()
    assert products == {torch.bfloat16}
    assert streams == {torch.float32}


def test_a_policy_starts_as_its_reference(world, store):
    """In one pack a new adapter changes no bit; the pack that the constants were scored in is another one."""
    model = load_model(world.model, dtype=torch.bfloat16)
    builder = SequenceBuilder(model, store)
    rows = [int(row) for row in store.rows(["toy/000", "toy/001"])]
    specs = [ScoreSpec("Why?", answer, row, row, None) for row in rows for answer in ("Joy.", SPEECH, SPEECH + "Yes.")]
    media = ClipFeatures(builder.streams, specs, model.device, 100, torch.bfloat16).media(specs)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        reference = score_specs(model, builder, specs, media)
        model.add_lora(2, 4.0)
        policy = score_specs(model, builder, specs, media)
    if world.family == "emotion_llama":  # its released adapters are folded into the weights first
        reference = score_again(model, builder, specs, media)
    assert torch.equal(policy, reference)


def score_again(model, builder, specs, media):
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), model.adapter_disabled():
        return score_specs(model, builder, specs, media)


def lines_of(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in SPEEDS} for line in lines]


def test_a_stopped_run_resumes_bit_for_bit_and_micro_batches_change_little(world, tmp_path, monkeypatch):
    settings = {"max_steps": 3, "save_every": 1}
    monkeypatch.setattr(loop, "matmul_peak", lambda *_: 1e12)  # minutes on a processor without bfloat16
    whole = train_preferences(world.config(tmp_path / "whole", **settings))

    step = loop.Loop.step

    def stopped(self, number, media, stop=None):
        if number == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, media, stop)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_preferences(world.config(tmp_path / "resumed", **settings))
    assert len(lines_of(tmp_path / "resumed")) == 2
    resumed = train_preferences(world.config(tmp_path / "resumed", **settings))
    assert lines_of(resumed) == lines_of(whole)
    expected, found = weights_of(whole), weights_of(resumed)
    assert all(torch.equal(found[name], expected[name]) for name in expected)

    small = train_preferences(world.config(tmp_path / "small", max_steps=1, tokens_per_batch=1))
    first, cut = lines_of(whole)[0], lines_of(small)[0]
    assert cut["tokens"] > first["tokens"]  # rows that are computed apart share no prefix
    assert cut["loss"] == pytest.approx(first["loss"], abs=2e-2)
    assert cut["grad_norm"] == pytest.approx(first["grad_norm"], rel=5e-2)
    for line in (first, cut):  # rewards are 0.1 (log pi_theta - log pi_ref) before the first update
        for name in ("reward_w", "reward_l", "reward_w_given_l"):
            assert abs(line[name]) < 0.1 * (SHORT + PACKING * 60)
