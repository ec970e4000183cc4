"""Takes one stream from decoded clips to committed shards: encodes batches, writes whole shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from avem.cache import RowDetails, Shard, StreamSpec, StreamWriter
from avem.cache.disk.encode import Rows
from avem.cache.filled import FILLED
from avem.cache.spec import sized
from avem.extract.encoders.base import Encoded, StreamEncoder
from avem.extract.options import Timings
from avem.progress import Stage

KEPT_AS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types that features can take as soon as they are encoded; int8 is made from the encoder's own."""


class ShardWriterThread:
    """Writes a stream's shards on a thread of its own, one behind the encoder at most; a context manager.

    Attributes:
        timings: `write` and `write_wait`.
    """

    def __init__(self) -> None:
        self.timings = Timings()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shard-writer")
        self._last: Future[None] | None = None

    def __enter__(self) -> ShardWriterThread:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown(wait=True)
        if kind is None and self._last is not None:
            self._last.result()

    def submit(self, write: Callable[[], None]) -> None:
        """Write a shard as soon as the one before is written.

        Raises:
            StoreError: The shard before could not be written.
        """
        start = time.perf_counter()
        if self._last is not None:
            self._last.result()
        self.timings.write_wait += time.perf_counter() - start
        self._last = self._thread.submit(self._timed, write)

    def _timed(self, write: Callable[[], None]) -> None:
        start = time.perf_counter()
        write()
        self.timings.write += time.perf_counter() - start


