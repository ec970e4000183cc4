"""Logits in float32 from weights of 16 bits: values, gradients, and layers that stay as they are."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from avem.train.model.layers import float32
from avem.train.model.layers.float32 import float32_logits, in_float32


def a_model(layer):
    return SimpleNamespace(get_output_embeddings=lambda: layer)


def a_layer(dtype, bias=False, outputs=37):
    torch.manual_seed(0)
    return nn.Linear(24, outputs, bias=bias).to(dtype)


@pytest.mark.parametrize("wide", [True, False], ids=["float32 states", "16-bit states"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_values_and_gradients_are_those_of_float32_weights(dtype, bias, wide, monkeypatch):
    monkeypatch.setattr(float32, "TOKENS_AT_ONCE", 10)  # four parts, the last one shorter
    layer = a_layer(dtype, bias)
    hidden = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(1)).to(torch.float32 if wide else dtype)
    hidden.requires_grad_()
    with float32_logits(a_model(layer)):
        logits = layer(hidden)
    assert logits.dtype == torch.float32
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (logits * weights).sum().backward()

    plain = nn.Linear(24, 37, bias=bias)
    plain.load_state_dict({name: value.float() for name, value in layer.state_dict().items()})
    states = hidden.detach().float().requires_grad_()
    expected = plain(states)
    (expected * weights).sum().backward()
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    pairs = [(hidden.grad, states.grad), (layer.weight.grad, plain.weight.grad)]
    for found, wanted in [*pairs, (layer.bias.grad, plain.bias.grad)] if bias else pairs:
        torch.testing.assert_close(
            found, wanted.to(found.dtype), atol=1e-5, rtol=1e-2 if found.dtype == dtype else 1e-5
        )


def test_autocast_does_not_round_logits():
    layer, hidden = a_layer(torch.float32), torch.randn(4, 24)
    with torch.autocast("cpu", torch.bfloat16), float32_logits(a_model(layer)):
        found = layer(hidden)
    assert torch.equal(found, layer(hidden))


def test_float64_stays():
    layer, hidden = a_layer(torch.float64), torch.randn(4, 24, dtype=torch.float64)
    with float32_logits(a_model(layer)):
        assert torch.equal(layer(hidden), nn.functional.linear(hidden, layer.weight))
    assert in_float32(hidden) is hidden


def test_the_layer_is_itself_afterwards_also_after_an_error():
    layer, hidden = a_layer(torch.bfloat16), torch.randn(4, 24).bfloat16()
    with pytest.raises(KeyError), float32_logits(a_model(layer)):
        raise KeyError
    assert layer(hidden).dtype == torch.bfloat16


def test_layers_of_other_kinds_are_left_alone():
    """Quantised ones, adapted ones, and those whose forward pass another library has replaced."""
    hooked = a_layer(torch.bfloat16)
    hooked.forward = lambda hidden: "hooked"
    for layer in (hooked, nn.Identity(), None):
        with float32_logits(a_model(layer)):
            if layer is not None:
                assert layer(torch.zeros(1)) == ("hooked" if layer is hooked else torch.zeros(1))
