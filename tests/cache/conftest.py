"""Fixtures for the store's tests."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """Tests end processes, never the power: what a killed process wrote is seen without waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
