"""From the rows of somebody else's trainer (prompts, completions, columns as TRL and verl have them) to samples.

For the reward callables beside this file. What cannot be understood is a `SampleError` of that row, so that one bad row
loses no other. Knows no judge and opens no media.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from omnirm.content import MEDIA, parse_content, show
from omnirm.errors import SampleError
from omnirm.judgment import prompt_hash
from omnirm.sample import Candidate, Sample, parse_rubrics
from omnirm.types import Message, Modality, Part, Rubric

_ADDRESSES = ("url", "path")  # where transformers' chat templates keep what omnirm keeps under the part's own type
_ANSWER: Literal["assistant"] = "assistant"
_ROLES: tuple[Literal["system", "user", "assistant"], ...] = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Response:
    """What is judged, and a hash of it: the same for equal responses, media included."""

    parts: tuple[Part, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Row:
    """One completion to be rewarded.

    prompt: the conversation, ending with the user. group: the same for all completions of one prompt under the same
    rubrics. reference: an answer to compare with, None where there is none.
    """

    prompt: tuple[Message, ...]
    group: str
    response: Response
    rubrics: tuple[Rubric, ...] = ()
    reference: Response | None = None

    def sample(self, *others: Response) -> Sample:
        """The response, and others behind it, as candidates. Equal content gives an equal id."""
        candidates = (self.response, *others)
        name = "-".join([self.group, *(one.key for one in candidates)])
        return Sample(name, self.prompt, tuple(Candidate(one.parts) for one in candidates), rubrics=self.rubrics)


@dataclass(slots=True)
class _Supply:
    """Media of a row's columns, handed out to the places that a prompt leaves open for them."""

    media: dict[Modality, list[Any]] = field(default_factory=dict)
    open_: dict[Modality, int] = field(default_factory=dict)  # places filled from `media`
    filled: dict[Modality, int] = field(default_factory=dict)  # parts that brought their medium along

    def take(self, kind: Modality) -> Any:
        place = self.open_.get(kind, 0)
        self.open_[kind] = place + 1
        if place >= len(self.media.get(kind, [])):
            raise SampleError(f"prompt: place {place + 1} for an {kind}, and the row has {place}: add a column {kind}s")
        return self.media[kind][place]


def make_row(
    prompt: Any, completion: Any, *, media: Mapping[str, Any] | None = None, rubrics: Any = None, reference: Any = None
) -> Row:
    """Reads one row.

    Args:
        prompt: a text, or turns `{"role", "content"}` whose content is a text or a list of parts. A last turn of the
            assistant is the beginning of the response.
        completion: a text, or turns of which the last one of the assistant is judged.
        media: the row's media by kind (`image`, `video`, `audio`), each a list. They fill the prompt's open places
            (`{"type": "image"}`), or stand before the first user turn where it has none; a prompt that brings its own
            media is left as it is, as TRL fills them in itself.
        rubrics: a list of texts or objects, see `omnirm.sample.parse_rubrics`; None or empty for none.
        reference: like a completion; None for none.

    Raises:
        SampleError: anything that cannot be understood.
    """
    supply = _Supply({kind: list(plain((media or {}).get(kind)) or ()) for kind in MEDIA})
    turns = _turns(plain(prompt), supply)
    begun: tuple[Part, ...] = ()
    if turns[-1].role == _ANSWER:
        begun = turns[-1].parts
        turns = turns[:-1]
    turns = _with_rest(turns, supply)
    listed = plain(rubrics)
    parsed = parse_rubrics([_without_none(one) for one in listed] if isinstance(listed, list) else listed)
    shown = json.dumps([(rubric.name, rubric.text, rubric.weight) for rubric in parsed])
    row = Row(
        turns,
        prompt_hash(turns, shown)[:32],
        _response((*begun, *_answer(completion))),
        parsed,
        None if reference is None else _response((*begun, *_answer(reference))),
    )
    row.sample()  # raises where the turns make no sample
    return row


