"""Keys and passwords of a run, and how they are kept out of everything that is written or shown.

Secrets come from the environment (`OPENAI_API_KEY`, `HF_TOKEN`, proxies with a password, ...) and from addresses
(`http://user:password@host/v1?api-key=...`), which `remember_url` takes in. `mask` replaces them in messages,
`mask_known` in texts that a server sent. `write_atomic` masks what it writes, and every `AvemError` what it says.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from html import escape
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit, urlunsplit

MASK = "***"
"""What is shown instead of a secret."""

_NAMES = r"[\w.-]*(?:key|key_?id|token|secret|passw(?:or)?d|passphrase|pwd|signature|credentials?|authorization|jwt)"
SECRET_VARIABLE = re.compile(_NAMES, re.IGNORECASE)
"""Names of environment variables that hold a secret."""
SECRET_NAME = re.compile(
    rf"(?:{_NAMES}|sig|auth|code|pw|pass|sas|accessid|googleaccessid|session(?:_?id)?)", re.IGNORECASE
)
"""Names of an address's parameters that hold a secret."""

PLACEHOLDERS = frozenset({"empty", "none", "null", "dummy", "unused", "not-needed", "no-key", "no-key-required", "n/a"})
"""What is usually given where a local server needs no key."""

ANYWHERE = 6
"""Secrets of so many characters are masked within words, too; shorter ones only as words of their own."""
DISTINCT = 8
"""Secrets of so many characters with a digit or a capital are like nothing else in a file."""

