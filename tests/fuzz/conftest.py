"""How many broken files are tried."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(scope="session")
def fuzz_cases() -> int:
    """Cases for each kind of file; set AVEM_FUZZ_CASES for more."""
    return int(os.environ.get("AVEM_FUZZ_CASES", "16"))
