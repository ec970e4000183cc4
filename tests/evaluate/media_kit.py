"""Small clips with picture and sound, encoded on the spot."""

import av
import numpy as np


def write_clip(path, seconds=1, rate=8):
    """A grey clip that gets lighter, with a tone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(seconds * rate):
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), min(20 * number, 255), np.uint8), format="rgb24")
            container.mux(video.encode(picture))
        tone = np.sin(np.arange(16000 * seconds, dtype=np.float32) / 20)[None] * 0.5
        for start in range(0, tone.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(tone[:, start : start + 1024].copy(), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(audio.encode(frame))
        for stream in (video, audio):
            container.mux(stream.encode())
