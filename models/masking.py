"""Passwords and keys out of every text that is shown, logged or stored.

Stops: passwords in URLs and connection strings, values of names such as api_key or token, bearer
headers, keys with a known prefix. Does not stop: a bare secret that looks like any other word.
"""

from __future__ import annotations

import re

MASK = "***"
_URL = re.compile(r"(?P<start>\b[a-z][a-z0-9+.-]*://[^\s/@:]*:)[^\s@]+(?P<end>@)", re.IGNORECASE)
_NAMED = re.compile(
    r"(?P<start>\b[\w-]*(?:password|passwd|pwd|secret|token|api[_-]?key|apikey|credential)s?"
    r"[\"']?\s*(?:=|:)\s*[\"']?)(?!//)(?P<value>[^\s\"',;&)]{3,})",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?P<start>\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_PREFIXED = re.compile(r"\b(?:sk|pk|ghp|gho|hf|xox[abp]|AKIA)[-_]?[A-Za-z0-9_-]{16,}")


def mask(text: str) -> str:
    """`text` with each secret in it replaced by three stars."""
    text = _URL.sub(rf"\g<start>{MASK}\g<end>", text)
    text = _NAMED.sub(rf"\g<start>{MASK}", text)
    text = _BEARER.sub(rf"\g<start>{MASK}", text)
    return _PREFIXED.sub(MASK, text)
