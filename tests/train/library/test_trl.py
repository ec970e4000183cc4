"""TRL's DPO trainer over shared prefixes: TRL's losses, gradients and metrics, references kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

trl = pytest.importorskip("trl", reason="needs avem[trl]")

from datasets import Dataset  # noqa: E402 - comes with trl
from peft import LoraConfig, get_peft_model  # noqa: E402

from avem.errors import SettingError  # noqa: E402
from avem.prefix import PrefixDPOTrainer  # noqa: E402
from avem.train.library.keys import KEYS, KeyedCollator, row_key  # noqa: E402
from tests.train.library_kit import llama, llava, picture_rows, preference_rows, tokenizer  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::ResourceWarning")

TOLERANCE = 1e-5
"""Of losses, float32."""


def policy(adapters: bool = True) -> Any:
    model = llama(torch.float32)
    if not adapters:
        return model
    torch.manual_seed(3)
    return get_peft_model(model, LoraConfig(target_modules="all-linear", r=2))


def move(model: Any) -> None:
    """Change what is trained as training would, so that policy and reference differ."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and ("lora_B" in name or "lora" not in name):
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def trainer_of(kind: type, out: Path, model: Any, **settings: Any) -> Any:
    own = {
        name: settings.pop(name) for name in ("ref_model", "reference_cache", "rows", "processing") if name in settings
    }
    options = {
        "output_dir": str(out),
        "report_to": "none",
        "use_cpu": True,
        "per_device_train_batch_size": 4,
        "gradient_checkpointing": False,
        "bf16": False,
        "dataloader_pin_memory": False,
        "max_length": None,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "learning_rate": 1e-3,
        "max_steps": 3,
        **settings,
    }
    rows = Dataset.from_list(own.pop("rows", None) or preference_rows())
    args = trl.DPOConfig(**options)
    processing = own.pop("processing", None) or tokenizer()
    return kind(model, args=args, train_dataset=rows, processing_class=processing, **own)


def first_loss(trainer: Any) -> tuple[float, list[torch.Tensor], dict[str, float]]:
    """Loss of the first batch, its gradients, and TRL's metrics of it."""
    move(trainer.model)
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, batch)
    learned = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    metrics = {name: values[0] for name, values in trainer._metrics["train"].items()}
    return loss.item(), list(torch.autograd.grad(loss, learned, allow_unused=True)), metrics


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precompute_ref_log_probs": True},
        {"loss_type": ["ipo"]},
        {"loss_type": ["robust"], "label_smoothing": 0.1},
        {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        {"use_weighting": True},
        {"ld_alpha": 0.5},
        {"gradient_checkpointing": True},
    ],
    ids=lambda settings: ",".join(settings) or "default",
)
def test_losses_gradients_and_metrics_are_trls(tmp_path, settings):
    expected = first_loss(trainer_of(trl.DPOTrainer, tmp_path / "trl", policy(), **settings))
    found = first_loss(trainer_of(PrefixDPOTrainer, tmp_path / "avem", policy(), **settings))
    assert found[0] == pytest.approx(expected[0], abs=TOLERANCE)
    for mine, theirs in zip(found[1], expected[1], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-3)
    assert found[2] == pytest.approx(expected[2], rel=1e-4, abs=1e-4)
    assert expected[2]["rewards/margins"] != 0


def test_a_whole_run_logs_the_losses_of_trls(tmp_path):
    runs = []
    for kind in (trl.DPOTrainer, PrefixDPOTrainer):
        trainer = trainer_of(kind, tmp_path / kind.__name__, policy())
        trainer.train()
        runs.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(runs[0]) == 3
    assert runs[1] == pytest.approx(runs[0], abs=2e-4)
    assert runs[0][0] != runs[0][-1]


def test_a_prompt_goes_through_the_model_once(tmp_path):
    sizes: dict[type, int] = {}
    for kind in (trl.DPOTrainer, PrefixDPOTrainer):
        trainer, seen = trainer_of(kind, tmp_path / kind.__name__, policy(), precompute_ref_log_probs=True), []
        layer = trainer.model.get_base_model().model.layers[0]
        layer.register_forward_pre_hook(lambda layer, inputs, seen=seen: seen.append(inputs[0].shape[:2].numel()))
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.compute_loss(trainer.model, batch)
        sizes[kind] = seen[0]
    rows = [{name: row[name].split() for name in row} for row in preference_rows()[:4]]
    answers = sum(
        len(row["chosen"]) + len(row["rejected"]) for row in rows
    )  # their last token, <end>, predicts nothing
    assert sizes[PrefixDPOTrainer] <= 2 * 12 + 4 * 3 + answers  # two texts, four questions
    assert sizes[trl.DPOTrainer] > 2 * sizes[PrefixDPOTrainer]


