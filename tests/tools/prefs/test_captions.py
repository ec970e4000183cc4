"""Burnt-in captions are found and made illegible, and pictures without any are left alone."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from avem.errors import SettingError
from avem.extract.decode.media import sample_frames
from avem.tools.corpus.build import clip_path
from avem.tools.prefs.captions import caption_band
from avem.tools.prefs.media import MediaOptions, blurred_band, blurred_share, show_frame


def picture(height, width, seed):
    """Noise with the spectrum of photographs: strength falls with frequency."""
    rng = np.random.default_rng(seed)
    falls = np.sqrt(np.fft.fftfreq(height)[:, None] ** 2 + np.fft.fftfreq(width) ** 2)
    falls[0, 0] = 1
    planes = [np.real(np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) / falls)) for _ in range(3)]
    return np.stack([np.clip(128 + 50 * plane / plane.std(), 0, 255) for plane in planes], -1).astype(np.uint8)


def captioned(frame, text, share):
    image = Image.fromarray(frame)
    size = round(image.height * 0.06)
    place = (image.width // 2, round(image.height * share))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text(place, text, "white", font, "ms", stroke_width=size // 12 or 1, stroke_fill="black")
    return np.asarray(image)


@pytest.mark.parametrize("size", [(240, 320), (480, 640), (720, 1280)])
@pytest.mark.parametrize("seed", range(3))
def test_captions_are_found_where_they_are(size, seed):
    plain = picture(*size, seed)
    assert caption_band(np.stack([plain] * 4)) is None
    frames = np.stack([plain, plain, captioned(plain, "I told you not to come here.", 0.9), plain])
    top, bottom = caption_band(frames)
    assert 0.8 < top < 0.87
    assert 0.89 < bottom < 0.97


def test_text_in_the_upper_part_stays():
    frame = captioned(picture(480, 640, 0), "CHANNEL FOUR NEWS TONIGHT", 0.2)
    assert caption_band(frame[None]) is None


def test_what_is_shown_can_not_be_read_any_more():
    frames = captioned(picture(480, 640, 1), "Where were you last night?", 0.9)[None]
    band = blurred_band(frames, MediaOptions())
    shown = np.asarray(show_frame(Image.fromarray(frames[0]), MediaOptions(), band))
    assert caption_band(shown[None]) is None
    rows = round(shown.shape[0] * band[0])
    kept = np.asarray(show_frame(Image.fromarray(frames[0]), MediaOptions(), None))
    assert (shown[:rows] == kept[:rows]).all()
    assert blurred_band(frames, MediaOptions(blur_captions=0.0)) is None


def test_the_corpus_has_no_captions(corpus, scenes):
    assert [caption_band(sample_frames(corpus.root / clip_path(scene), 8)) for scene in scenes[:8]] == [None] * 8


def test_the_setting(scenes):
    assert [blurred_share(text) for text in ("auto", "off", "0.2")] == [None, 0.0, 0.2]
    with pytest.raises(SettingError, match="auto, off or a share"):
        blurred_share("yes")
