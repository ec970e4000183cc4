"""A writer for the kill tests: adds clips and writes every shard that nobody else does."""

import sys
from pathlib import Path

from avem.cache import RowDetails, StoreWriter
from tests.cache.helpers import audio_spec, clip_records, row_values, video_spec


def write_everything(path: Path, clips: int) -> None:
    writer = StoreWriter.open(path)
    writer.add_clips(clip_records(clips), root=path.parent)
    for spec in (video_spec(rows_per_shard=3), audio_spec(rows_per_shard=3)):
        stream = writer.stream(spec)
        for shard in stream.pending():
            if stream.claim(shard):
                stream.write(shard, *row_values(spec, shard.rows), [RowDetails(duration_s=1.0)] * len(shard.rows))
        writer.finish()


if __name__ == "__main__":
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    write_everything(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.write("done\n")
