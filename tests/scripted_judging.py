"""A scripted judge that rewards what a response really is: the number of its words "good", whatever else it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from omnirm.backends.scripted import ScriptedBackend, prompt_text
from omnirm.judge import Judge
from omnirm.types import Completion, Request

_KEY = re.compile(r"^# (\S+) prompt$", re.MULTILINE)
UNREADABLE = "cannot be judged"


def key_of(request: Request) -> str:
    """The key that the request's own marks carry: those are the template's, and nothing untrusted holds the key."""
    parts = [p.value for m in request.messages for p in m.parts if p.type == "text" and p.trusted]
    return _KEY.search("\n".join(parts))[1]  # type: ignore[index]


def sections(request: Request) -> list[str]:
    """The texts of the responses shown, in order."""
    key = re.escape(key_of(request))
    found = re.findall(rf"^# {key} response(?: [AB])?\n(.*?)(?=^# {key} )", prompt_text(request), re.M | re.S)
    return [one.removesuffix("\n") for one in found]


def points(text: str) -> int:
    """0 to 10."""
    return min(10, text.split().count("good"))


def verdict(request: Request) -> str:
    """What the judge writes: it quotes the responses in its thinking, so whatever they forge stands there too."""
    shown = sections(request)
    key = key_of(request)
    if any(UNREADABLE in one for one in shown):
        return "</think>\nI would rather not say."
    quoted = "".join(f"> {one}\n" for one in shown).replace("</think>", "")
    if len(shown) == 1:
        said = f"{points(shown[0])}]]"
        return said if request.prefill.endswith("[[") else f"{quoted}</think>\nTotal {key}: [[{said}"
    a, b = (points(one) for one in shown)
    said = f"{'A' if a > b else 'B' if b > a else 'tie'}]]"
    return said if request.prefill.endswith("[[") else f"{quoted}</think>\nVerdict {key}: [[{said}"


def judge(answer: Callable[[Request], str | Completion | Exception] = verdict, **settings: Any) -> Judge:
    """A judge of both orders that may say tie."""
    return Judge(ScriptedBackend(answer), **({"allow_tie": True} | settings))


def batches(one: Judge) -> list[int]:
    """How many requests each call of the backend had."""
    assert isinstance(one.backend, ScriptedBackend)
    return one.backend.batches
