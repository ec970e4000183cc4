"""The page on the format is enough to read a store without avem."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from avem.cache import FeatureStore, RowDetails, StoreWriter
from tests.cache.helpers import make_store, ragged_spec, ragged_values

PAGE = Path(__file__).parents[2] / "docs/store.md"


ROWS, BYTES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
"""The page's two examples."""


def run(code: str, folder: Path, more: str) -> None:
    code = code.replace("dfew/00042", "toy/006").replace("languagebind-video", "tiny-video")
    subprocess.run([sys.executable, "-c", f"{code}\n{more}\n"], cwd=folder, check=True)


@pytest.mark.parametrize("code", [ROWS, BYTES], ids=["zarr", "bytes"])
def test_the_examples_of_the_page_read_a_row(tmp_path, code):
    store = make_store(tmp_path / "cache", clips=10)
    run(
        code,
        tmp_path,
        "np.save('row.npy', features)\nimport sys\nassert 'avem.cache' not in sys.modules",
    )
    assert np.array_equal(np.load(tmp_path / "row.npy"), store.video([6])[0].numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_the_reader_of_the_page_reads_every_array(tmp_path, dtype):
    """Fixed rows, rows of any length, companions and scales, with zarr and numpy alone."""
    make_store(tmp_path / "cache", clips=10, dtype=dtype)
    writer = StoreWriter.open(tmp_path / "cache")
    stream = writer.stream(ragged_spec(dtype))
    for shard in stream.pending():
        features, pooled, companions = ragged_values(shard.rows)
        stream.write(shard, features, pooled, [RowDetails()] * len(shard.rows), companions)
    store, name = FeatureStore.open(tmp_path / "cache"), "frame/tiny-patches"
    scaled = " * read(stream, 'scale', row)[..., None]" if dtype == "int8" else ""
    loop = f"""
for stream in {store.streams}:
    for row in range(10):
        np.save(f"{{stream.replace('/', '.')}}-{{row}}.npy", read(stream, 'features', row){scaled})
for row in range(10):
    np.save(f"grid-{{row}}.npy", read("{name}", "grid", row))
    np.save(f"levels-{{row}}.npy", read("{name}", "levels", row))
"""
    run(ROWS, tmp_path, loop)
    for stream in store.streams:
        for row in range(10):
            found = np.load(tmp_path / f"{stream.replace('/', '.')}-{row}.npy")
            wanted = store.stream(stream).rows([row])[0]
            if dtype == "int8":
                found = found.astype(np.float16)
            assert np.array_equal(found, wanted.float().numpy() if dtype == "bfloat16" else wanted.numpy())
    for row in range(10):
        for companion in ("grid", "levels"):
            found = np.load(tmp_path / f"{companion}-{row}.npy")
            assert np.array_equal(found, store.stream(name).companion(companion, [row])[0].numpy())


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
