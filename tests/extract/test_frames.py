"""Whatever codec, container, key frames, B-frames and cut: the frames are those that the file holds, in order."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avem.errors import MediaError
from avem.extract.decode.media import read_video
from tests.extract.barcode_kit import codes, ffmpeg, ffmpeg_codes, needs_ffmpeg, spread, write_barcodes

EXAMPLES = int(os.environ.get("AVEM_DECODE_EXAMPLES", "32"))
"""Files to try; about half a second each."""

CONTAINERS = {
    "libx264": ("mp4", "mov", "mkv", "avi", "ts", "flv"),
    "libx265": ("mp4", "mkv", "ts"),
    "mpeg4": ("mp4", "mkv", "avi", "mov"),
    "mpeg2video": ("ts", "mpg", "mkv", "avi"),
    "msmpeg4v3": ("wmv", "avi", "mkv"),
    "wmv2": ("wmv", "avi"),
    "libvpx": ("webm", "mkv"),
    "mjpeg": ("avi", "mov", "mkv"),
}
WITHOUT_B_FRAMES = ("msmpeg4v3", "wmv2", "libvpx", "mjpeg")

clips = st.sampled_from(sorted(CONTAINERS)).flatmap(
    lambda codec: st.fixed_dictionaries(
        {
            "codec": st.just(codec),
            "container": st.sampled_from(CONTAINERS[codec]),
            "gop": st.sampled_from([1, 5, 12, 30, 250]),
            "b_frames": st.just(0) if codec in WITHOUT_B_FRAMES else st.sampled_from([0, 1, 2, 3]),
            "frames": st.integers(1, 75),
            "sound": st.booleans(),
            "cut_s": st.one_of(st.none(), st.floats(0.05, 2.5)),
            "cut_into": st.sampled_from(["same", "mkv", "mp4", "ts"]),
        }
    )
)
SOUND = {"webm": "libopus", "wmv": "mp3", "avi": "mp3", "flv": "aac", "mpg": "mp2"}


@needs_ffmpeg
@given(clip=clips)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 32)
def test_no_wrong_frame(tmp_path_factory, clip):
    folder = tmp_path_factory.mktemp("clip")
    container = clip["container"]
    path = write_barcodes(
        folder / f"{clip['codec']}.{container}",
        frames=clip["frames"],
        codec=clip["codec"],
        gop=clip["gop"],
        b_frames=clip["b_frames"],
        sound=SOUND.get(container, "aac") if clip["sound"] else None,
    )
    if clip["cut_s"] is None:
        assert ffmpeg_codes(path) == list(range(clip["frames"]))
    else:
        path = lossless_cut(path, clip["cut_s"], clip["cut_into"])
        if path is None:
            return
    check(path)


def lossless_cut(path, start_s, into):
    """The clip from some second on, its packets copied; None where ffmpeg can't put them into that container."""
    cut = path.with_name("cut" + (path.suffix if into == "same" else f".{into}"))
    if "mjpeg" in path.name and cut.suffix in (".mov", ".mp4"):
        return None  # ffmpeg 5 shows the JPEG frames that an edit list drops
    try:
        ffmpeg("-ss", f"{start_s:.3f}", "-i", path, "-t", "1.5", "-c", "copy", cut)
    except subprocess.CalledProcessError:
        return None
    return cut


def check(path):
    """Compare the frames with ffmpeg's."""
    try:
        right = ffmpeg_codes(path)
    except subprocess.CalledProcessError:
        right = []
    if not right:
        with pytest.raises(MediaError):
            read_video(path, 8)
        return
    found = read_video(path, 8)
    assert (found.total, codes(found.frames)) == (len(right), spread(right))
