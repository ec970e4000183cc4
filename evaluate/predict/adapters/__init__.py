"""Adapters for multimodal models that transformers knows, by the `model_type` of their configuration."""

from avem.evaluate.predict.adapters.base import Adapter
from avem.evaluate.predict.adapters.registry import ADAPTERS, adapter_class, adapter_for, load_adapter

__all__ = ["ADAPTERS", "Adapter", "adapter_class", "adapter_for", "load_adapter"]
