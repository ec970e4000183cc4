"""A language model that takes gradients and computes what it computes in evaluation."""

from __future__ import annotations

import torch


def train_without_dropout(language_model: torch.nn.Module) -> None:
    """Ready a language model for gradients with every module computing as in evaluation.

    Reference scores are taken in evaluation. Under the base's own dropout, jitter or dropped layers the policy would
    differ from its reference before it learned anything. Only modules that recompute activations in the backward
    pass are marked as training, since transformers does that in training alone; their own dropout rates become 0.

    Args:
        language_model: A transformers model, with or without adapter; it is changed.
    """
    language_model.eval()
    for module in language_model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True
            for name, value in vars(module).items():
                if ("drop" in name or "jitter" in name) and isinstance(value, float):
                    setattr(module, name, 0.0)
