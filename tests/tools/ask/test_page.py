"""The page holds what was answered, escapes what others wrote, and stands in a real browser."""

from __future__ import annotations

import base64
import re
from dataclasses import replace

import pytest

from avem.errors import SettingError
from avem.tools.ask.page import EMBED_BYTES, media, write_page
from avem.tools.ask.results import (
    AskedModel,
    ClipAnswer,
    Condition,
    Emotions,
    Known,
    PartAnswer,
    QuestionAnswer,
    Reading,
)
from tests.evaluate.browser_kit import backgrounds, open_on_a_phone_without_scripts

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\"&\x1b[31m"
MODEL = AskedModel("runs/tiny", "generic")


def clip_answer(path, *, name="a.mp4", question="What is felt?", said="Joy, by the smile."):
    readings = {
        Condition.FULL: Reading(said, -2.0),
        Condition.NO_SOUND: Reading("No sound answer.", -4.31),
        Condition.TEXT: Reading("Text answer.", -1.5),
    }
    bars = {each: ((-1.0, -2.0, -3.0, -3.0, -3.0, -3.0, -3.0),) for each in readings}
    return ClipAnswer(
        name,
        path,
        duration_s=1.5,
        source="encoded now",
        emotions=Emotions("Which feeling?", bars),
        answers=(QuestionAnswer(question, (PartAnswer(readings),)),),
        other=name,
        notes=(said,),
    )


@pytest.fixture
def page(world, tmp_path):
    return write_page(tmp_path / "out.html", MODEL, [clip_answer(world.new / "a.mp4")])


def test_the_page_holds_answer_evidence_bars_and_clip(world, page):
    text = page.read_text(encoding="utf-8")
    for said in ("What is felt?", "Joy, by the smile.", "No sound answer.", "\N{MINUS SIGN}2.31 nats", "+0.50 nats"):
        assert said in text
    assert "10 times less likely without the sound" in text
    assert "Which feeling?" in text
    shares = re.findall(r"<b>([\d.]+) %</b>", text)
    assert len(shares) == 7
    assert float(shares[0]) == pytest.approx(100 / (1 + 2.718281828**-1 + 5 * 2.718281828**-2), abs=0.06)
    content = base64.b64encode((world.new / "a.mp4").read_bytes()).decode()
    assert f'src="data:video/mp4;base64,{content}"' in text
    assert "data:image/jpeg;base64," in text
    assert '<svg class="wave"' in text
    assert not re.search(r"(src|href)=\"(?!data:)", text), "nothing is loaded from elsewhere"


def test_several_clips_have_a_table_and_each_says_what_it_is_worth(world, tmp_path):
    known = Known(label="sadness", labelled_in="/home/someone/work/data/cache", trained=True)
    clips = [replace(clip_answer(world.new / "a.mp4", name=name), known=known) for name in ("x/a.mp4", "x/b.mp4")]
    text = write_page(tmp_path / "out.html", MODEL, clips).read_text(encoding="utf-8")
    assert text.count("What this is worth:") == 2
    assert "The clip&#39;s label in work/data/cache is sadness" in text
    assert "someone" not in text, "whose folder it is"
    assert "was trained on this clip" in text
    table = text.partition('id="summary"')[2].partition("</table>")[0]
    assert table.count("<tr") == 3
    assert ">a.mp4</th>" in table
    assert "10x less" in table
    alone = write_page(tmp_path / "one.html", MODEL, [clip_answer(world.new / "a.mp4")]).read_text(encoding="utf-8")
    assert "What this is worth:" not in alone
    assert 'id="summary"' not in alone


def test_what_others_wrote_is_escaped(world, tmp_path):
    answer = clip_answer(world.new / "a.mp4", name=HOSTILE, question=HOSTILE, said=HOSTILE)
    failed = ClipAnswer(HOSTILE, failed=HOSTILE)
    text = write_page(tmp_path / "out.html", AskedModel(HOSTILE, HOSTILE, (HOSTILE,)), [answer, failed]).read_text()
    assert "<script" not in text
    assert 'onerror="' not in text
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;") >= 8


def test_a_foreign_file_is_not_replaced(tmp_path):
    (tmp_path / "mine.html").write_text("<html>mine</html>")
    with pytest.raises(SettingError, match=r"mine\.html"):
        write_page(tmp_path / "mine.html", MODEL, [ClipAnswer("a", failed="x")])
    assert (tmp_path / "mine.html").read_text() == "<html>mine</html>"


def test_a_large_clip_is_linked_from_beside_it_alone(tmp_path):
    large = tmp_path / "in" / "la rge#.mp4"
    large.parent.mkdir()
    with large.open("wb") as file:
        file.truncate(EMBED_BYTES + 1)
    assert media(large, tmp_path / "out.html").link == "in/la%20rge%23.mp4"
    elsewhere = media(large, tmp_path / "other" / "out.html")
    assert (elsewhere.src, elsewhere.link) == ("", "")
    sound = tmp_path / "a.wav"
    sound.write_bytes(b"x")
    assert media(sound, tmp_path / "out.html").kind == "audio"


def test_browsers_show_it_at_every_width_in_both_schemes(world, browser, tmp_path):
    answers = [clip_answer(world.new / "a.mp4"), clip_answer(world.new / "a.mp4", name=HOSTILE, said=HOSTILE)]
    page = write_page(tmp_path / "out.html", MODEL, [*answers, ClipAnswer("c.mp4", failed="broken")])
    light, dark = backgrounds(browser, page)
    assert light != dark
    for width in (1300, 390):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(page.as_uri())
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.title.startswith("Asked: ")
    shown = browser.execute_async_script(
        "const done = arguments[0], clip = document.querySelector('video');"
        "if (clip.readyState) done(clip.videoWidth); else { clip.onloadedmetadata = () => done(clip.videoWidth);"
        "clip.onerror = () => done(-1); }"
    )
    assert shown == 64
    assert browser.get_log("browser") == []
    open_on_a_phone_without_scripts(browser, page)
    assert "Joy, by the smile." in browser.execute_script("return document.body.innerText")
