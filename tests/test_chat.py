"""The chat client against a local server that behaves in every way servers do."""

import asyncio
import warnings

import pytest

from avem.endpoint.chat import ChatClient, ChatRequest, ChatSettings, ask_each
from avem.endpoint.connections import proxy_for
from avem.errors import EndpointError, SettingError
from tests.endpoint_kit import completion, stand_in

REQUEST = ChatRequest([{"role": "user", "content": "Which?"}], max_tokens=5)


def ask(served, **options):
    settings = ChatSettings(endpoint=served.endpoint, model="m", **{"pause_s": 0.01, "retries": 2, **options})

    async def once():
        async with ChatClient(settings) as client:
            return await client.ask(REQUEST)

    return asyncio.run(once())


def in_turn(*results):
    left = list(results)
    return lambda body: left.pop(0) if left else results[-1]


def test_reply_with_its_cost(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    with stand_in(lambda body: "B") as served:
        reply = ask(served)
    assert (reply.text, reply.prompt_tokens, reply.completion_tokens, reply.finish_reason) == ("B", 7, 3, "stop")
    assert served.asked[0]["path"] == "/v1/chat/completions"
    assert (served.asked[0]["model"], served.asked[0]["max_tokens"], served.asked[0]["temperature"]) == ("m", 5, 0.0)
    assert served.keys == ["Bearer sesame"]


@pytest.mark.parametrize(
    "bad",
    [
        (429, '{"error": {"message": "slow down"}}', {"Retry-After": "0.01"}),
        (503, "overloaded"),
        (200, "<html><body>Sign in</body></html>"),
        (200, completion("B")[:40]),
        (200, '{"choices": []}'),
        (200, "[]"),
    ],
)
def test_what_may_pass_is_tried_again(bad):
    with stand_in(in_turn(bad, bad, "B")) as served:
        assert ask(served).text == "B"
    assert len(served.asked) == 3


@pytest.mark.parametrize(
    ("bad", "said", "stops_all", "tries"),
    [
        ((401, '{"error": {"message": "bad key"}}'), "refuses the key.*bad key.*OPENAI_API_KEY", True, 1),
        ((404, "nothing here"), "knows no model 'm'.*ends in /v1", True, 1),
        ((429, '{"error": {"code": "insufficient_quota", "message": "empty"}}'), "no credit left", True, 1),
        ((400, '{"error": {"message": "no audio, please"}}'), "refuses the request.*no audio, please", False, 1),
        ((429, "no"), "limits the rate.*3 times", False, 3),
        ((200, "<html>"), "web page.*3 times", False, 3),
        ((200, '{"choices": [{"mess'), "broken or unexpected JSON.*3 times", False, 3),
    ],
)
def test_what_stays_wrong_is_said(bad, said, stops_all, tries):
    with stand_in(lambda body: bad) as served, pytest.raises(EndpointError, match=said) as caught:
        ask(served)
    assert caught.value.stops_all is stops_all
    assert len(served.asked) == tries


def test_silence_and_no_server():
    with stand_in(lambda body: 0.5) as served:
        with pytest.raises(EndpointError, match=r"did not answer within 0.1 s, 2 times"):
            ask(served, timeout_s=0.1, retries=1)
        gone = served
    with pytest.raises(EndpointError, match="can't be reached"):
        ask(gone, retries=0)


def run_each(served, count, **options):
    settings = ChatSettings(endpoint=served.endpoint, model="m", pause_s=0.01, **options)
    taken = []

    def requests():
        for number in range(count):
            taken.append(number)
            yield number, ChatRequest([{"role": "user", "content": str(number)}])

    async def run():
        async with ChatClient(settings) as client:
            return {key: reply async for key, reply in ask_each(client, requests())}

    return asyncio.run(run()), taken


def test_many_requests_with_one_refused():
    def reaction(body):
        text = body["messages"][0]["content"]
        return (400, "not this one") if text == "3" else text

    with stand_in(reaction) as served:
        found, _ = run_each(served, 9, parallel=2)
    assert isinstance(found[3], EndpointError)
    assert {key: reply.text for key, reply in found.items() if key != 3} == {n: str(n) for n in range(9) if n != 3}


def test_a_wrong_key_stops_the_run_at_once():
    with stand_in(lambda body: (401, "no")) as served, pytest.raises(EndpointError, match="refuses the key"):
        run_each(served, 1000, parallel=2)
    assert len(served.asked) <= 4


def test_settings_that_cannot_work():
    for wrong in ({"endpoint": "localhost"}, {"model": ""}, {"parallel": 0}, {"timeout_s": 0}):
        with pytest.raises(SettingError):
            ChatSettings(**{"endpoint": "http://here/v1", "model": "m", **wrong})


def test_a_large_body_arrives_whole():
    sound = "x" * (3 * 2**20)
    with stand_in(lambda body: str(len(body["messages"][0]["content"]))) as served, warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        settings = ChatSettings(endpoint=served.endpoint, model="m")
        request = ChatRequest([{"role": "user", "content": sound}], headers={"Idempotency-Key": "once"})

        async def once():
            async with ChatClient(settings) as client:
                return await client.ask(request)

        assert asyncio.run(once()).text == str(len(sound))


def test_a_redirect_is_no_answer():
    elsewhere = (307, "moved", {"Location": "http://127.0.0.1:9/v1/chat/completions"})
    with stand_in(lambda body: elsewhere) as served, pytest.raises(EndpointError, match="status 307"):
        ask(served)
    assert len(served.asked) == 1


def test_keys_are_sent_without_the_line_end_of_their_file(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sesame\r\n")
    with stand_in(lambda body: "B") as served:
        ask(served)
        assert served.keys == ["Bearer sesame"]
        monkeypatch.setenv("OPENAI_API_KEY", "sesame\nopen")
        with pytest.raises(SettingError, match="OPENAI_API_KEY holds characters"):
            ask(served)


@pytest.mark.parametrize("address", ["http://", "http://[::1/v1", "http://here:99999999/v1"])
def test_addresses_that_are_none_stop_the_run(address):
    with pytest.raises(EndpointError, match="is not a valid address") as caught:
        asyncio.run(ask_at(address))
    assert caught.value.stops_all


async def ask_at(address):
    async with ChatClient(ChatSettings(endpoint=address, model="m", retries=0)) as client:
        return await client.ask(REQUEST)


def test_proxies_of_the_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for("https://api.example.org/v1") is None
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "localhost,.inner")
    assert proxy_for("https://api.example.org/v1") == "http://proxy:3128"
    assert proxy_for("http://api.example.org/v1") is None
    assert proxy_for("https://vllm.inner/v1") is None
    with stand_in(lambda body: "B") as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint.removesuffix("/v1"))
        assert asyncio.run(ask_at("http://api.example.org/v1")).text == "B"
    assert proxy.asked[0]["path"] == "http://api.example.org/v1/chat/completions"
    monkeypatch.setenv("all_proxy", "socks5://proxy:1080")
    monkeypatch.delenv("http_proxy")
    with pytest.raises(SettingError, match="socks5"):
        proxy_for("http://api.example.org/v1")
