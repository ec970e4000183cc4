"""The epoch plan: every row once, a pure function of its arguments, and packing that never changes a number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avem.cache import FeatureStore
from avem.train.data.examples import PreferenceExample, preference_examples
from avem.train.data.features import ClipFeatures
from avem.train.data.negatives import choose_negatives, match
from avem.train.data.rows import read_preferences
from avem.train.packing.epoch import Packing, group_rows, plan_digest, plan_epoch, summarise
from avem.train.packing.specs import SequenceBuilder
from avem.train.preference import PreferenceObjective
from avem.train.settings.config import PreferenceConfig
from tests.train.model_kit import tiny_model
from tests.train.training_kit import Kit, make_kit

PAIRINGS = ("mutual", "grouped", "independent")


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> Kit:
    return make_kit(tmp_path_factory.mktemp("plan"))


@pytest.fixture(scope="module")
def model():
    return tiny_model(video_projector="linear", audio_projector="stack-mlp")


@pytest.fixture(scope="module")
def builder(kit, model) -> SequenceBuilder:
    return SequenceBuilder(model, FeatureStore.open(kit.store))


@pytest.fixture(scope="module")
def examples(kit, builder) -> list[PreferenceExample]:
    config = PreferenceConfig(**kit.preference_settings(Path("unused")))
    return preference_examples(read_preferences(kit.prefs), FeatureStore.open(kit.store), builder, config)


@given(
    pairing=st.sampled_from(PAIRINGS),
    rows_per_step=st.integers(1, 30),
    budget=st.integers(50, 5000),
    seed=st.integers(0, 5),
    world=st.integers(1, 3),
)
@settings(max_examples=40)
def test_every_row_is_in_exactly_one_micro_batch(examples, builder, pairing, rows_per_step, budget, seed, world):
    packing = Packing(pairing, rows_per_step, budget)
    steps = plan_epoch(examples, builder, packing, seed=seed, world_size=world)
    assert sorted(index for step in steps for index in step.rows) == list(range(len(examples)))
    assert all(len(step.ranks) == world for step in steps)
    again = plan_epoch(examples, builder, packing, seed=seed, world_size=world)
    assert plan_digest(again) == plan_digest(steps)


def test_epochs_and_seeds_have_their_own_order(examples, builder):
    packing = Packing("mutual", 4, 4000)
    digests = {
        plan_digest(plan_epoch(examples, builder, packing, seed=seed, epoch=epoch))
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(digests) == 4


def test_micro_batches_keep_to_the_token_budget(examples, builder):
    budget = 1200
    steps = plan_epoch(examples, builder, Packing("grouped", 12, budget), seed=0)
    for step in steps:
        for batch in step.ranks[0]:
            specs = [spec for index in batch for spec in examples[index].specs]
            held = {node: size for spec in specs for node, size in builder.pieces(spec)}
            assert sum(held.values()) <= budget or len(batch) == 1


def test_groups_are_clips_or_pairs_that_serve_each_other(examples):
    for group in group_rows(examples, "grouped"):
        assert len({examples[index].clip for index in group}) == 1
    pairs = [{examples[index].clip for index in group} for group in group_rows(examples, "mutual")]
    assert sum(len(pair) == 2 for pair in pairs) >= 3
    for pair in pairs:
        if len(pair) == 2:
            assert any(row.partner in pair for row in examples if row.clip in pair)


def test_sharing_counts_less_work_the_closer_rows_are_packed(examples, builder):
    tokens = {}
    for pairing in PAIRINGS:
        steps = plan_epoch(examples, builder, Packing(pairing, 100, 10**6 if pairing != "independent" else 1), seed=0)
        tokens[pairing] = summarise(steps, examples, builder)
    assert tokens["mutual"].tokens <= tokens["grouped"].tokens < tokens["independent"].tokens
    assert tokens["independent"].tokens < tokens["independent"].plain_tokens
    assert len({summary.plain_tokens for summary in tokens.values()}) == 1


def test_token_counts_are_those_of_the_model(examples, builder, model, kit):
    store = FeatureStore.open(kit.store)
    for example in examples[:4]:
        for spec in example.specs:
            media = ClipFeatures(store, [spec], torch.device("cpu"), 0).media([spec])
            sequence = builder.sequence(spec, media)
            assert model.embed(sequence).shape[0] == builder.length(spec)
            assert builder.answer_tokens(spec) == len(sequence.ids) - sequence.response_start


@pytest.fixture(scope="module")
def plain(kit, examples, builder) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient with every row by itself."""
    return loss_and_gradient(kit, examples, builder, "independent", 1)


@pytest.mark.parametrize(
    ("pairing", "budget"), [("mutual", 700), ("mutual", 10**6), ("grouped", 700), ("independent", 1500)]
)
def test_loss_and_gradient_of_a_set_of_rows_do_not_depend_on_packing(kit, examples, builder, plain, pairing, budget):
    loss, gradient = loss_and_gradient(kit, examples, builder, pairing, budget)
    torch.testing.assert_close(loss, plain[0], rtol=1e-10, atol=1e-12)
    # transformers' RMS norm works in float32 whatever the model's type
    assert (gradient - plain[1]).norm() <= 1e-6 * plain[1].norm()


def loss_and_gradient(kit, examples, builder, pairing, budget) -> tuple[torch.Tensor, torch.Tensor]:
    model = builder._model
    model.zero_grad(set_to_none=True)
    features = ClipFeatures(
        FeatureStore.open(kit.store), [spec for row in examples for spec in row.specs], torch.device("cpu"), 100
    )
    constants = dict.fromkeys((spec for row in examples for spec in (*row.scores.values(), *row.texts.values())), -50.0)
    objective = PreferenceObjective(
        examples, builder, constants, PreferenceConfig(**kit.preference_settings(kit.store))
    )
    steps = plan_epoch(examples, builder, Packing(pairing, len(examples), budget), seed=0)
    losses = torch.zeros(len(examples), dtype=torch.float64)
    for step in steps:
        for batch in step.ranks[0]:
            values, _ = objective.losses(model, batch, features.media([]))
            (values.sum() / len(examples)).backward()
            losses[list(batch)] = values.detach()
    parameters = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return losses, torch.cat(parameters)


tables = st.integers(2, 12).flatmap(
    lambda clips: st.lists(st.lists(st.integers(-1, clips - 1), min_size=3, max_size=3), min_size=clips, max_size=clips)
)


@given(tables, st.integers(0, 3))
@settings(max_examples=60)
def test_a_negative_is_always_one_of_the_mined_ones(rows, seed):
    table = np.array(rows, dtype=np.int32)
    clips = [clip for clip in range(len(table)) for _ in range(2)]
    chosen = choose_negatives(clips, ["audio"] * len(clips), {"audio": table}, seed)
    for clip, negative in zip(clips, chosen, strict=True):
        mined = [int(b) for b in table[clip] if b >= 0]
        assert negative in mined if mined else negative == -1
    assert chosen == choose_negatives(clips, ["audio"] * len(clips), {"audio": table}, seed)


def test_matching_takes_the_heaviest_pairs_and_nobody_twice():
    partner = match({(0, 1): 1, (1, 2): 5, (2, 3): 1, (0, 3): 2}, seed=0)
    assert partner == {1: 2, 2: 1, 0: 3, 3: 0}