@pytest.mark.parametrize("adapters", [True, False])
def test_references_are_kept_and_found_by_a_later_run(tmp_path, adapters, monkeypatch):
    more = {} if adapters else {"ref_model": llama(torch.float32)}
    expected = first_loss(trainer_of(trl.DPOTrainer, tmp_path / "trl", policy(adapters), **more))
    counted: list[int] = []
    real = PrefixDPOTrainer.compute_ref_log_probs
    monkeypatch.setattr(
        PrefixDPOTrainer,
        "compute_ref_log_probs",
        lambda self, model, inputs: counted.append(1) or real(self, model, inputs),
    )
    for run in range(2):
        more = {} if adapters else {"ref_model": llama(torch.float32)}
        trainer = trainer_of(
            PrefixDPOTrainer, tmp_path / str(run), policy(adapters), reference_cache=tmp_path / "kept", **more
        )
        found = first_loss(trainer)
        assert found[0] == pytest.approx(expected[0], abs=TOLERANCE)
        assert found[2] == pytest.approx(expected[2], rel=1e-4, abs=1e-4)
        assert len(counted) == 1  # by the first run alone


def test_another_reference_is_another_cache(tmp_path):
    kept = tmp_path / "kept"
    trainer_of(PrefixDPOTrainer, tmp_path / "one", policy(), reference_cache=kept)
    changed = policy()
    with torch.no_grad():
        changed.get_base_model().lm_head.weight.add_(1e-3)
    trainer_of(PrefixDPOTrainer, tmp_path / "two", changed, reference_cache=kept)
    trainer_of(PrefixDPOTrainer, tmp_path / "three", policy(), reference_cache=kept)
    assert len(list((kept / "logprobs").iterdir())) == 2


def test_a_run_with_kept_references_trains_and_evaluates_as_trls(tmp_path):
    logs = []
    for kind, more in ((trl.DPOTrainer, {}), (PrefixDPOTrainer, {"reference_cache": tmp_path / "kept"})):
        trainer = trainer_of(kind, tmp_path / kind.__name__, policy(), **more)
        trainer.train()
        evaluated = trainer.evaluate(eval_dataset=trainer.train_dataset)
        logs.append(
            [entry["loss"] for entry in trainer.state.log_history if "loss" in entry] + [evaluated["eval_loss"]]
        )
    assert logs[1] == pytest.approx(logs[0], abs=2e-4)


def test_references_of_rows_with_pictures_are_kept_which_trl_refuses(tmp_path, monkeypatch):
    def seeing() -> dict[str, Any]:
        model, processor = llava()
        torch.manual_seed(3)
        adapted = get_peft_model(model, LoraConfig(target_modules=r".*language_model.*(q|v)_proj", r=2))
        return {"model": adapted, "rows": picture_rows(), "processing": processor}

    with pytest.raises(ValueError, match="not supported for vision datasets"):
        trainer_of(trl.DPOTrainer, tmp_path / "refused", precompute_ref_log_probs=True, **seeing())
    expected = first_loss(trainer_of(trl.DPOTrainer, tmp_path / "trl", **seeing()))
    counted: list[int] = []
    real = PrefixDPOTrainer.compute_ref_log_probs
    monkeypatch.setattr(
        PrefixDPOTrainer,
        "compute_ref_log_probs",
        lambda self, model, inputs: counted.append(1) or real(self, model, inputs),
    )
    for run in range(2):
        trainer = trainer_of(PrefixDPOTrainer, tmp_path / str(run), reference_cache=tmp_path / "kept", **seeing())
        found = first_loss(trainer)
        assert found[0] == pytest.approx(expected[0], abs=TOLERANCE)
        assert found[2] == pytest.approx(expected[2], rel=1e-4, abs=1e-4)
        for mine, theirs in zip(found[1], expected[1], strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-3)
        assert len(counted) == 1  # by the first run alone
    layer, seen = trainer.model.get_base_model().model.language_model.layers[0], []
    layer.register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].shape[:2]))
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.compute_loss(trainer.model, batch)
    assert len(seen) == 1
    assert seen[0][0] == 1  # one packed row, with fewer tokens than the padded ones
    assert seen[0][1] < 0.7 * batch["input_ids"].numel()
    (file,) = (tmp_path / "kept" / "logprobs").glob("*/scores-*.tsv")
    assert file.read_text().count("\n") == 8  # two rows of one text have different pictures


def test_keys_differ_where_rows_differ():
    row = {"prompt_ids": [1, 2], "chosen_ids": [3], "rejected_ids": [4], "images": [torch.zeros(2, 2).numpy()]}
    keys = {row_key(row, side).tobytes() for side in ("chosen", "rejected")}
    for change in (
        {"prompt_ids": [1]},
        {"chosen_ids": [5]},
        {"images": [torch.ones(2, 2).numpy()]},
        {"prompt_ids": [12]},
    ):
        keys.add(row_key({**row, **change}, "chosen").tobytes())
    assert len(keys) == 6
    assert row_key({**row, "rejected_ids": [9]}, "chosen").tobytes() == row_key(row, "chosen").tobytes()
    batch = KeyedCollator(lambda examples: {"input_ids": len(examples)})([row, row])
    assert batch[KEYS].shape == (2, 2, 4)
    assert batch["input_ids"] == 2


def test_contradictions_are_refused(tmp_path):
    with pytest.raises(SettingError, match="set precompute_ref_log_probs=False"):
        trainer_of(
            PrefixDPOTrainer, tmp_path, policy(), precompute_ref_log_probs=True, reference_cache=tmp_path / "kept"
        )