_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<user>[^\s/?#\"'<>\\]+)@", re.IGNORECASE)
_QUERY = re.compile(rf"(?P<name>[?&;]{SECRET_NAME.pattern}=)[^&#\s\"'<>;\\]+", re.IGNORECASE)
_HEADER = re.compile(
    r"(?P<name>\b(?:Proxy-)?Authorization[\"']*\s*[:=]\s*[\"']*(?:(?:Bearer|Basic|Token|Digest|ApiKey)\s+)?)"
    r"[^\s\"',;}<*]+",
    re.IGNORECASE,
)
_SCHEME = re.compile(r"\b(?P<name>(?:Bearer|Basic)\s+)(?=\S*[0-9=+/])[\w.~+/=-]{8,}")
_PROVIDERS = re.compile(r"\b(?:sk|hf|gsk|ghp|glpat|xox[abp])[-_][\w-]{20,}")

_remembered: set[str] = set()


def remember(*secrets: str) -> None:
    """Add secrets that `mask` and `mask_known` replace from now on; placeholders such as `EMPTY` are not secrets."""
    _remembered.update(secret for secret in secrets if secret and secret.lower() not in PLACEHOLDERS)


def remember_url(url: str) -> None:
    """Add the user, the password and the key-like parameters of an address.

    Example:
        >>> remember_url("https://ann:s3same-street@host/v1?api-key=K31-1")
        >>> mask_known("ann sent s3same-street and K31-1")
        'ann sent *** and ***'
    """
    remember(*_secrets_of_url(url))


def mask(text: str) -> str:
    """A message without secrets: those that are known, and whatever stands where addresses and headers have them.

    Example:
        >>> mask("http://ann:pw@host/v1?api-key=K says Authorization: Bearer abc")
        'http://***@host/v1?api-key=*** says Authorization: Bearer ***'
    """
    text = mask_known(_USER.sub(_mask_user, text))
    text = _QUERY.sub(rf"\g<name>{MASK}", text)
    text = _HEADER.sub(rf"\g<name>{MASK}", text)
    return _PROVIDERS.sub(MASK, _SCHEME.sub(rf"\g<name>{MASK}", text))


def mask_known(text: str) -> str:
    """A text without the secrets of this run, plain or encoded; everything else stays as it is."""
    pattern = _pattern(_known())
    return pattern.sub(MASK, text) if pattern else text


def mask_distinct(text: str) -> str:
    """A whole file's text without those secrets of this run that can't be a part of its format."""
    pattern = _distinct_pattern(_known())
    return pattern.sub(MASK, text) if pattern else text


def mask_distinct_json(value: Any) -> Any:
    """A JSON value with `mask_distinct` applied to every text and name in it."""
    pattern = _distinct_pattern(_known())
    return _replaced(value, pattern) if pattern else value


def mask_json(value: Any) -> Any:
    """A JSON value with `mask` applied to every text in it; the names of fields stay as they are."""
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {name: mask_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [mask_json(item) for item in value]
    return value


def without_secrets(url: str) -> str:
    """An address without user, password and key-like parameters, by which answers are kept.

    Another key for the same address so finds the same answers.

    Example:
        >>> without_secrets("https://ann:pw@host/v1?api-key=K&api-version=2")
        'https://host/v1?api-version=2'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return mask(url)
    query = "&".join(part for part in parts.query.split("&") if not SECRET_NAME.fullmatch(part.partition("=")[0]))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))


def _secrets_of_url(url: str) -> set[str]:
    try:
        parts = urlsplit(url)
        user_info, at, _ = parts.netloc.rpartition("@")
        found = {value for name, value in parse_qsl(parts.query) if SECRET_NAME.fullmatch(name)}
    except ValueError:
        user_info, at, found = "", "", set()
    if not at and "@" in url:  # a password with a slash in it, which ends the host for every parser
        user_info = url.partition("://")[2].rpartition("@")[0]
        user_info = user_info if ":" in user_info.partition("/")[0] else ""
    user, _, password = (unquote(part) for part in user_info.partition(":"))
    if password:
        found |= {password, f"{user}:{password}", user_info, _base64(f"{user}:{password}")}
    if user and (password.lower() in ("", "x-oauth-basic") or len(user) >= 20):  # the user's name is the key
        found |= {user, _base64(f"{user}:{password}")}
    return found


def _known() -> frozenset[str]:
    """Secrets of addresses and options, and those that the environment holds now."""
    return frozenset(_remembered | _of_environment(tuple(os.environ.items())))


@lru_cache(maxsize=4)
def _of_environment(variables: Iterable[tuple[str, str]]) -> frozenset[str]:
    found: set[str] = set()
    for name, value in variables:
        value = value.strip()
        named = SECRET_VARIABLE.fullmatch(name) and len(value) >= DISTINCT and "/" not in value[:1]
        if named and not value.isdecimal() and value.lower() not in PLACEHOLDERS:
            found.add(value)
        if "://" in value and "@" in value:
            found |= _secrets_of_url(value)
        elif "@" in value and name.lower().endswith("_proxy"):
            found |= _secrets_of_url(f"http://{value}")
    return frozenset(found)


@lru_cache(maxsize=4)
def _distinct_pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    return _pattern(frozenset(filter(_is_distinct, secrets)))


def _replaced(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(MASK, value)
    if isinstance(value, Mapping):
        return {pattern.sub(MASK, str(name)): _replaced(item, pattern) for name, item in value.items()}
    return [_replaced(item, pattern) for item in value] if isinstance(value, list | tuple) else value


@lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """What finds any spelling of any of the secrets, the longest first."""
    spellings = {spelling for secret in secrets for spelling in _spellings(secret) if len(spelling) > 1}
    whole = [
        _literal(text) if len(text) >= ANYWHERE else rf"(?<![^\W_]){_literal(text)}(?![^\W_])"
        for text in sorted(spellings, key=lambda text: (-len(text), text))
    ]
    return re.compile("|".join(whole)) if whole else None


def _spellings(secret: str) -> set[str]:
    """A secret as URLs, JSON, HTML, Python and headers spell it."""
    quoted = quote(secret, safe="")
    written = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    written |= {text.replace("/", "\\/") for text in written}
    written |= {_in_script(text) for text in written}
    written |= {escape(text) for text in written} | {_as_markup(text) for text in written}
    written |= {quoted, quote(secret), quote_plus(secret), quote(quoted, safe="")}
    if len(secret) >= ANYWHERE:
        written |= {text.rstrip("=") for text in (_base64(secret), _base64(f":{secret}"))}
    return written


def _is_distinct(secret: str) -> bool:
    return len(secret) >= DISTINCT and any(letter.isdigit() or letter.isupper() for letter in secret)


def _mask_user(found: re.Match[str]) -> str:
    """Mask user and password; a user alone is a key for HTTP, and a part of the address elsewhere (abfs, ssh)."""
    whole: str = found.group()
    secret = ":" in found["user"] or found["scheme"].lower() in ("http://", "https://")
    return f"{found['scheme']}{MASK}@" if secret else whole


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _in_script(text: str) -> str:
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _as_markup(text: str) -> str:
    return escape(text).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")


def _literal(text: str) -> str:
    """A pattern for a text in which the hexadecimal digits of codes such as `%3D` may be capitals or not."""
    return re.sub(r"(?:%|\\\\u00)[0-9A-Fa-f]{2}", lambda found: f"(?i:{found.group()})", re.escape(text))
