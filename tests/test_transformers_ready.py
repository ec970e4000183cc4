"""A torchvision that does not fit this torch never breaks training or extraction."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TRAINING = "import avem.train.model.lora, avem.train.preference, peft; print('trained')"
TOWERS = """
from avem.extract.encoders.omni.towers import CLASSES
from importlib import import_module
for place, name in CLASSES.values():
    getattr(import_module(f"transformers.models.{place}"), name)
print("trained")
"""

OPERATOR = """
import torch

@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold):
    return dets
"""
"""What PyPI's torchvision does at its import where its operators do not load."""
BROKEN = {
    "operators": (OPERATOR, ""),
    "other build": ("raise RuntimeError('PyTorch and torchvision were compiled with different CUDA versions')", "CUDA"),
    "missing library": ("raise OSError('libcudart.so.13: cannot open shared object file')", "libcudart"),
    "half removed": ("from torchvision import extension", "extension"),
}


def write_torchvision(folder: Path, body: str) -> None:
    """A package that looks installed, by its metadata too."""
    package = folder / "torchvision"
    (package / "transforms" / "v2").mkdir(parents=True)
    (package / "__init__.py").write_text(body)
    (package / "io.py").write_text("")
    modes = "class InterpolationMode:\n" + "".join(
        f"    {name} = '{name}'\n"
        for name in ("NEAREST", "NEAREST_EXACT", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")
    )
    (package / "transforms" / "__init__.py").write_text(modes)
    (package / "transforms" / "functional.py").write_text("def pil_to_tensor(picture): ...\n")
    (package / "transforms" / "v2" / "__init__.py").write_text("from . import functional\n")
    (package / "transforms" / "v2" / "functional.py").write_text(modes)
    info = folder / "torchvision-0.28.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")


@pytest.mark.parametrize("code", [TRAINING, TOWERS], ids=["training", "extraction"])
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_torchvision_breaks_nothing(fault, code, tmp_path):
    body, said = BROKEN[fault]
    write_torchvision(tmp_path, body)
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "trained"
    assert said in done.stderr


def test_without_the_remedy_peft_would_not_load(tmp_path):
    """The fault is real: the same package breaks a bare `import peft`."""
    write_torchvision(tmp_path, BROKEN["operators"][0])
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport peft"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "torchvision" in done.stderr or "Bloom" in done.stderr


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_bitsandbytes_says_nothing_to_users_of_other_models():
    done = subprocess.run([sys.executable, "-c", "import avem.train.preference, peft"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
