"""Endpoints that send what no endpoint should: each costs one reply, in bounded time and memory, with the reason."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import resource
import time
import zlib

import pytest

from avem.endpoint.chat import ChatClient, ChatReply, ChatRequest, ChatSettings, ask_each
from avem.endpoint.chat_replies import DEEPEST_JSON, LARGEST_REPLY, parse_json, reply_of
from avem.errors import EndpointError, SettingError
from tests.endpoint_kit import completion, stand_in
from tests.hostile_kit import closed_port, raw_peer

OK = b"HTTP/1.1 200 OK\r\n"


def body(**changes):
    return {**json.loads(completion("B")), **changes}


def choice(**message):
    return [{"message": {"role": "assistant", "content": "B", **message}}]


def ask_at(endpoint, **options):
    settings = ChatSettings(endpoint=endpoint, model="m", **{"pause_s": 0.01, "retries": 0, "timeout_s": 20, **options})

    async def once():
        async with ChatClient(settings) as client:
            return await client.ask(ChatRequest([{"role": "user", "content": "Which?"}]))

    return asyncio.run(once())


ODD = {
    "deep lists": ("[" * 100_000, "nested"),
    "deep objects": ('{"a":' * 500 + "1" + "}" * 500, "nested"),
    "infinite count": (
        '{"usage": {"prompt_tokens": Infinity}, ' + completion("B")[1:].replace('"usage"', '"x"'),
        "count",
    ),
    "huge count": (json.dumps(body(usage={"prompt_tokens": 10**4000})), "count"),
    "overflowing count": (json.dumps(body(usage={"prompt_tokens": 0})).replace("0}", "1e999}"), "count"),
    "NaN count": (json.dumps(body(usage={"completion_tokens": float("nan")})), "count"),
    "negative count": (json.dumps(body(usage={"prompt_tokens": -5})), "count"),
    "count as text": (json.dumps(body(usage={"prompt_tokens": "7"})), "count"),
    "count as list": (json.dumps(body(usage={"prompt_tokens": [7]})), "count"),
    "usage as list": (json.dumps(body(usage=[1])), "usage"),
    "choices as text": (json.dumps(body(choices="(B)")), "choice"),
    "choices as object": (json.dumps(body(choices={"0": 1})), "choice"),
    "choice as null": (json.dumps(body(choices=[None])), "choice"),
    "message as text": (json.dumps(body(choices=[{"message": "B"}])), "choice"),
    "content as object": (json.dumps(body(choices=choice(content={"text": "B"}))), "text"),
    "content as null": (json.dumps(body(choices=choice(content=None))), "text"),
    "finish reason as list": (json.dumps(body(choices=[{**choice()[0], "finish_reason": ["stop"]}])), "finish_reason"),
    "lone surrogate": (json.dumps(body(choices=choice(content="B\ud800"))), "surrogate"),
    "endless text": (json.dumps(body(choices=choice(content="B" * 2_000_000))), "characters"),
    "a list": ("[1, 2]", "choice"),
    "a number of many digits": ("1" * 10_000, "broken"),
    "nothing": ("", "broken"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_replies_are_failures_with_a_reason(name):
    content, said = ODD[name]
    with stand_in(lambda _: (200, content)) as served, pytest.raises(EndpointError, match=said) as caught:
        ask_at(served.endpoint)
    assert not caught.value.stops_all
    assert len(str(caught.value)) < 600


def test_a_run_goes_on_past_odd_replies():
    odd = iter([content for content, _ in ODD.values()])

    def reaction(asked):
        return (200, next(odd)) if "odd" in asked["messages"][0]["content"] else "B"

    requests = [(name, ChatRequest([{"role": "user", "content": f"odd {name}"}])) for name in ODD]
    requests.append(("good", ChatRequest([{"role": "user", "content": "fine"}])))

    async def run(endpoint):
        async with ChatClient(ChatSettings(endpoint=endpoint, model="m", retries=0)) as client:
            return {key: reply async for key, reply in ask_each(client, requests)}

    with stand_in(reaction) as served:
        found = asyncio.run(run(served.endpoint))
    assert found.pop("good") == ChatReply("B", 7, 3, "stop")
    assert len(found) == len(ODD)
    assert all(isinstance(reply, EndpointError) for reply in found.values())


def test_replies_that_are_merely_sparse_are_read():
    assert reply_of(body(usage=None)) == ChatReply("B", 0, 0, "stop")
    assert reply_of({"choices": choice()}) == ChatReply("B", 0, 0, "")
    assert reply_of(body(usage={"prompt_tokens": 7.0, "completion_tokens": None})) == ChatReply("B", 7, 0, "stop")
    assert reply_of(body(choices=[{**choice()[0], "logprobs": None, "index": "x"}])).text == "B"


def test_depth_is_counted_exactly():
    assert parse_json("[" * DEEPEST_JSON + "]" * DEEPEST_JSON)
    with pytest.raises(ValueError, match="nested"):
        parse_json("[" * (DEEPEST_JSON + 1) + "]" * (DEEPEST_JSON + 1))


def endless_chunks(peer):
    peer.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        peer.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")


def endless_body(peer):
    peer.sendall(OK + b"Content-Length: 1073741824\r\n\r\n")
    while True:
        peer.sendall(b" " * 65536)


def bomb(coding, wbits):
    """An endless body of blanks, a thousandth of its size on the way."""

    def answer(peer):
        squeeze, blanks = zlib.compressobj(wbits=wbits), b" " * 2**24
        peer.sendall(OK + b"Content-Encoding: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % coding)
        while True:
            data = squeeze.compress(blanks) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            peer.sendall(b"%x\r\n" % len(data) + data + b"\r\n")

    return answer


def endless_error(peer):
    peer.sendall(b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        peer.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def endless_headers(peer):
    peer.sendall(OK)
    while True:
        peer.sendall(b"X-More: " + b"a" * 4000 + b"\r\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (endless_chunks, "more than 8 MiB"),
        (endless_body, "more than 8 MiB"),
        (bomb(b"gzip", 31), "more than 8 MiB"),
        (bomb(b"deflate", 15), "more than 8 MiB"),
        (endless_error, "refuses the request"),
        (endless_headers, "broken HTTP"),
    ],
    ids=["chunks", "body", "gzip", "deflate", "error", "headers"],
)
def test_endless_replies_are_cut_off(answer, said):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with raw_peer(answer) as endpoint, pytest.raises(EndpointError, match=said):
        ask_at(endpoint)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * LARGEST_REPLY / 1024, "in KiB"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda peer: peer.sendall(OK + b"Content-Length: 9\r\nContent-Encoding: gzip\r\n\r\nnot gzip!"), "compressed"),
        (lambda peer: peer.sendall(OK + b"Content-Length: 3\r\nContent-Encoding: br\r\n\r\nabc"), "not asked for"),
        (lambda peer: peer.sendall(b"SSH-2.0-OpenSSH_9.6\r\n"), "broken HTTP"),
        (lambda peer: peer.sendall(OK + b"Content-Length: 100\r\n\r\nhalf"), "can't be reached"),
        (lambda peer: peer.sendall(OK + b"Content-Length: 4\r\n\r\n\xff\xfe\xfd\xfc"), "broken or unexpected JSON"),
        (lambda peer: None, "can't be reached"),
    ],
    ids=["not gzip", "brotli", "no HTTP", "half", "no UTF-8", "hangs up"],
)
def test_broken_replies_are_failures(answer, said):
    with raw_peer(answer) as endpoint, pytest.raises(EndpointError, match=said):
        ask_at(endpoint)


def test_compressed_replies_are_read():
    data = gzip.compress(completion("B").encode())
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
    with raw_peer(lambda peer: peer.sendall(head + data)) as endpoint:
        assert ask_at(endpoint).text == "B"


def test_a_drip_ends_with_the_time_limit():
    def drip(peer):
        peer.sendall(OK + b"Content-Length: 1000\r\n\r\n")
        while True:
            peer.sendall(b" ")
            time.sleep(0.05)

    with raw_peer(drip) as endpoint, pytest.raises(EndpointError, match=r"did not answer within 0\.5 s"):
        ask_at(endpoint, timeout_s=0.5)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://127.0.0.1:9/v1", "//elsewhere/v1", "gopher://x"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(status, target, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "s3same-street")
    with (
        stand_in(lambda _: (status, "moved", {"Location": target})) as served,
        pytest.raises(EndpointError, match=f"status {status}"),
    ):
        ask_at(served.endpoint)
    assert len(served.asked) == 1


def test_a_closed_port_is_said_after_three_tries_and_ends_the_run():
    settings = ChatSettings(endpoint=f"http://127.0.0.1:{closed_port()}/v1", model="m")  # patience as by default
    started = time.monotonic()

    async def run():
        async with ChatClient(settings) as client:
            requests = [(number, ChatRequest([{"role": "user", "content": "?"}])) for number in range(50)]
            return [found async for found in ask_each(client, requests)]

    with pytest.raises(EndpointError, match=r"can't be reached.*start the server") as caught:
        asyncio.run(run())
    assert caught.value.stops_all
    assert time.monotonic() - started < 10, "the default patience is over a minute"


def test_a_server_that_was_there_is_waited_for():
    """After one answer, a refused connection is a bad moment that gets every retry."""
    data = completion("B").encode()
    reply = OK + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(data) + data

    async def run():
        endpoint = there.enter_context(raw_peer(lambda peer: peer.sendall(reply)))
        settings = ChatSettings(endpoint=endpoint, model="m", retries=4, pause_s=0.01)
        async with ChatClient(settings) as client:
            assert (await client.ask(request)).text == "B"
            there.close()
            await client.ask(request)

    request = ChatRequest([{"role": "user", "content": "?"}])
    with contextlib.ExitStack() as there, pytest.raises(EndpointError, match=r"can't be reached.*5 times") as caught:
        asyncio.run(run())
    assert not caught.value.stops_all


ECHO = {
    "400": lambda key: (400, f"I got {key} and Basic YW5uOmh1bnRlcjI3"),
    "401": lambda key: (401, json.dumps({"error": {"message": f"the key {key} is wrong, {key}"}})),
    "500": lambda key: (500, f"<p>{key}</p>"),
    "200": lambda key: (200, f'{{"sent": "{key}"}}'),
    "reply": lambda key: f"You sent {key} and hunter27 and QUERYKEY1",
    "escaped": lambda key: (400, json.dumps({"error": "\\u0041uthorization " + key.replace("-", "%2D")})),
}


@pytest.mark.parametrize("where", ECHO)
@pytest.mark.parametrize("user", [True, False])
def test_an_endpoint_that_repeats_the_key_gets_it_nowhere(where, user, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-s3same-street")
    with stand_in(lambda _: ECHO[where]("sk-s3same-street")) as served:
        address = served.endpoint.replace("://", "://ann:hunter27@") if user else served.endpoint
        try:
            said = ask_at(f"{address}?api-key=QUERYKEY1", retries=1).text
        except EndpointError as error:
            said = str(error)
    proof = "Basic YW5uOmh1bnRlcjI3" if user else "Bearer sk-s3same-street"
    assert served.keys[0] == proof
    assert served.asked[0]["path"] == "/v1/chat/completions?api-key=QUERYKEY1"
    for secret in ("s3same-street", "hunter27", "QUERYKEY1", "YW5uOmh1bnRlcjI3"):
        assert secret not in said or (secret == "s3same-street" and where == "escaped")
        assert secret not in caplog.text
    assert "***" in said


def test_keys_are_no_part_of_what_answers_are_kept_by():
    plain = ChatSettings(endpoint="http://host/v1", model="m")
    keyed = ChatSettings(endpoint="http://ann:hunter27@host/v1?api-key=QUERYKEY1", model="m")
    assert plain.identity == keyed.identity == "http://host/v1/chat/completions"
    versions = ChatSettings(endpoint="http://host/v1?api-version=2&key=K", model="m")
    assert versions.identity == "http://host/v1/chat/completions?api-version=2"


def test_a_key_given_as_the_variable_s_name_is_not_repeated():
    with pytest.raises(SettingError, match="variable, not the key") as caught:
        ChatSettings(endpoint="http://host/v1", model="m", key_variable="sk-abc.def")
    assert "abc" not in str(caught.value)