class StreamAssembler:
    """Encodes and writes the rows of one stream, which arrive shard by shard, in ascending order within each.

    A batch never reaches over the end of a shard, so a shard's bytes do not depend on what ran before it: a run that
    was killed and taken up again writes the same store as one that was not.

    Args:
        encoder: Makes the features.
        stream: Where they go.
        shards: The shards to write; rows that are not listed are left alone.
        batch_size: Clips encoded at once.
        writer: Thread that writes.
        timings: Account that encoding time is entered in.
        encode_line: Progress of encoding, in rows.
        write_line: Progress of writing, in rows.
    """

    def __init__(
        self,
        encoder: StreamEncoder,
        stream: StreamWriter,
        shards: Sequence[Shard],
        batch_size: int,
        writer: ShardWriterThread,
        timings: Timings,
        encode_line: Stage,
        write_line: Stage,
    ) -> None:
        self.encoded = 0
        self._encode_line, self._write_line = encode_line, write_line
        self._encoder, self._stream, self._batch_size = encoder, stream, batch_size
        self._writer, self._timings = writer, timings
        self._shards = {shard.index: shard for shard in shards}
        self._rows = {row for shard in shards for row in shard.rows}
        self._owned: dict[int, bool] = {}
        self._batch: list[Any] = []
        self._encoded: list[Encoded] = []
        self._details: list[RowDetails] = []

    def claim(self, row: int) -> bool:
        """Whether the row is to be decoded for this stream; becomes the owner of its shard at the shard's first row."""
        if row not in self._rows:
            return False
        index = row // self._stream.spec.rows_per_shard
        if index not in self._owned:
            self._owned[index] = self._stream.claim(self._shards[index])
        return self._owned[index]

    def add(self, row: int, inputs: Any, details: RowDetails) -> None:
        """Take the next row: the encoder's input, or None for a failed clip."""
        shard = self._shards[row // self._stream.spec.rows_per_shard]
        filled = self._stream.spec.fingerprint.get(FILLED)
        if filled is not None:  # nothing of the clip was looked at, whatever decoded it
            details = replace(details, decoder=str(filled))
        self._details.append(details)
        if inputs is None:
            self._encode_line.advance(failures=1)
        else:
            self._batch.append(inputs)
        last = len(self._details) == len(shard.rows)
        if self._batch and (last or len(self._batch) == self._batch_size):
            self._encode()
        if last:
            self._submit(shard)

    def _encode(self) -> None:
        start = time.perf_counter()
        batch, self._batch = self._batch, []
        for encoded in encode_within_memory(self._encoder, batch):
            self._encoded.append(kept(encoded, self._stream.spec))
        self._timings.encode += time.perf_counter() - start
        self._encode_line.advance(len(batch))

    def _submit(self, shard: Shard) -> None:
        details, self._details = self._details, []
        encoded, self._encoded = self._encoded, []
        self._writer.submit(lambda: self._write(shard, encoded, details))

    def _write(self, shard: Shard, encoded: list[Encoded], details: list[RowDetails]) -> None:
        rows = spread(self._stream.spec, encoded, details)
        more = {"companions": rows.companions} if rows.companions else {}
        committed = self._stream.write(shard, rows.features, rows.pooled, details, **more)
        succeeded = sum(item.status == "ok" for item in committed)
        self.encoded += succeeded
        self._write_line.advance(len(committed), failures=len(committed) - succeeded)


def kept(encoded: Encoded, spec: StreamSpec) -> Encoded:
    """A batch in the processor's memory, features in the type that they are kept in."""

    def move(rows: Tensor | Sequence[Tensor], dtype: torch.dtype | None) -> Tensor | list[Tensor]:
        if isinstance(rows, Tensor):
            return rows.to(dtype or rows.dtype).cpu()
        return [row.to(dtype or row.dtype).cpu() for row in rows]

    companions = {
        name: list(move(rows, KEPT_AS.get(spec.companions[name].dtype))) for name, rows in encoded.companions.items()
    }
    return Encoded(move(encoded.features, KEPT_AS.get(spec.dtype)), encoded.pooled.cpu(), companions)


@dataclass(frozen=True, slots=True)
class ShardRows:
    """What a shard's rows hold, an entry for each of them, failed ones included."""

    features: Rows
    pooled: Tensor
    companions: Mapping[str, Rows]


def spread(spec: StreamSpec, encoded: Sequence[Encoded], details: Sequence[RowDetails]) -> ShardRows:
    """Put encoded batches in the rows of the clips that succeeded.

    Args:
        spec: The stream.
        encoded: The batches, in order.
        details: What became of each row; as many succeeded as there are clips in the batches.

    Returns:
        One entry a row: features as one tensor where rows are alike.
    """
    succeeded = [index for index, item in enumerate(details) if item.status == "ok"]
    pooled = torch.zeros(len(details), spec.pooled_dim)
    if succeeded:
        pooled[succeeded] = torch.cat([batch.pooled for batch in encoded])
    companions: dict[str, Rows] = {}
    for name, companion in spec.companions.items():
        given = [row for batch in encoded for row in batch.companions[name]]
        shape = None if companion.ragged else tuple(map(int, sized(companion.row_shape, 1)))
        companions[name] = _in_rows(len(details), succeeded, given, shape)
    rows = [row for batch in encoded for row in batch.features]
    features = _in_rows(len(details), succeeded, rows, None if spec.ragged else spec.sized(1))
    return ShardRows(features, pooled, companions)


def _in_rows(count: int, succeeded: Sequence[int], rows: Sequence[Tensor], shape: tuple[int, ...] | None) -> Rows:
    """One tensor where rows are alike, zero for failed clips; else a list, None for each of these."""
    if shape is not None and len(rows) == count:
        return torch.stack(list(rows))
    placed = dict(zip(succeeded, rows, strict=True))
    if shape is None:
        return [placed.get(index) for index in range(count)]
    zeros = torch.zeros(shape, dtype=rows[0].dtype if rows else torch.float32)
    return torch.stack([placed.get(index, zeros) for index in range(count)])


def encode_within_memory(encoder: StreamEncoder, batch: Sequence[Any]) -> list[Encoded]:
    """Encode a batch, in halves wherever the device's memory is too small for it.

    Args:
        encoder: The encoder.
        batch: Its input of each clip.

    Returns:
        The clips in the batch's order, in one or more pieces.
    """
    try:
        return [encoder.encode_clips(batch)]
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    return encode_within_memory(encoder, batch[:middle]) + encode_within_memory(encoder, batch[middle:])
