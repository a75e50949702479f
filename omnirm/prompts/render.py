"""Templates into messages: one pass, our text trusted, everything from a sample untrusted, bound together by a key.

For the formats beside this file. A template is a `.txt` file of whole lines. A line may open with `@tag`, and then
counts only where that tag is on; `{name}` is a slot. Slots are filled in one pass, so a `{` or a slot's name inside a
sample's text means nothing. This file knows no format and no model.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from string import ascii_uppercase

from omnirm.errors import ConfigError, SampleError
from omnirm.sample import Sample
from omnirm.types import Message, Part, Rubric

Slot = str | Sequence[Part]
_SLOT = re.compile(r"\{([a-z_]+)\}")
_TAG = re.compile(r"@([a-z]+) ")
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Mn", "Me"})  # categories that can stand unseen between two letters
_FILLERS = frozenset("\u115f\u1160\u3164\uffa0")  # Hangul letters without a shape
_CONTROLS = {code: None for code in (*range(32), 127) if code != 10}
_FIRST_LENGTH, _TRIES = 2, 64  # syllables of a key, and how many keys are tried before it grows
_APART = re.compile(r"[\W_]+")

#: what keys are made of; easy to copy for a model, since a tokenizer has a piece for each
SYLLABLES = tuple(consonant + vowel for consonant in "bdkmt" for vowel in "aeiou")


@cache
def template(name: str) -> str:
    """The text of a template file, e.g. `pairwise`."""
    return files(__package__).joinpath(f"{name}.txt").read_text(encoding="utf-8")


def template_hash(*names: str) -> str:
    """Short SHA-256 (12 hex digits) of template files: changes when any of their words does."""
    digest = hashlib.sha256()
    for name in names:
        text = template(name).encode()
        digest.update(f"{name} {len(text)}\n".encode() + text)
    return digest.hexdigest()[:12]


def template_lines(*names: str) -> tuple[str, ...]:
    """Every fixed line (without tag, without slots) that templates can put into a prompt, in order, each once."""
    lines = (_TAG.sub("", line, count=1) for name in names for line in template(name).splitlines())
    return tuple(dict.fromkeys(line for line in lines if line and not _SLOT.search(line)))


def fill(name: str, slots: Mapping[str, Slot], tags: Iterable[str] = ()) -> tuple[Part, ...]:
    """Fills a template in one pass.

    Args:
        name: template file without `.txt`.
        slots: a string is text of our own (trusted); parts are put in place as they are.
        tags: which `@tag` lines count.

    Returns:
        Parts; neighbouring trusted texts are one part.
    """
    on, lines = set(tags), []
    for line in template(name).splitlines():
        tag = _TAG.match(line)
        if tag is None:
            lines.append(line)
        elif tag[1] in on:
            lines.append(line[tag.end() :])
    parts: list[Part] = []
    for i, piece in enumerate(_SLOT.split("\n".join(lines))):  # text, slot, text, slot, ..., text
        value = slots[piece] if i % 2 else piece
        parts.extend((Part("text", value, trusted=True),) if isinstance(value, str) else value)
    return merge(parts)


def merge(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Joins neighbouring texts of our own and drops empty texts."""
    merged: list[Part] = []
    for part in parts:
        if part.type == "text" and not part.value:
            continue
        if merged and part.trusted and merged[-1].trusted and part.type == merged[-1].type == "text":
            merged[-1] = Part("text", merged[-1].value + part.value, trusted=True)
        else:
            merged.append(part)
    return tuple(merged)


