"""The installed zarr, and the newest where `.ci/platforms` put it, read a store without avem."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from avem.cache import mine_negatives
from tests.cache.helpers import make_store

NEWEST = Path(__file__).parents[2] / ".venv/newest-zarr/bin/python"

READER = """
import sys
import numpy as np
import zarr

major, minor = (int(part) for part in zarr.__version__.split(".")[:2])
assert major == 3 and minor >= 1, zarr.__version__
store = zarr.open_group(sys.argv[1], mode="r")
kept = {}
for kind in ("video", "audio"):
    for name, array in store[f"{kind}/tiny-{kind}"].arrays():
        assert array.attrs["avem"]["encoder"] == f"tiny-{kind}"
        kept[f"{kind}_{name}"] = np.asarray(array[:])
kept["negatives"] = np.asarray(store["negatives/hard/audiovisual"][:])
np.savez(sys.argv[2], **kept)
print(zarr.__version__)
"""


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize("python", ["installed", "newest"])
def test_a_store_is_read_by_zarr_alone(tmp_path, python, dtype):
    interpreter = Path(sys.executable) if python == "installed" else NEWEST
    if not interpreter.is_file():
        pytest.skip("no .venv/newest-zarr; .ci/platforms makes it where a Python 3.12 or later is installed")
    store = make_store(tmp_path / "cache", clips=10, dtype=dtype)
    mine_negatives(store, k=1)
    command = [interpreter, "-W", "error", "-c", READER, tmp_path / "cache", tmp_path / "read.npz"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    if python == "newest":
        assert tuple(map(int, done.stdout.split(".")[:2])) >= (3, 2)
    read = np.load(tmp_path / "read.npz")
    for kind in ("video", "audio"):
        ours = store.features(kind, range(10))
        theirs = read[f"{kind}_features"]
        if dtype == "int8":
            theirs = (theirs * read[f"{kind}_scale"][..., None]).astype(np.float16)
            assert np.allclose(theirs, ours.numpy(), rtol=2e-3)
        else:
            bits = np.int16 if dtype == "bfloat16" else np.float16
            assert np.array_equal(theirs.view(bits), ours.view(dtype=getattr(torch, np.dtype(bits).name)))
        assert np.array_equal(read[f"{kind}_pooled"], store.pooled(kind))
    assert np.array_equal(read["negatives"], store.negatives("hard", "audiovisual"))
