"""What a format is, and what it renders: messages for a model together with all that its parser needs.

For the formats beside this file and for the judge. Knows no single format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from omnirm.sample import Sample
from omnirm.types import Message, ParseFailure, Request, Rubric


@dataclass(frozen=True, slots=True)
class Rendered:
    """A prompt, ready to send.

    Attributes:
        messages: conversation; only text of our templates is trusted.
        prefill: how the assistant's turn begins; the completion continues it.
        nonce: the key of this request: it occurs in no untrusted text, and a verdict counts only with it.
        template_hash: short SHA-256 of the template files used.
        stop: strings that end the generation. Their text belongs to the completion.
        track: strings whose log-probability is wanted (each a single token).
        forced: (marker, text) that is ours to write in the answer, see `omnirm.types.Request`.
        max_new_tokens: room for the answer.
        format: name of the format that rendered it.
        rubrics: the numbered rubrics that the prompt shows, in order.
        allow_tie: a tie is an answer.
        thinking: the answer opens with thinking.
        pick: the judge chooses one of the rubrics and judges by it alone.
        own: the judge adds rubrics of its own to those shown.
        asked: how many things were asked for (rubric planning), else 0.
    """

    messages: tuple[Message, ...]
    prefill: str
    nonce: str
    template_hash: str
    stop: tuple[str, ...] = ()
    track: tuple[str, ...] = ()
    forced: tuple[str, str] | None = None
    max_new_tokens: int = 1024
    format: str = ""
    rubrics: tuple[Rubric, ...] = field(default=())
    allow_tie: bool = False
    thinking: bool = False
    pick: bool = False
    own: bool = False
    asked: int = 0

    def request(self, **overrides: Any) -> Request:
        """The request for a backend; any field of `Request` may be given instead of the format's own value."""
        fields: dict[str, Any] = {
            "messages": self.messages,
            "prefill": self.prefill,
            "max_new_tokens": self.max_new_tokens,
            "stop": self.stop,
            "track": self.track,
            "forced": self.forced,
        }
        return Request(**(fields | overrides))


class Format(Protocol):
    """A template and its parser, together so that they cannot drift apart."""

    @property
    def name(self) -> str:
        """The name in `FORMATS`."""
        ...

    def render(self, sample: Sample, *, rubrics: tuple[Rubric, ...] = (), **options: Any) -> Rendered:
        """Renders a sample in its own order. Raises `SampleError` where it does not fit the format."""
        ...

    def parse(self, rendered: Rendered, text: str, finish_reason: str) -> Any | ParseFailure:
        """Reads an answer. `text` is prefill + completion. What cannot be read is a `ParseFailure`, never a guess."""
        ...
