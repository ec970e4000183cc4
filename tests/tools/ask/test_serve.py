"""The local page: who may ask, what is taken, what stays, and a real browser that asks."""

from __future__ import annotations

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from avem.errors import DataError, MediaError, SettingError
from avem.tools.ask.features import FeatureSession
from avem.tools.ask.results import AskedModel, ClipAnswer, Condition, PartAnswer, QuestionAnswer, Reading
from avem.tools.ask.serve.guard import Guard
from avem.tools.ask.serve.server import serving
from avem.tools.ask.serve.turns import MOST_WAITING, BusyError, Turns
from avem.tools.ask.serve.uploads import HEAD_BYTES, PREFIX, private_folder, received


class StandIn:
    """Answers with what it was given; waits where it is told to."""

    about = AskedModel("runs/tiny", "generic")

    def __init__(self):
        self.asked, self.wait = [], threading.Event()
        self.wait.set()

    def ask(self, clip, questions, against=None):
        self.asked.append((clip, clip.path.read_bytes(), against and against.path.read_bytes()))
        self.wait.wait(20)
        if clip.name == "bad.mp4":
            raise MediaError(f"{clip.path} can't be decoded")
        if clip.name == "bug.mp4":
            raise ZeroDivisionError
        readings = {Condition.FULL: Reading(f"Heard of {questions[0]}", -1.0)}
        return ClipAnswer(clip.name, answers=(QuestionAnswer(questions[0], (PartAnswer(readings),)),))


@contextmanager
def running(session, **settings):
    with serving(session, "What is felt?", **settings) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def served():
    with running(StandIn()) as server:
        yield server


def body(question="Why?", files=(("a.mp4", b"film"),), **changes):
    head = {"question": question, "ticket": "t", "files": [{"name": n, "size": len(c)} for n, c in files], **changes}
    return json.dumps(head).encode() + b"\n" + b"".join(content for _, content in files)


def sized(size):
    """A body whose one file is said to be as large as that."""
    return json.dumps({"question": "?", "ticket": "t", "files": [{"name": "a.mp4", "size": size}]}).encode() + b"\n"


def send(server, method="POST", path="/ask", content=None, **changes):
    """One request of the page's own browser, with some headers changed; None leaves one out."""
    guard = server.guard
    own = {
        "Host": f"127.0.0.1:{guard.port}",
        "Origin": f"http://127.0.0.1:{guard.port}",
        "Cookie": f"{guard.cookie_name}={guard.token}",
    }
    connection = http.client.HTTPConnection("127.0.0.1", guard.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    length = {"Content-Length": str(len(content))} if content is not None else {}
    for name, value in {**own, **length, **changes}.items():
        if value is not None:
            connection.putheader(name.replace("_", "-"), value)
    connection.endheaders(content)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    return reply.status, json.loads(text) if reply.getheader("Content-Type") == "application/json" else text, reply


def test_the_address_with_the_token_opens_the_page(served):
    path = served.guard.url.partition(str(served.guard.port))[2]
    status, _, reply = send(served, "GET", path, Cookie=None, Origin=None)
    assert (status, reply.getheader("Location")) == (303, "/")
    cookie = reply.getheader("Set-Cookie")
    assert "HttpOnly" in cookie
    assert "SameSite" in cookie
    status, page, reply = send(served, "GET", "/", Cookie=cookie.partition(";")[0], Origin=None)
    assert status == 200
    assert "What is felt?" in page
    assert "<script>" not in page, "scripts come from /page.js alone"
    policy = reply.getheader("Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in re.search("script-src[^;]*", policy).group()
    for path in ("/style.css", "/page.js"):
        assert send(served, "GET", path)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Cookie": None},
        {"Cookie": "avem-1=x"},
        {"Cookie": "[=;"},
        {"Host": "attacker.example"},
        {"Host": "127.0.0.1"},
        {"Host": None},
        {"Origin": "http://attacker.example"},
        {"Origin": "null"},
        {"Origin": None},
    ],
)
def test_other_pages_and_other_users_are_refused(served, headers):
    status, found, _ = send(served, content=body(), **headers)
    assert status == 403
    assert "error" in found
    assert served.session.asked == []
    for path in ("/", "/place", "/style.css"):
        refused = not headers.keys() & {"Origin"}
        assert (send(served, "GET", path, **headers)[0] == 403) == refused


def test_the_page_says_why_its_field_has_that_question():
    with running(StandIn(), why=["The question in the field is <of> the rows."]) as server:
        assert "The question in the field is &lt;of&gt; the rows." in send(server, "GET", "/")[1]


def test_a_wrong_token_opens_nothing(served):
    assert send(served, "GET", "/?token=wrong", Cookie=None)[0] == 403
    assert send(served, "GET", served.guard.url.partition(str(served.guard.port))[2], Cookie=None, Host="x")[0] == 403
    assert Guard(1).token != Guard(1).token
    assert not Guard(1, "").opens("")


