"""Fixtures for every room."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)  # tiny models: more threads only wait for each other

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data beside the repository; tests that need it are skipped without it."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the folder of reference data beside the repository is not here")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Reference inputs and outputs."""
    return shared / "golden"
