"""Secrets: found in the environment and in addresses, masked in every spelling, gone from errors, logs and files."""

from __future__ import annotations

import base64
import html
import json
import logging
import os
import subprocess
import sys
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avem.endpoint.connections import proxy_for
from avem.errors import AvemError, SettingError
from avem.files import write_atomic
from avem.guards import secrets
from avem.guards.secrets import mask, mask_json, mask_known, remember, remember_url, without_secrets
from avem.sealed.checksums import seal, unseal
from avem.text.terminal import PlainFormatter, show, show_block

KEY = "s3same&<street>\"o'p/e=n é"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Secrets of one test are unknown to the next."""
    monkeypatch.setattr(secrets, "_remembered", set())


@pytest.mark.parametrize(
    "spelling",
    [
        str,
        quote,
        quote_plus,
        lambda key: quote(key, safe=""),
        lambda key: quote(key, safe="").replace("%3D", "%3d"),
        lambda key: quote(quote(key, safe=""), safe=""),
        html.escape,
        lambda key: json.dumps(key)[1:-1],
        lambda key: json.dumps(key, ensure_ascii=False)[1:-1],
        lambda key: json.dumps(key).replace("/", "\\/")[1:-1],
        lambda key: html.escape(json.dumps(key)[1:-1]),
        lambda key: repr(key)[1:-1],
        lambda key: base64.b64encode(key.encode()).decode(),
    ],
)
def test_every_spelling_of_a_key_is_masked(spelling):
    remember(KEY)
    assert mask_known(f"<<{spelling(KEY)}>>") == "<<***>>" or spelling(KEY).endswith("=")
    assert spelling(KEY).rstrip("=") not in mask_known(f"before {spelling(KEY)} after")


@given(st.text(min_size=6, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_no_known_key_is_left_in_any_text(key, before, after):
    if key.lower() in secrets.PLACEHOLDERS or key in "***":
        return
    remember(key)
    try:
        assert key not in mask_known(before + key + after)
    finally:
        secrets._remembered.discard(key)


def test_addresses_give_up_their_secrets():
    address = "https://ann:hunter%2Ftwo@host:8000/v1?api-key=QUERYKEY&api-version=2&sig=a%2Bb99999"
    assert mask(address) == "https://***@host:8000/v1?api-key=***&api-version=2&sig=***"
    assert without_secrets(address) == "https://host:8000/v1?api-version=2"
    remember_url(address)
    basic = base64.b64encode(b"ann:hunter/two").decode()
    for said in ("hunter/two", "hunter%2Ftwo", "QUERYKEY", "a+b99999", basic):
        assert mask_known(f"it said {said}.") == "it said ***."
    assert mask_known("ann is no secret") == "ann is no secret"
    remember_url("http://bob:sla/sh99@host/v1")
    assert "sla/sh99" not in mask_known("password sla/sh99 is wrong")


@pytest.mark.parametrize(
    "name",
    [
        "api-key",
        "api_key",
        "apikey",
        "key",
        "token",
        "access_token",
        "sig",
        "password",
        "code",
        "signature",
        "X-Amz-Signature",
        "X-Amz-Security-Token",
        "subscription-key",
        "client_secret",
        "auth",
        "jwt",
        "pwd",
    ],
)
def test_parameters_that_hold_keys(name):
    assert mask(f"GET https://host/v1?a=b&{name}=K HTTP/1.1") == f"GET https://host/v1?a=b&{name}=*** HTTP/1.1"
    assert without_secrets(f"https://host/v1?{name}=K&a=b") == "https://host/v1?a=b"


@pytest.mark.parametrize(
    "said",
    [
        "Authorization: Bearer abcdefgh",
        'headers {"Authorization": "Basic abcdefgh"}',
        "authorization=abcdefgh",
        "got Bearer abcdefgh1",
        "Proxy-Authorization: Basic abcdefgh",
    ],
)
def test_headers_are_masked_whoever_s_they_are(said):
    assert "abcdefgh" not in mask(said)


def test_ordinary_text_stays():
    for text in (
        "Basic reasoning over audio, 3 of 4; the bearer carries it.",
        "see https://host/@user?page=2&codec=h264#part",
        "abfs://container@account.dfs.core.windows.net/path and git@github.com:a/b",
        "tokens: 12, key=question",
    ):
        assert mask(text) == text


@pytest.mark.parametrize(
    "name", ["HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "FSSPEC_S3_SECRET", "MY_PASSWORD"]
)
def test_secrets_of_the_environment(monkeypatch, name):
    monkeypatch.setenv(name, "value-31337")
    assert mask_known("it is value-31337") == "it is ***"
    monkeypatch.setenv(name, "EMPTY")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "parallelism")
    assert mask_known("EMPTY value-31337 parallelism") == "EMPTY value-31337 parallelism"


@pytest.mark.parametrize("value", ["socks5://ann:pr0xypass@proxy:1080", "ann:pr0xypass@proxy:1080"])
def test_a_proxy_s_password_is_not_said(monkeypatch, value):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(SettingError, match="names the proxy") as caught:
        proxy_for("http://host/v1")
    assert "pr0xypass" not in str(caught.value)


def test_what_is_written_logged_and_shown_holds_no_key(tmp_path, capsys):
    remember("s3same-street")
    write_atomic(tmp_path / "file.json", json.dumps({"note": "the key s3same-street"}))
    assert json.loads((tmp_path / "file.json").read_text()) == {"note": "the key ***"}
    sealed = seal({"note": "s3same-street"})
    write_atomic(tmp_path / "sealed.json", json.dumps(sealed))
    assert unseal(json.loads((tmp_path / "sealed.json").read_text()), "here") == {"note": "***"}
    assert str(AvemError("no s3same-street here")) == "no *** here"
    record = logging.LogRecord("avem", logging.INFO, "", 0, "said %s", ("s3same-street",), None)
    assert PlainFormatter("%(message)s").format(record) == "said ***"
    show("shown s3same-street")
    show_block("a\ns3same-street")
    assert "s3same-street" not in capsys.readouterr().out


def test_words_that_are_keys_leave_a_file_s_form_alone(tmp_path):
    remember("question", "letters")
    write_atomic(tmp_path / "file.json", json.dumps({"question": "letters"}))
    assert json.loads((tmp_path / "file.json").read_text()) == {"question": "letters"}
    assert mask_json({"question": ["the letters", 1, None]}) == {"question": ["the ***", 1, None]}


SCRIPT = """
import logging, os, sys, warnings
from avem.text.terminal import log_to_terminal
log_to_terminal()
logging.getLogger("avem.x").info("info s3same-street \\x1b[1m")
warnings.warn("warned s3same-street", stacklevel=1)
raise RuntimeError("unforeseen s3same-street \\x1b[2J")
"""


def test_unforeseen_errors_and_warnings_hold_no_key():
    environment = {**os.environ, "SOME_API_KEY": "s3same-street"}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.count("***") >= 3
    assert "Traceback" in run.stderr
    assert "s3same" not in run.stderr
    assert "\x1b" not in run.stderr
