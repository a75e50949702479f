"""Log-probabilities at one place of a completion: the token that carries the verdict letter, or the "Yes".

For the judge. Pure: it gets the tokens that a backend reported and a position in the text, and says None rather than
guess when the two do not fit together.
"""

from __future__ import annotations

from collections.abc import Sequence

from omnirm.types import TokenLogprob


def verdict_margin(tokens: Sequence[TokenLogprob], text: str, start: int, end: int) -> float | None:
    """log p(A) - log p(B) of the token that holds the verdict letter, nats, in the order shown to the model.

    Args:
        tokens: the completion's tokens; may end with special tokens that are no part of the text.
        text: the completion without the prefill.
        start, end: the verdict letter in `text`, characters.

    Returns:
        None where the letter is not the beginning of one reported token, or A and B were not tracked there.
    """
    if start < 0 or end > len(text) or start >= end:
        return None
    index = token_at(tokens, text, start)
    if index is None:
        return None
    token = tokens[index]
    if not text[start:end].startswith(token.text) or not token.text:
        return None
    return pair_margin(token)


def pair_margin(token: TokenLogprob, first: str = "A", second: str = "B") -> float | None:
    """log p(first) - log p(second) at the token's position, nats; None where one of the two was not tracked."""
    if first not in token.top or second not in token.top:
        return None
    return token.top[first] - token.top[second]


def token_at(tokens: Sequence[TokenLogprob], text: str, start: int) -> int | None:
    """Index of the token that begins exactly at character `start` of `text`; None where there is none.

    Characters are counted from the front where the tokens spell the text, and otherwise (a character split over several
    tokens is often reported as replacement signs) from the place where they spell everything from `start` on.
    """
    position = 0
    for index, token in enumerate(tokens):
        if position == start:
            return index if text.startswith(token.text, position) else None
        if position > start or not text.startswith(token.text, position):
            break
        position += len(token.text)
    spelled = "".join(token.text for token in tokens)
    found = spelled.rfind(text[start:])
    position = 0
    for index, token in enumerate(tokens):
        if position == found:
            return index
        position += len(token.text)
    return None
