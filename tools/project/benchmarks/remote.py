"""Reading a store in a bucket: requests and seconds, against zarr-python and against plain parallel downloads.

python -m avem.tools.project.benchmarks.remote rows        # 16 rows: zarr-python as before, and avem
python -m avem.tools.project.benchmarks.remote whole       # whole shards, against `aws s3 cp`'s downloader
python -m avem.tools.project.benchmarks.remote clients     # fsspec and obstore on the same ranges

The bucket is moto's server in a process of its own, which waits 30 ms before each answer.
"""

from __future__ import annotations

import io
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import fsspec
import numpy as np
import torch
import typer

from avem.cache import FeatureStore, RowDetails, StoreWriter, StreamSpec
from avem.cache.disk.readers import ZarrRows
from avem.cache.remote.fetch import Fetcher
from avem.cache.remote.push import push
from avem.tools.project.benchmarks.bucket import in_own_process, options, used_by_fsspec
from avem.tools.project.benchmarks.measure import alternate, show
from avem.tools.project.benchmarks.store import records

app = typer.Typer(no_args_is_help=True, help=__doc__)

LATENCY_S = 0.03
ROWS_PER_SHARD = 64
URL = "s3://bucket/cache"
ARRAY = "video/benchmark/features"
SPEC = StreamSpec("video", "benchmark", {"benchmark": 1}, (8, 32, 256), 16, "float16", ROWS_PER_SHARD)
"""Rows of 131 KB: moto reads a whole object for each range, so a shard has 8 MB."""

Clips = Annotated[int, typer.Option(help="Clips, 64 to a shard.")]
Repeats = Annotated[int, typer.Option(help="Timed rounds.")]


class Server:
    """The server in another process."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/_bucket"
        self.port = port

    def ask(self, what: str) -> int:
        """Send a command; gives how many requests there were since the last count."""
        with urllib.request.urlopen(f"{self._url}/{what}") as reply:
            return int(reply.read())


@contextmanager
def _store(clips: int) -> Iterator[tuple[Server, Path]]:
    """A store in a bucket, and the same on the disk."""
    with tempfile.TemporaryDirectory() as name, in_own_process() as port, used_by_fsspec(port):
        path = Path(name) / "cache"
        writer = StoreWriter.open(path)
        writer.add_clips(records(clips), path)
        stream, random = writer.stream(SPEC), torch.Generator().manual_seed(0)
        for shard in stream.pending():
            size = len(shard.rows)
            features = torch.randn((size, *SPEC.sized(1)), generator=random)
            stream.write(shard, features, torch.ones((size, 16)), [RowDetails()] * size)
        writer.finish()
        fsspec.filesystem("s3").mkdir("bucket")
        push(path, URL)
        server = Server(port)
        server.ask(f"latency/{LATENCY_S}")
        yield server, path


@app.command()
def rows(clips: Clips = 64, repeats: Repeats = 5) -> None:
    """16 rows in any order and 16 that lie together, the array's metadata included; opening counts apart."""
    with _store(clips) as (server, path), tempfile.TemporaryDirectory() as reads:
        chance = np.random.default_rng(0)
        apart, together = chance.permutation(clips)[:16], np.arange(20, 36)
        expected = {False: FeatureStore.open(path).video(apart), True: FeatureStore.open(path).video(together)}
        table = []

        def measure(name: str, read: Callable[[], Any], check: torch.Tensor | None = None) -> None:
            seconds, requests = [], 0
            for _ in range(repeats):
                server.ask("count")
                begin = time.perf_counter()
                found = read()
                seconds.append(time.perf_counter() - begin)
                requests = server.ask("count")
                if check is not None and not torch.equal(found, check):
                    raise AssertionError(f"{name} read other rows")
            table.append((name, requests, f"{sorted(seconds)[len(seconds) // 2]:.2f}"))

        def zarr_rows(wanted: Any) -> torch.Tensor:
            opened = FeatureStore.open(URL)
            server.ask("count")
            found = torch.empty((len(wanted), *SPEC.sized(1)), dtype=torch.float16)
            ZarrRows(opened.location, ARRAY).read_into(wanted, found.view(torch.uint8).numpy().reshape(len(wanted), -1))
            return found

        measure("open", lambda: FeatureStore.open(URL))
        for name, wanted, same in (("16 random rows", apart, False), ("16 rows together", together, True)):
            fresh = [FeatureStore.open(URL) for _ in range(repeats)]
            measure(f"{name}, zarr-python (seconds with opening)", partial(zarr_rows, wanted), expected[same])
            measure(f"{name}, avem", partial(_next_rows, iter(fresh), wanted), expected[same])
            measure(f"{name}, avem, indexes known", partial(fresh[0].video, wanted), expected[same])
        cache = f"1GB:{reads}"
        FeatureStore.open(URL, read_cache=cache).video(apart)
        kept = iter([FeatureStore.open(URL, read_cache=cache) for _ in range(repeats)])
        measure("16 random rows, avem, read cache", partial(_next_rows, kept, apart), expected[False])
        show(f"{clips} clips, {LATENCY_S * 1e3:.0f} ms a request", ("read", "requests", "seconds"), table)