def untrusted(text: str, what: str) -> tuple[Part, ...]:
    """Text from outside as a part; raises `SampleError` where it cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        found = f"a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}"
        raise SampleError(f"{what}: found {found}; write a whole character there, or U+FFFD") from error
    return (Part("text", text),)


def conversation(turns: Sequence[Message], key: str) -> tuple[Part, ...]:
    """The prompt section: the content of a single user turn, or every turn under a line that names its role."""
    if len(turns) == 1 and turns[0].role == "user":
        return turns[0].parts
    parts: list[Part] = []
    for i, turn in enumerate(turns):
        parts.append(Part("text", ("\n" if i else "") + f"# {key} {turn.role}\n", trusted=True))
        parts.extend(turn.parts)
    return tuple(parts)


def responses(sample: Sample, key: str) -> tuple[Part, ...]:
    """A section for each candidate: `response A`, `response B`, ..., or `response` where there is one."""
    count = len(sample.candidates)
    if count > len(ascii_uppercase):
        raise SampleError(f"sample {sample.id}: {count} candidates; at most {len(ascii_uppercase)} fit into one prompt")
    parts: list[Part] = []
    for letter, candidate in zip(ascii_uppercase, sample.candidates, strict=False):
        head = f"# {key} response {letter}\n" if count > 1 else f"# {key} response\n"
        parts.extend((Part("text", ("\n" if parts else "") + head, trusted=True), *candidate.parts))
    return tuple(parts)


def only(sample: Sample, candidate: int) -> Sample:
    """The sample with one of its candidates. Raises `SampleError` where there is no such candidate."""
    if not 0 <= candidate < len(sample.candidates):
        raise SampleError(f"sample {sample.id}: no candidate {candidate}; there are {len(sample.candidates)}, from 0")
    return replace(sample, candidates=(sample.candidates[candidate],), label=None)


def ours(text: str) -> tuple[Part, ...]:
    """Text of our own as a part."""
    return (Part("text", text, trusted=True),)


def rubric_list(rubrics: Sequence[Rubric], *, weights: bool = True) -> str:
    """Numbered rubrics, a line each: `1. Name: text`. Weights are written only where they differ."""
    weighted = weights and len({rubric.weight for rubric in rubrics}) > 1
    lines = []
    for number, rubric in enumerate(rubrics, start=1):
        weight = f" (weight {rubric.weight:g})" if weighted else ""
        lines.append(f"{number}. {rubric.name}{weight}" + (f": {rubric.text}" if rubric.text else ""))
    return "\n".join(lines)


def make_key(sample: Sample, others: Iterable[str] = (), *, salt: str = "") -> str:
    """The key that section marks and verdict carry, e.g. `ka-bu`: syllables that occur nowhere in the untrusted text.

    It is the first made of SHA-256(texts of prompt and candidates, counter) that qualifies, so it is the same for both
    orders of a pair and under any rubrics (a model's cache of the shared beginning stays good). Upper case,
    compatibility forms (NFKC), accents, zero-width and bidirectional characters, spaces and punctuation between its
    letters do not hide an occurrence. Keys start with two syllables and grow where a text is stuffed with them.

    Args:
        sample: prompt and candidates.
        others: further untrusted texts of the request: rubrics, comments.
        salt: a secret of the run, for media that carry written text: without it a key can be computed in advance.
    """
    prompt = _text(part for turn in sample.prompt for part in turn.parts)
    candidates = [_text(candidate.parts) for candidate in sample.candidates]
    digest = hashlib.sha256(salt.encode("utf-8", "surrogatepass"))
    for text in (prompt, *sorted(candidates)):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    seed, hay = digest.digest(), "\n".join(_APART.sub("", plain(text)) for text in (prompt, *candidates, *others))
    length, counter = _FIRST_LENGTH, 0
    while True:
        for _ in range(_TRIES):
            drawn = hashlib.sha256(seed + counter.to_bytes(8, "big")).digest()[:length]
            syllables = [SYLLABLES[byte % len(SYLLABLES)] for byte in drawn]
            if "".join(syllables) not in hay:
                return "-".join(syllables)
            counter += 1
        length = min(length + 1, 32)


def plain(text: str) -> str:
    """Text as a reader might take it: compatibility forms resolved, accents and invisible characters gone, lower case.

    Line breaks stay. Folding is repeated until nothing changes, since one step can uncover another.
    """
    if text.isascii():
        return text.lower().translate(_CONTROLS)
    while True:
        folded = unicodedata.normalize("NFKD", text).casefold()
        folded = "".join(
            char
            for char in folded
            if char == "\n" or (unicodedata.category(char) not in _HIDDEN and char not in _FILLERS)
        )
        if folded == text:
            return folded
        text = folded


def no_more(name: str, options: Mapping[str, object]) -> None:
    """Raises `ConfigError` for options that a format does not have."""
    if options:
        raise ConfigError(f"{name} has no option {', '.join(sorted(options))}")


def check_own(name: str, own: bool, thinking: bool, rubrics: Sequence[Rubric]) -> None:
    """Raises `ConfigError` where rubrics of the judge's own are asked for beside none, or without thinking."""
    if own and not (thinking and rubrics):
        raise ConfigError(f"{name}: own adds to given rubrics in thinking; give rubrics, and think")


def _text(parts: Iterable[Part]) -> str:
    return "".join(part.value for part in parts if part.type == "text")
