"""Verdicts in the completions of a policy that learns to judge, read with the formats' own parsers.

For the rule, format, preference and meta-rewards, and for whoever makes a data set for a stock GRPOTrainer:
`judge_row` renders a sample to a row whose column `reading` holds what a parser has to know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from omnirm.errors import SampleError
from omnirm.parsing.marked import closing_value
from omnirm.parsing.thinking import split_thinking
from omnirm.prompts.formats import FORMATS, Rendered, get_format
from omnirm.sample import dump_rubric, parse_rubrics
from omnirm.strict_json import loads
from omnirm.types import PairVerdict, ParseFailure, PointScore

Read = PairVerdict | PointScore | ParseFailure
_CLOSING = {"pairwise-thinking": "Verdict", "pairwise": "Verdict", "pointwise": "Total"}
_SWITCHES = ("thinking", "allow_tie", "pick", "own")


def judge_row(rendered: Rendered, **columns: Any) -> dict[str, Any]:
    """A row of a data set for TRL's GRPOTrainer: `prompt` (turns), `reading` (JSON), `images` where there are some.

    TRL begins the answer itself, so `rendered.prefill` is not part of it; the reading takes answers with it and
    without it. TRL's tokenizer takes special tokens in the sample's text for what they look like, which omnirm's own
    trainers and backends do not: train on text that you trust, or use those.

    Args:
        rendered: a prompt of the format pairwise-thinking, pairwise or pointwise, in the order shown.
        columns: more of them, as `label` (the letter that is right in the order shown), `pair`, `side`,
            `meta_rewards`.

    Raises:
        SampleError: another format, or a medium that is no image.
    """
    if rendered.format not in _CLOSING:
        raise SampleError(f"format {rendered.format!r} holds no verdict; there are {', '.join(_CLOSING)}")
    turns, images = [], []
    for message in rendered.messages:
        parts: list[dict[str, Any]] = []
        for part in message.parts:
            if part.type not in ("text", "image"):
                raise SampleError(f"a prompt with {part.type}: TRL's GRPOTrainer takes text and images")
            if part.type == "image":
                images.append(part.value)
                parts.append({"type": "image"})
            elif parts and parts[-1]["type"] == "text":
                parts[-1]["text"] += part.value
            else:
                parts.append({"type": "text", "text": part.value})
        plain = len(parts) == 1 and parts[0]["type"] == "text"
        turns.append({"role": message.role, "content": parts[0]["text"] if plain else parts})
    reading: dict[str, Any] = {"format": rendered.format, "key": rendered.nonce, "prefill": rendered.prefill}
    reading |= {name: True for name in _SWITCHES if getattr(rendered, name, False)}
    reading |= {"rubrics": [dump_rubric(one) for one in rendered.rubrics]} if rendered.rubrics else {}
    row = {"prompt": turns, "reading": json.dumps(reading), **columns}
    return row | ({"images": images} if images else {})


def read_rendered(reading: Any) -> Rendered:
    """What a column `reading` says about a prompt, without its messages.

    Raises:
        SampleError: anything that `judge_row` does not write.
    """
    if not isinstance(reading, str):
        raise SampleError(f"reading: found {type(reading).__name__}; write the column that judge_row makes")
    data = loads(reading)
    known = {"format", "key", "prefill", "rubrics", *_SWITCHES}
    if not isinstance(data, Mapping) or not {"format", "key", "prefill"} <= set(data) <= known:
        raise SampleError(f"reading {reading[:80]!r}: not of the form that judge_row writes")
    texts = [data[name] for name in ("format", "key", "prefill")]
    if not all(isinstance(one, str) for one in texts) or data["format"] not in _CLOSING or not data["key"]:
        raise SampleError(f"reading {reading[:80]!r}: not of the form that judge_row writes")
    return Rendered(
        messages=(),
        prefill=data["prefill"],
        nonce=data["key"],
        template_hash="",
        format=data["format"],
        rubrics=parse_rubrics(data.get("rubrics")),
        thinking=data.get("thinking") is True,
        allow_tie=data.get("allow_tie") is True,
        pick=data.get("pick") is True,
        own=data.get("own") is True,
    )


def text_of(completion: Any) -> str:
    """The text of a completion: itself, or that of the assistant's last turn; "" where there is none."""
    if isinstance(completion, str):
        return completion
    turns = completion if isinstance(completion, Sequence) else []
    answers = [one for one in turns if isinstance(one, Mapping) and one.get("role") == "assistant"]
    content = answers[-1].get("content") if answers else None
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Sequence) else []
    texts = [one.get("text") for one in parts if isinstance(one, Mapping) and one.get("type") == "text"]
    return "".join(text for text in texts if isinstance(text, str))


def read_verdict(rendered: Rendered, completion: Any) -> Read:
    """The verdict or the scores of a completion, or why there are none. The answer may repeat the prefill or not."""
    found: Read = get_format(rendered.format).parse(rendered, _whole(rendered, completion), "stop")
    return found


def form_of(rendered: Rendered, completion: Any) -> tuple[bool, bool]:
    """Are all tags there and in order? Is the verdict or are the scores valid?

    A text that the parser reads is well formed. Of the others, the tags are right where the closing line is in its
    place (behind the one `</think>`, with the key) and only what it says, or a score before it, is none.
    """
    found = read_verdict(rendered, completion)
    if not isinstance(found, ParseFailure):
        return True, True
    text, start = _whole(rendered, completion), 0
    if rendered.thinking:
        split = split_thinking(text)
        if isinstance(split, ParseFailure):
            return False, False
        start = split[1]
    closing = closing_value(_CLOSING[rendered.format], rendered.nonce, text, start)
    if isinstance(closing, ParseFailure):
        return False, False
    valid_otherwise = _with_value(rendered, text, closing[1:])
    return found.reason == "out_of_range" or valid_otherwise, False


def _with_value(rendered: Rendered, text: str, span: tuple[int, int]) -> bool:
    """Would the parser read the text if the closing line had a value that there is?"""
    value = "A" if _CLOSING[rendered.format] == "Verdict" else "5"
    repaired = text[: span[0]] + value + text[span[1] :]
    return not isinstance(get_format(rendered.format).parse(rendered, repaired, "stop"), ParseFailure)


def _whole(rendered: Rendered, completion: Any) -> str:
    text = text_of(completion)
    return text if text.startswith(rendered.prefill) else rendered.prefill + text


assert set(_CLOSING) <= set(FORMATS)

__all__ = ["Read", "form_of", "judge_row", "read_rendered", "read_verdict", "text_of"]
