"""A backend that answers from a script, for tests, documentation and trying out a pipeline without a model.

    ScriptedBackend(["A]]", "B]]"])            a list: one answer per request, in order
    ScriptedBackend(lambda request: "A]]")     a callable: text, a Completion, or an exception to inject

It knows neither prompts nor parsers. The ready-made scripts below (`say`, `toss`) read the request as any model would.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from omnirm.backends.base import Capabilities
from omnirm.errors import BackendError, ConfigError
from omnirm.types import Completion, Modality, Request, TokenLogprob

Answer = str | Completion | Exception
Script = Callable[[Request], Answer] | Sequence[Answer]

ALL_MODALITIES: frozenset[Modality] = frozenset({"text", "image", "video", "audio"})
_PIECES = re.compile(r"\w+|\s+|[^\w\s]+")


class ScriptedBackend:
    """Answers each request from `script`.

    Args:
        script: a callable `request -> str | Completion | Exception`, or a list of such answers used up one per request.
            A string is the text after the request's prefill and ends with `finish_reason="stop"`, or `"length"` where
            it has more words than `max_new_tokens` allows (it is cut there, as a model would be). An exception,
            returned or raised as `BackendError`, becomes a completion with `finish_reason="error"`; wrap it in a list
            to inject one error among good answers.
        logprobs: what to tell for tracked strings: a mapping string -> log-probability (nats, at every position), a
            callable `(request, piece) -> mapping`, or None for a backend without log-probabilities.
        name, revision, modalities, context: as declared by the backend.

    Attributes:
        requests: every request seen so far, in order.
        batches: how many requests each `generate` call had.
    """

    def __init__(
        self,
        script: Script,
        *,
        logprobs: Mapping[str, float] | Callable[[Request, str], Mapping[str, float]] | None = None,
        name: str = "scripted",
        revision: str = "",
        modalities: frozenset[Modality] | set[Modality] = ALL_MODALITIES,
        context: int = 1_000_000,
    ) -> None:
        if isinstance(script, str):
            raise ConfigError("a script is a list of answers or a callable, not one string; give [text]")
        self.name, self.revision = name, revision
        self.capabilities = Capabilities(frozenset(modalities), logprobs is not None, context)
        self.media_settings: dict[str, object] = {}
        self.requests: list[Request] = []
        self.batches: list[int] = []
        self._script = script
        self._logprobs = logprobs
        self._used = 0

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Answers every request, in order.

        Raises:
            BackendError: a list of answers that is used up.
        """
        self.batches.append(len(requests))
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Completion:
        self.requests.append(request)
        if callable(self._script):
            try:
                answer = self._script(request)
            except BackendError as e:
                answer = e
        elif self._used < len(self._script):
            answer = self._script[self._used]
            self._used += 1
        else:
            raise BackendError(f"the script has {len(self._script)} answers and request {self._used + 1} came")
        if isinstance(answer, Completion):
            return answer
        prompt_tokens = len(_PIECES.findall(prompt_text(request)))
        if isinstance(answer, Exception):
            return Completion("", "error", prompt_tokens, error=str(answer) or type(answer).__name__)
        pieces = split_pieces(answer)
        kept = pieces[: request.max_new_tokens]
        completion = Completion(
            "".join(kept), "stop" if len(kept) == len(pieces) else "length", prompt_tokens, len(kept)
        )
        return replace(completion, logprobs=self._tell(request, kept))

    def _tell(self, request: Request, pieces: list[str]) -> tuple[TokenLogprob, ...]:
        if self._logprobs is None or not request.track:
            return ()
        told = []
        for piece in pieces:
            known = self._logprobs(request, piece) if callable(self._logprobs) else self._logprobs
            top = {one: known[one] for one in request.track if one in known}
            told.append(TokenLogprob(piece, top.get(piece, 0.0), top))
        return tuple(told)


def split_pieces(text: str) -> list[str]:
    """The text in the pieces that this backend counts and reports as tokens: words, runs of spaces, runs of signs."""
    return _PIECES.findall(text)


def prompt_text(request: Request) -> str:
    """All text parts of the request, one below the other, media as `<type>`."""
    parts = (part for message in request.messages for part in message.parts)
    return "\n".join(str(part.value) if part.type == "text" else f"<{part.type}>" for part in parts)


def say(letter: str) -> Callable[[Request], str]:
    """A judge with a preference for a place: always `letter`, in whatever verdict format the prefill begins."""

    def answer(request: Request) -> str:
        if request.prefill.rstrip().endswith("[["):
            return f"{letter}]]"
        match = re.search(r"^# (\S+) prompt$", prompt_text(request), re.MULTILINE)
        key = f" {match.group(1)}" if match else ""
        analysis = "Place. Whichever stands there.<Judge A>First.</Judge A><Judge B>Second.</Judge B>"
        return f"\n<criteria 1>{analysis}{letter}</criteria 1>\n</think>\nVerdict{key}: [[{letter}]]"

    return answer


def toss(seed: int = 0) -> Callable[[Request], str]:
    """A judge that throws a coin, seeded by `seed` and the request's own seed."""
    return lambda request: say(random.Random(f"{seed} {request.seed}").choice("AB"))(request)


def log_odds(p_a: float) -> dict[str, float]:
    """Log-probabilities (nats) for a verdict that is A with probability `p_a` in (0, 1)."""
    return {"A": math.log(p_a), "B": math.log1p(-p_a)}


NAMED: dict[str, Callable[[], ScriptedBackend]] = {
    "always-a": lambda: ScriptedBackend(say("A"), name="scripted:always-a"),
    "always-b": lambda: ScriptedBackend(say("B"), name="scripted:always-b"),
    "random": lambda: ScriptedBackend(toss(), name="scripted:random"),
}


def named(script: str) -> ScriptedBackend:
    """The ready-made backend `scripted:<script>`.

    Raises:
        ConfigError: there is none of that name.
    """
    if script not in NAMED:
        raise ConfigError(
            f"scripted:{script}: no such script; there are {', '.join(f'scripted:{one}' for one in NAMED)}"
        )
    return NAMED[script]()