def test_without_a_token_host_and_origin_still_count():
    with running(StandIn(), token=False) as server:
        assert server.guard.url.endswith(f":{server.guard.port}/")
        assert send(server, content=body(), Cookie=None)[0] == 200
        assert send(server, content=body(), Cookie=None, Origin="http://attacker.example")[0] == 403
        assert send(server, content=body(), Cookie=None, Host="attacker.example")[0] == 403


def test_a_clip_is_answered_and_gone(served):
    files = (("../../etc/<b>x.mp4", b"film"), ("y.webm", b"other"))
    status, found, _ = send(served, content=body("<i>Why?</i>", files))
    assert status == 200
    ((clip, content, other),) = served.session.asked
    assert (content, other) == (b"film", b"other")
    assert clip.name == "<b>x.mp4"
    assert clip.path.parent.parent == served.folder, "names from outside are no paths"
    assert clip.path.name == "0.mp4"
    assert "Heard of &lt;i&gt;Why?&lt;/i&gt;" in found["card"]
    assert "&lt;b&gt;x.mp4" in found["card"]
    assert "<i>" not in found["card"]
    assert list(served.folder.iterdir()) == []
    assert served.folder.stat().st_mode & 0o077 == 0


def test_errors_are_sentences_without_our_folders(served):
    status, found, _ = send(served, content=body(files=(("bad.mp4", b"x"),)))
    assert (status, found) == (400, {"error": "bad.mp4 can't be decoded"})
    status, found, _ = send(served, content=body(files=(("bug.mp4", b"x"),)))
    assert status == 500
    assert "terminal" in found["error"]
    assert list(served.folder.iterdir()) == []
    assert send(served, content=body())[0] == 200, "the server goes on"
    assert send(served, "GET", "/../../etc/passwd")[0] == 404
    assert send(served, path="/other", content=body())[0] == 404
    assert send(served)[0] == 411
    assert send(served, Content_Length="-1")[0] == 411


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{}\n", "no clip"),
        (b"no json\n", "The request"),
        (b"x" * (HEAD_BYTES + 10), "not one of this page's"),
        (body(files=(("a", b"1"),) * 3), "no clip"),
        (body(question="  "), "question is empty"),
        (body(question="x" * 5000), "4000 are allowed"),
        (body(question=3), "no question"),
        (sized(-1), "how large"),
        (sized(True), "how large"),
        (body() + b"more", "not as long"),
        (body()[:-1], "not as long"),
    ],
)
def test_bodies_that_are_none_are_refused(tmp_path, content, said):
    with (
        pytest.raises((DataError, SettingError), match=said),
        received(io.BytesIO(content), len(content), tmp_path, 10**6),
    ):
        pytest.fail("it was taken")
    assert list(tmp_path.iterdir()) == []


def test_uploads_that_are_too_large_or_end_early_leave_nothing(tmp_path):
    with pytest.raises(SettingError, match="larger than 1 MB"), received(io.BytesIO(), 10**7, tmp_path, 10**6):
        pytest.fail("it was taken")
    whole = body(files=(("a.mp4", b"x" * 1000),))
    early = io.BytesIO(whole[:-10])
    with pytest.raises(DataError, match="ended early"), received(early, len(whole), tmp_path, 10**6):
        pytest.fail("it was taken")
    assert list(tmp_path.iterdir()) == []


def test_the_limit_is_kept_before_anything_is_read():
    with running(StandIn(), limit_bytes=1000) as server:
        status, found, _ = send(server, content=body(files=(("a.mp4", b"x" * (HEAD_BYTES + 2000)),)))
        assert status == 400
        assert "larger than" in found["error"]
        assert server.session.asked == []


def test_one_is_answered_at_a_time_and_the_others_know_their_place(served):
    served.session.wait.clear()
    results = []

    def ask(number):
        files = ((f"{number}.mp4", b"film"),)
        results.append(send(served, content=body(ticket=f"t{number}", files=files))[0])

    threads = []
    for number in range(3):
        threads.append(threading.Thread(target=ask, args=(number,)))
        threads[-1].start()
        until(lambda number=number: served.turns.before(f"t{number}") == number)
    assert len(served.session.asked) == 1
    assert send(served, "GET", "/place?ticket=t2")[1] == {"before": 2}
    assert send(served, "GET", "/place?ticket=none")[1] == {"before": None}
    served.session.wait.set()
    for thread in threads:
        thread.join()
    assert [clip.name for clip, *_ in served.session.asked] == ["0.mp4", "1.mp4", "2.mp4"]
    assert results == [200, 200, 200]  # in whatever order the clients saw them


