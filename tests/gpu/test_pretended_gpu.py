"""Runs `paths.py` in processes of their own: registering a device changes a whole process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PATHS = Path(__file__).with_name("paths.py")


@pytest.mark.parametrize("chosen", ["training", "not training"])
def test_every_path_runs_on_the_pretended_gpu(chosen):
    command = [sys.executable, "-m", "pytest", str(PATHS), "-k", chosen, "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(command, cwd=PATHS.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout or "[100%]" in done.stdout
