"""Takes one stream from decoded clips to committed shards: encodes batches, writes whole shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import torch
from torch import Tensor

from avem.cache import RowDetails, Shard, StreamSpec, StreamWriter
from avem.extract.options import Timings
from avem.progress import Stage

KEPT_AS = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Types that features can take as soon as they are encoded; int8 is made from the encoder's own."""


class Encoder(Protocol):
    """What the pipeline needs of an encoder."""

    def encode(self, inputs: Tensor, /) -> tuple[Tensor, Tensor]:
        """A batch of inputs to features [B, *row_shape] and pooled vectors [B, D]."""
        ...


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
        encoder: Encoder,
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
        self._batch: list[Tensor] = []
        self._encoded: list[tuple[Tensor, Tensor]] = []
        self._details: list[RowDetails] = []

    def claim(self, row: int) -> bool:
        """Whether the row is to be decoded for this stream; becomes the owner of its shard at the shard's first row."""
        if row not in self._rows:
            return False
        index = row // self._stream.spec.rows_per_shard
        if index not in self._owned:
            self._owned[index] = self._stream.claim(self._shards[index])
        return self._owned[index]

    def add(self, row: int, inputs: Tensor | None, details: RowDetails) -> None:
        """Take the next row: the encoder's input, or None for a failed clip."""
        shard = self._shards[row // self._stream.spec.rows_per_shard]
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
        batch, self._batch = torch.stack(self._batch), []
        for features, pooled in encode_within_memory(self._encoder, batch):
            kept = features.to(KEPT_AS.get(self._stream.spec.dtype, features.dtype)).cpu()
            self._encoded.append((kept, pooled.cpu()))
        self._timings.encode += time.perf_counter() - start
        self._encode_line.advance(len(batch))

    def _submit(self, shard: Shard) -> None:
        details, self._details = self._details, []
        encoded, self._encoded = self._encoded, []
        self._writer.submit(lambda: self._write(shard, encoded, details))

    def _write(self, shard: Shard, encoded: list[tuple[Tensor, Tensor]], details: list[RowDetails]) -> None:
        spec = self._stream.spec
        features, pooled = _spread(spec, encoded, details)
        committed = self._stream.write(shard, features, pooled, details)
        succeeded = sum(item.status == "ok" for item in committed)
        self.encoded += succeeded
        self._write_line.advance(len(committed), failures=len(committed) - succeeded)


def _spread(spec: StreamSpec, encoded: list[tuple[Tensor, Tensor]], details: list[RowDetails]) -> tuple[Tensor, Tensor]:
    """Put encoded batches in the rows of the clips that succeeded; the others' rows are zero."""
    succeeded = [index for index, item in enumerate(details) if item.status == "ok"]
    if not succeeded:
        return torch.zeros(len(details), *spec.sized(1)), torch.zeros(len(details), spec.pooled_dim)
    features = torch.cat([batch for batch, _ in encoded])
    pooled = torch.cat([batch for _, batch in encoded])
    if len(succeeded) == len(details):
        return features, pooled
    all_features = features.new_zeros(len(details), *spec.sized(1))
    all_pooled = pooled.new_zeros(len(details), spec.pooled_dim)
    all_features[succeeded], all_pooled[succeeded] = features, pooled
    return all_features, all_pooled


def encode_within_memory(encoder: Encoder, batch: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Encode a batch, in halves wherever the device's memory is too small for it.

    Args:
        encoder: The encoder.
        batch: [B, ...] inputs.

    Returns:
        Features and pooled vectors in the batch's order, in one or more pieces.
    """
    try:
        return [encoder.encode(batch)]
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    torch.cuda.empty_cache()
    middle = len(batch) // 2
    return encode_within_memory(encoder, batch[:middle]) + encode_within_memory(encoder, batch[middle:])
