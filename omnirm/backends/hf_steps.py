"""What happens at each generated token: places of media kept out, seeded sampling per row, log-probabilities of tracked
strings, stop texts.

For `hf.py` only. Sampling is Gumbel-max on the truncated distribution: with noise from a generator of each row's own,
the highest score is an exact sample, and a row's draw does not depend on its neighbours in the batch.
"""

from __future__ import annotations

from codecs import getincrementaldecoder
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from omnirm.errors import CapabilityError
from omnirm.types import Request, TokenLogprob


def media_tokens(config: Any) -> tuple[int, ...]:
    """Ids that stand for media in a model's input: placeholders and what is put around them, as its configuration says.

    They are of use in prompts only. In an answer they would be places of media that are not there, and the families'
    code for positions looks for those media.
    """
    kinds, ends = ("image", "video", "audio", "vision_start", "vision_end", "audio_start", "audio_end"), ("id", "index")
    found = (getattr(config, f"{kind}_token_{end}", None) for kind in kinds for end in ends)
    return tuple(sorted({token for token in found if isinstance(token, int)}))


def no_media(tokens: Sequence[int]) -> Callable[[Any, Any], Any]:
    """A logits processor: a judge writes text, so no token that stands for a medium can be chosen."""

    import torch

    def process(_: Any, scores: Any) -> Any:
        return scores.index_fill(1, torch.tensor(tokens, dtype=torch.long, device=scores.device), float("-inf"))

    return process


def sample_processor(requests: Sequence[Request]) -> Callable[[Any, Any], Any]:
    """A logits processor: rows with temperature 0 stay greedy, others get their temperature, top-p and noise."""
    import torch

    drawn = [row for row, request in enumerate(requests) if request.temperature > 0]
    generators = [torch.Generator().manual_seed(requests[row].seed & (2**63 - 1)) for row in drawn]
    temperatures = torch.tensor([[requests[row].temperature] for row in drawn])
    shares = [requests[row].top_p for row in drawn]
    limits = torch.tensor([[share if share < 1 else float("inf")] for share in shares])

    def process(_: Any, scores: Any) -> Any:
        if not drawn:
            return scores
        scores, where = scores.float(), scores.device
        rows = torch.tensor(drawn, device=where)
        logits = scores[rows]
        logits = (logits - logits.amax(-1, keepdim=True)) / temperatures.to(where)
        if min(shares) < 1:
            ordered, order = logits.softmax(-1).sort(descending=True, stable=True)
            drop = ordered.cumsum(-1) - ordered >= limits.to(where)  # the token that passes top_p is kept
            drop[:, 0] = False
            logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
        uniform = torch.stack([torch.rand(logits.shape[1], generator=one) for one in generators]).to(where)
        return scores.index_copy(0, rows, logits - torch.log(-torch.log(uniform.clamp(1e-20, 1 - 1e-7))))

    return process


class StepLog:
    """Log-probabilities (nats, of the unmodified distribution) of tracked strings and of the chosen token, by step and
    row. Raises `CapabilityError` for a string that is no single token."""

    def __init__(self, tokenizer: Any, tracks: Sequence[Sequence[str]]) -> None:
        self._tokenizer = tokenizer
        self._tracks = tracks
        self._strings = sorted({s for track in tracks for s in track})
        self._ids = [self._single(s) for s in self._strings]
        self._steps: list[Any] = []
        self._raw: Any = None

    def _single(self, text: str) -> int:
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if len(ids) != 1:
            raise CapabilityError(f"{text!r} is {len(ids)} tokens for this model; only single tokens can be tracked")
        return ids[0]

    def before(self, _: Any, scores: Any) -> Any:
        """Remembers the unmodified log-probabilities."""
        self._raw = scores.float().log_softmax(-1) if self._ids else None
        return scores

    def after(self, _: Any, scores: Any) -> Any:
        """Records the chosen token's and the tracked strings' values: a row [1 + tracked] each."""
        import torch

        if self._raw is not None:
            chosen = self._raw.gather(1, scores.argmax(-1, keepdim=True))
            self._steps.append(torch.cat([chosen, self._raw[:, self._ids]], 1).cpu())
        return scores

    def token_logprobs(self, row: int, ids: Sequence[int], text: str) -> tuple[TokenLogprob, ...]:
        """One entry a token; the texts join to `text`, which is the tokens' text or the beginning of it (tokens past
        its end have the text "")."""
        pieces = token_texts(self._tokenizer, ids, text)
        wanted = set(self._tracks[row])
        out = []
        for step, piece in enumerate(pieces):
            values = self._steps[step][row].tolist()
            top = {s: v for s, v in zip(self._strings, values[1:], strict=True) if s in wanted}
            out.append(TokenLogprob(piece, values[0], top))
        return tuple(out)


def token_texts(tokenizer: Any, ids: Sequence[int], text: str) -> list[str]:
    """The text of each token, such that they join to `text`.

    A character whose bytes are spread over several tokens belongs to the last of them. `text` may be cut: what is
    beyond it is cut from the pieces too.
    """
    decoder = getincrementaldecoder("utf-8")("replace")
    pieces = [decoder.decode(_bytes(token)) for token in tokenizer.convert_ids_to_tokens(list(ids))]
    if pieces:
        pieces[-1] += decoder.decode(b"", final=True)
    if not "".join(pieces).startswith(text):  # no byte-level vocabulary: by the lengths of growing prefixes
        ends = [len(tokenizer.decode(ids[: i + 1], skip_special_tokens=False)) for i in range(len(ids))]
        pieces = [text[a : max(a, b)] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    cut, at = [], 0
    for piece in pieces:
        cut.append(text[at : at + len(piece)])
        at += len(piece)
    return cut


class StopTexts:
    """A stopping criterion: a row is done when its newest tokens hold one of its stop texts, or at its own limit."""

    def __init__(self, tokenizer: Any, requests: Sequence[Request], prompt_length: int) -> None:
        self._tokenizer, self._requests, self._start = tokenizer, requests, prompt_length
        # a token has at least one byte, so a stop text that the newest token completes lies in this many tokens
        self._tails = [max((len(stop.encode()) for stop in r.stop), default=0) + 3 for r in requests]
        self._done: dict[int, int] = {}

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        count = input_ids.shape[1] - self._start
        for row, request in enumerate(self._requests):
            if request.stop and row not in self._done and count <= request.max_new_tokens:
                new = input_ids[row, self._start :][-self._tails[row] :].tolist()
                tail = self._tokenizer.decode(new, skip_special_tokens=False)
                if any(stop in tail for stop in request.stop):
                    self._done[row] = count
        done = [row in self._done or count >= r.max_new_tokens for row, r in enumerate(self._requests)]
        return torch.tensor(done, device=input_ids.device)

    def at(self, row: int) -> int | None:
        """Number of new tokens up to and with the stop text; None where it never came."""
        return self._done.get(row)


@cache
def _byte_of() -> dict[str, int]:
    """The byte that each letter of a byte-level vocabulary stands for (GPT-2's table)."""
    shown = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


def _bytes(token: str | None) -> bytes:
    if token is None:  # models have a few more ids than their tokenizers have tokens
        return b""
    table = _byte_of()
    if all(letter in table for letter in token):
        return bytes(table[letter] for letter in token)
    return token.encode()
