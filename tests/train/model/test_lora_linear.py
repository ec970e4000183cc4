"""Adding the adapter to the weight gives peft's outputs and gradients, and steps aside where it does not fit."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from avem.train.model.layers import lora_linear
from avem.train.model.layers.lora_linear import merge_in_products


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 5, bias=False)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


@pytest.fixture
def pair():
    torch.manual_seed(0)
    plain = get_peft_model(Layer().double(), LoraConfig(r=2, lora_alpha=6, target_modules=["first", "second"]))
    for name, parameter in plain.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, dtype=torch.float64)
    merged = copy.deepcopy(plain)
    merge_in_products(merged)
    return plain, merged


def gradients(model, x):
    x = x.clone().requires_grad_()
    output = model(x)
    torch.autograd.backward(output.pow(3).sum())
    return [output.detach(), x.grad, *(p.grad for p in model.parameters() if p.requires_grad)]


def test_outputs_and_gradients_are_pefts(pair, monkeypatch):
    used = []
    real = lora_linear.LoraProduct.apply
    monkeypatch.setattr(lora_linear.LoraProduct, "apply", lambda *args: (used.append(1), real(*args))[1])
    x = torch.randn(3, 7, 6, dtype=torch.float64)
    found = zip(gradients(pair[1], x), gradients(pair[0], x), strict=True)
    for merged, plain in found:
        torch.testing.assert_close(merged, plain, atol=1e-10, rtol=1e-10)
    assert len(used) == 2


def test_it_steps_aside(pair):
    plain, merged = pair
    short = torch.randn(2, 6, dtype=torch.float64)
    torch.testing.assert_close(merged(short), plain(short), atol=0, rtol=0)
    x = torch.randn(9, 6, dtype=torch.float64)
    with merged.disable_adapter(), plain.disable_adapter():
        torch.testing.assert_close(merged(x), plain(x), atol=0, rtol=0)
    half = merged.bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16
