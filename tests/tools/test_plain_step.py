"""The benchmark's plain step, written apart from the trainer, gives the trainer's loss and gradient."""

from __future__ import annotations

import math

import pytest
import torch

from avem.tools.project.benchmarks import omni_kit
from avem.tools.project.benchmarks.omni_step import CACHED, TOWERS, plain_side
from avem.tools.project.benchmarks.plain_step import PlainStep, with_plain_adapters
from avem.tools.project.benchmarks.step import Bench
from avem.tools.project.benchmarks.step_kit import Shape
from avem.train.data.rows import read_preferences
from avem.train.objective.constants import score_constants
from avem.train.objective.preference import PreferenceObjective
from avem.train.preference import PreferenceTraining
from avem.train.run.session import Session, prepare_model
from avem.train.settings.config import PreferenceConfig
from tests.train.training_kit import make_kit


@pytest.mark.parametrize("cached", [True, False])
def test_plain_and_packed_steps_agree(tmp_path, cached):
    kit = make_kit(tmp_path)
    config = PreferenceConfig(**kit.preference_settings(tmp_path / "run", learning_rate=1.0, max_grad_norm=1e9))
    session = Session.open(config)
    rows = PreferenceTraining(config).examples(session, read_preferences(kit.prefs))[:5]
    features = session.features(spec for row in rows for spec in row.specs)
    constants = score_constants(session, rows, features)
    prepare_model(session.model, config)
    torch.manual_seed(0)
    for name, parameter in session.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    objective = PreferenceObjective(rows, session.builder, constants, config)
    losses, _ = objective.losses(session.model, tuple(range(len(rows))), features.media([]))
    torch.autograd.backward(losses.mean())
    gradients = {name: p.grad for name, p in session.model.named_parameters() if p.requires_grad}

    plain = with_plain_adapters(session.model)
    plain.zero_grad()
    store = session.store
    shapes = {kind: store.spec(kind).row_shape for kind in store.kinds}
    step = PlainStep(
        plain,
        rows,
        lambda kind, clip: store.features(kind, [clip])[0],
        shapes,
        config,
        2,
        constants if cached else None,
    )
    found = {}
    trained = {name: p for name, p in plain.named_parameters() if p.requires_grad}
    step._optimizer.step = lambda: found.update({name: p.grad.clone() for name, p in trained.items()})
    assert step() == pytest.approx(losses.mean().item(), rel=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)


def test_sides_of_the_omni_step_have_one_loss(tmp_path):
    """Towers in the loop, cached scores and features, and avem's packed step, on a Qwen2.5-Omni-shaped model."""
    kit = omni_kit.make_kit(tmp_path, Shape(448, 1, 2, 1, 5, 4), (4, 6))
    bench = Bench.open(kit, "mutual")
    bench.avem_side("mutual")()
    for name in (TOWERS, CACHED):
        plain_side(bench, kit, name, rows_per_batch=2)()
    assert len(bench.losses) == 3
    assert max(bench.losses.values()) - min(bench.losses.values()) < 1e-4
    assert bench.losses[CACHED] != pytest.approx(2 * math.log(2), abs=1e-3)  # policy and reference differ
