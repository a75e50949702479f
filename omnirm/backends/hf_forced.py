"""Writes a request's fixed text where its place comes: for `hf.py` only, one step of generation.

After the first occurrence of a marker (`</think>`) the tokens of the fixed text (the verdict line up to its letter) are
put in place of the model's choice, and the one behind it can only be one of the answers offered (`Request.track`). So a
verdict is read from its own place whatever the model would have written there. The recorded log-probabilities stay the
model's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omnirm.types import Request


class ForcedText:
    """A logits processor. A row's fixed text begins right behind the marker; white space that came with it counts."""

    def __init__(self, tokenizer: Any, requests: Sequence[Request], prompt_length: int) -> None:
        self._tokenizer, self._start = tokenizer, prompt_length
        self._open = {row: r.forced for row, r in enumerate(requests) if r.forced is not None}
        self._rest: dict[int, list[list[int]]] = {}  # what may stand at each coming place
        self._answers = {row: self._singles(requests[row].track) for row in self._open}
        self._fixed: dict[int, set[int]] = {}

    def at(self, row: int) -> frozenset[int]:
        """Places of the new tokens that were put there, the answer itself not among them."""
        return frozenset(self._fixed.get(row, ()))

    def _singles(self, answers: Sequence[str]) -> list[int]:
        found = [self._tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
        return [ids[0] for ids in found if len(ids) == 1]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Leaves only the next fixed token, or the answers offered, possible in rows that are in their fixed text."""
        for row, (marker, text) in list(self._open.items()):
            tail = self._tokenizer.decode(
                input_ids[row, self._start :][-len(marker.encode()) - 3 :].tolist(), skip_special_tokens=False
            )
            _, found, after = tail.rpartition(marker) if marker else ("", True, "")
            if found:
                del self._open[row]
                if text.startswith(after) or not after.strip():
                    rest = text.removeprefix(after) if text.startswith(after) else text.lstrip()
                    fixed = [[token] for token in self._tokenizer(rest, add_special_tokens=False)["input_ids"]]
                    self._rest[row] = [*fixed, *([self._answers[row]] if self._answers[row] else [])]
        for row, places in self._rest.items():
            if places:
                allowed = places.pop(0)
                if len(allowed) == 1:
                    self._fixed.setdefault(row, set()).add(input_ids.shape[1] - self._start)
                kept = scores[row, allowed].clamp(min=-1e30)
                scores = scores.clone()
                scores[row] = float("-inf")
                scores[row, allowed] = kept
        return scores