def plain(value: Any) -> Any:
    """Lists and dicts in place of tuples, arrays of objects and other mappings and sequences, for one level."""
    if isinstance(value, str | bytes) or value is None:
        return value
    if str(getattr(value, "dtype", "")) == "object":  # an array of numpy, as Parquet gives lists back
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Sequence) else value


def _turns(prompt: Any, supply: _Supply) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        return (Message("user", parse_content(prompt, "prompt")),)
    if not isinstance(prompt, list) or not prompt:
        raise SampleError(f"prompt: found {show(prompt)}; write a text or a list of turns")
    return tuple(_turn(one, f"prompt[{i}]", supply) for i, one in enumerate(prompt))


def _turn(turn: Any, path: str, supply: _Supply | None) -> Message:
    role = next((one for one in _ROLES if isinstance(turn, Mapping) and turn.get("role") == one), None)
    if role is None:
        raise SampleError(f"{path}: found {show(turn)}; write a turn of system, user or assistant with its content")
    return Message(role, _content(turn.get("content"), f"{path}.content", supply))


def _content(value: Any, path: str, supply: _Supply | None) -> tuple[Part, ...]:
    value = plain(value)
    if value is None:  # a turn that only calls tools
        return (Part("text", ""),)
    if isinstance(value, list):
        value = [_part(one, supply) for one in value] or ""
    return parse_content(value, path)


def _part(part: Any, supply: _Supply | None) -> Any:
    if not isinstance(part, Mapping):
        return part
    found = _without_none(part)
    kind = found.get("type")
    if kind not in MEDIA:
        return found
    if kind not in found:
        address = next((key for key in _ADDRESSES if key in found), None)
        if address is not None:
            found[kind] = found.pop(address)
        elif supply is not None:
            return {**found, kind: supply.take(kind)}
    if supply is not None:
        supply.filled[kind] = supply.filled.get(kind, 0) + 1
    return found


def _with_rest(turns: tuple[Message, ...], supply: _Supply) -> tuple[Message, ...]:
    """The turns with media that the prompt had no place for in front of the first user turn."""
    rest: list[Part] = []
    for kind, media in supply.media.items():
        used = supply.open_.get(kind, 0)
        if used == len(media) or (not used and supply.filled.get(kind)):
            continue
        if used:
            raise SampleError(f"prompt: {used} places for {kind}s and {len(media)} of them in the row: give as many")
        rest += parse_content([{"type": kind, kind: one} for one in media], f"{kind}s")
    first = next((i for i, turn in enumerate(turns) if turn.role == "user"), None)
    if not rest:
        return turns
    if first is None:
        raise SampleError("prompt: no turn of the user that the row's media could stand in")
    return (*turns[:first], replace(turns[first], parts=(*rest, *turns[first].parts)), *turns[first + 1 :])


def _answer(completion: Any) -> tuple[Part, ...]:
    """What is judged of a completion: the text, or the content of the assistant's last turn."""
    value = plain(completion)
    if isinstance(value, str):
        return parse_content(value, "completion")
    if not isinstance(value, list):
        raise SampleError(f"completion: found {show(value)}; write a text or a list of turns")
    answers = [turn for turn in value if isinstance(turn, Mapping) and turn.get("role") == _ANSWER]
    if not answers:
        raise SampleError(f"completion: found {show(value)}; write a turn of the assistant")
    return _joined(_turn(answers[-1], "completion", None).parts)


def _response(parts: Iterable[Part]) -> Response:
    joined = _joined(parts)
    return Response(joined, prompt_hash((Message(_ANSWER, joined),), "")[:32])


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Neighbouring texts as one; an empty text only where there is nothing else."""
    joined: list[Part] = []
    for part in parts:
        if part.type == "text" and joined and joined[-1].type == "text":
            joined[-1] = Part("text", joined[-1].value + part.value)
        elif part.type != "text" or part.value:
            joined.append(part)
    return tuple(joined) or (Part("text", ""),)


def _without_none(value: Any) -> Any:
    """A mapping without keys of None, which Arrow tables give to every row that some other row has them in."""
    return {key: one for key, one in value.items() if one is not None} if isinstance(value, Mapping) else value


__all__ = ["Response", "Row", "make_row", "plain"]