def _next_rows(stores: Iterator[FeatureStore], rows: Any) -> torch.Tensor:
    """Rows of a store of which nothing was read yet."""
    return next(stores).video(rows)


@app.command()
def whole(shards: Annotated[int, typer.Option()] = 8, repeats: Repeats = 5) -> None:
    """All rows of whole shards, against boto3's transfer manager, which `aws s3 cp` is made of, and plain threads."""
    import boto3  # type: ignore[import-untyped]
    from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]

    with _store(shards * ROWS_PER_SHARD) as (server, _):
        settings = options(server.port)
        client = boto3.client(
            "s3",
            endpoint_url=settings["client_kwargs"]["endpoint_url"],
            aws_access_key_id="k",
            aws_secret_access_key="s",
            region_name="us-east-1",
        )
        names = [f"cache/{ARRAY}/c.{index}.0.0.0" for index in range(shards)]
        store, wanted = FeatureStore.open(URL), np.arange(shards * ROWS_PER_SHARD)
        buffer = store.video(wanted)

        def download(name: str) -> int:
            sink = io.BytesIO()
            client.download_fileobj("bucket", name, sink, Config=TransferConfig(max_concurrency=10))
            return sink.getbuffer().nbytes

        def transfer() -> None:
            with ThreadPoolExecutor(10) as pool:
                list(pool.map(download, names))

        def plain() -> None:
            with ThreadPoolExecutor(10) as pool:
                list(pool.map(lambda name: client.get_object(Bucket="bucket", Key=name)["Body"].read(), names))

        sides = {"aws s3 cp's downloader": transfer, "10 threads, a get each": plain}
        seconds = alternate({**sides, "avem, rows checked": lambda: store.video(wanted, buffer)}, repeats)
        size, best = buffer.nbytes / 1e9, seconds["aws s3 cp's downloader"]
        show(
            f"{shards} shards of {buffer.nbytes / shards / 1e6:.1f} MB",
            ("reader", "GB/s", "of aws s3 cp's downloader"),
            [(name, f"{size / taken:.3f}", f"{best / taken:.2f}") for name, taken in seconds.items()],
        )


@app.command()
def clients(repeats: Repeats = 5) -> None:
    """16 ranges of one object through fsspec, as avem reads them, and through obstore (`pip install obstore`)."""
    import obstore
    from obstore.store import S3Store

    with _store(ROWS_PER_SHARD) as (server, _):
        name, size = f"{ARRAY}/c.0.0.0.0", SPEC.row_bytes_of(1) + 4
        starts = [int(slot) * size for slot in range(0, ROWS_PER_SHARD, 4)]
        fetcher = Fetcher(URL)
        bucket = S3Store(
            "bucket",
            endpoint=options(server.port)["client_kwargs"]["endpoint_url"],
            region="us-east-1",
            access_key_id="k",
            secret_access_key="s",
            client_options={"allow_http": True},
            virtual_hosted_style_request=False,
        )
        ends = [start + size for start in starts]
        ranges = [(name, start, end) for start, end in zip(starts, ends, strict=True)]
        seconds = alternate(
            {
                "fsspec": lambda: fetcher.fetch(ranges),
                "obstore": lambda: obstore.get_ranges(
                    bucket, f"cache/{name}", starts=starts, ends=ends, coalesce=2**18
                ),
            },
            repeats,
        )
        show("16 ranges of 131 KB", ("client", "seconds"), [(name, f"{taken:.3f}") for name, taken in seconds.items()])


if __name__ == "__main__":
    app()
