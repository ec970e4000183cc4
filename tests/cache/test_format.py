"""The page on the format is enough to read a store without avem."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.cache.helpers import make_store

PAGE = Path(__file__).parents[2] / "docs/store.md"


def test_the_example_of_the_page_reads_a_row(tmp_path):
    store = make_store(tmp_path / "cache", clips=10)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    code = code.replace("dfew/00042", "toy/006").replace("languagebind-video", "tiny-video")
    code += "\nnp.save('row.npy', features)\n"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert np.array_equal(np.load(tmp_path / "row.npy"), store.video([6])[0].numpy())


def test_the_tree_is_what_the_page_says(tmp_path):
    make_store(tmp_path / "cache", clips=3, dtype="int8")
    files = {str(path.relative_to(tmp_path / "cache")) for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    arrays = {
        f"{kind}/tiny-{kind}/{name}" for kind in ("video", "audio") for name in ("features", "pooled", "scale", "error")
    }
    axes = {
        "video": {"features": 4, "pooled": 2, "scale": 3, "error": 1},
        "audio": {"features": 3, "pooled": 2, "scale": 2, "error": 1},
    }
    expected = {
        "zarr.json",
        "clips.parquet",
        "video/zarr.json",
        "audio/zarr.json",
        "ledger/lock",
        "ledger/video.lock",
        "ledger/audio.lock",
        "ledger/history.jsonl",
        "ledger/clips.parquet",
        "ledger/root.json",
        "video/tiny-video/zarr.json",
        "audio/tiny-audio/zarr.json",
    }
    for array in arrays:
        kind, _, name = array.split("/")
        expected |= {f"{array}/zarr.json", f"{array}/c" + ".0" * axes[kind][name]}
    assert files == expected