def test_too_many_waiting_are_refused():
    turns = Turns()
    release, entered = threading.Event(), []

    def hold():
        with turns.turn("t"):
            entered.append(1)
            release.wait(20)

    threads = [threading.Thread(target=hold) for _ in range(MOST_WAITING + 1)]
    for number, thread in enumerate(threads):
        thread.start()
        until(lambda number=number: len(turns._queue) == number + 1)
    with pytest.raises(BusyError, match="wait already"), turns.turn("late"):
        pytest.fail("it was let in")
    release.set()
    for thread in threads:
        thread.join()
    assert len(entered) == MOST_WAITING + 1


def test_folders_of_killed_servers_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive = tmp_path / f"{PREFIX}{ended.pid}-x", tmp_path / f"{PREFIX}{os.getpid()}-x"
    for folder in (dead, alive):
        folder.mkdir()
        (folder / "clip.mp4").touch()
    (tmp_path / f"{PREFIX}{ended.pid}-link").symlink_to(alive)
    with private_folder() as folder:
        assert folder.parent == tmp_path
        assert not dead.exists()
        assert (alive / "clip.mp4").exists()
    assert not folder.exists()


def test_a_port_in_use_is_one_sentence(served):
    with pytest.raises(SettingError, match=r"can't be used.*--port"), serving(StandIn(), "?", port=served.guard.port):
        pytest.fail("it was served twice")


def until(holds, seconds=20):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_a_served_model_ends_with_a_signal_and_leaves_no_files(world, tmp_path, end):
    command = [sys.executable, "-m", "avem", "serve", "--model", str(world.root), "--port", "0", "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    address, question, why = (process.stdout.readline() for _ in range(3))
    assert question == "Question: What is felt?\n"
    assert why.startswith("The question in the field is the one that ")
    assert why.endswith("ask.json names.\n")
    port, token = re.search(r"127\.0\.0\.1:(\d+)/\?token=(\S+)", address).groups()
    (folder,) = tmp_path.glob(f"{PREFIX}*")
    # An upload that never ends: its file is there when the signal comes.
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    head = json.dumps({"question": "?", "ticket": "t", "files": [{"name": "a.mp4", "size": 10**6}]}).encode() + b"\n"
    connection.putrequest("POST", "/ask")
    connection.putheader("Origin", f"http://127.0.0.1:{port}")
    connection.putheader("Cookie", f"avem-{port}={token}")
    connection.putheader("Content-Length", str(len(head) + 10**6))
    connection.endheaders(head + b"x" * 1000)
    until(lambda: list(folder.rglob("0.mp4")))
    process.send_signal(end)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        connection.close()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert not folder.exists()


def test_a_browser_drops_a_clip_and_sees_the_card(world, browser):
    from selenium.webdriver.common.by import By

    with running(FeatureSession(world.options())) as server:
        browser.get(server.guard.url)
        assert browser.current_url == f"http://127.0.0.1:{server.guard.port}/", "the token is not left in the address"
        assert browser.find_element(By.ID, "question").get_property("value") == "What is felt?"
        browser.find_element(By.ID, "go").click()
        assert "Choose a clip" in browser.find_element(By.ID, "state").text
        browser.find_element(By.ID, "clip").send_keys(str(world.new / "a.mp4"))
        browser.find_element(By.ID, "against").send_keys(str(world.new / "b.mp4"))
        browser.find_element(By.ID, "go").click()
        until(lambda: browser.find_elements(By.CSS_SELECTOR, "#cards article"), 60)
        text = browser.find_element(By.ID, "cards").text
        assert "What is felt?" in text
        assert "without sound" in text
        assert "other picture" in text
        assert "happiness" in text
        assert browser.execute_script("return document.querySelector('#cards video').src").startswith("blob:")
        until(lambda: browser.execute_script("return document.querySelector('#cards video').videoWidth") == 64)
        for width in (1300, 390):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        assert list(Path(server.folder).iterdir()) == []
        assert browser.get_log("browser") == [], "the policy stops nothing of the page's own"


def test_hostile_names_and_questions_stay_text_in_a_browser(browser, tmp_path):
    from selenium.webdriver.common.by import By

    hostile = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    film = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    film.write_bytes(b"x")
    with running(StandIn()) as server:
        browser.get(server.guard.url)
        browser.find_element(By.ID, "clip").send_keys(str(film))
        field = browser.find_element(By.ID, "question")
        field.clear()
        field.send_keys(hostile)
        browser.find_element(By.ID, "go").click()
        until(lambda: browser.find_elements(By.CSS_SELECTOR, "#cards article"))
        assert hostile in browser.find_element(By.ID, "cards").text
        assert browser.title == "Ask about a clip"
        assert not browser.find_elements(By.CSS_SELECTOR, "#cards script, #cards img[src=x]")
