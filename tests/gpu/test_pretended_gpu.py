"""Runs the paths in processes of their own: registering a device changes a whole process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("name", "chosen"), [("paths", "training"), ("paths", "not training"), ("four_bit_paths", "test")]
)
def test_every_path_runs_on_the_pretended_gpu(name, chosen):
    if name == "four_bit_paths":
        pytest.importorskip("bitsandbytes", reason="the extra avem[4bit] is not installed")
    file = str(HERE / f"{name}.py")
    command = [sys.executable, "-m", "pytest", file, "-k", chosen, "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout or "[100%]" in done.stdout
