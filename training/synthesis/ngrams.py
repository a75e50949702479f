"""Do training rows hold text of a benchmark? Word n-grams that both share.

For data sets that are to be measured on benchmarks later. It compares words, so a translation or a paraphrase is not
found, and no medium is opened.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omnirm.errors import ConfigError, SampleError
from omnirm.strict_json import decode_utf8

WORDS = 13
SHORT = 5  # words of a text that counts as a whole, though it has no n-gram
# scripts without spaces between words: every character is a word
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


@dataclass(frozen=True, slots=True)
class Overlap:
    """What a text shares with a benchmark: the words, normalised, and the file that has them."""

    ngram: str
    file: str


def words(text: str) -> list[str]:
    """The words of a text for comparison: compatibility forms (NFKC), case and punctuation set aside.

    Invisible characters are dropped; in scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) every
    character is a word.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept = []
    for char in text:
        kind = unicodedata.category(char)
        if kind != "Cf":
            kept.append(char if kind[0] in "LNM" else " ")
    return _UNSPACED.sub(r" \1 ", "".join(kept)).split()


class Benchmarks:
    """The n-grams of benchmark files.

    A text of fewer than n words has no n-gram: one of at least five counts as a whole, and matches an equal text only.

    Args:
        files: `.jsonl`, `.ndjson`, `.json` (every string in them, however deep), `.parquet` (every string of every
            column) or `.txt` (every paragraph).
        n: words of an n-gram, at least 2.

    Raises:
        ConfigError: n below 2.
        SampleError: a file that cannot be read, of another ending, or without any text to compare.
    """

    def __init__(self, files: Sequence[Path], n: int = WORDS) -> None:
        if n < 2:
            raise ConfigError(f"n-grams of {n} words: give at least 2")
        self.n, self.files = n, tuple(str(file) for file in files)
        self._known: dict[int, int] = {}  # hash of an n-gram -> place of its file
        for place, file in enumerate(files):
            before, seen = len(self._known), False
            for text in _texts(file):
                for gram in self._grams(words(text)):
                    seen = True
                    self._known.setdefault(hash(gram), place)
            if len(self._known) == before and not seen:
                raise SampleError(f"{file}: holds no text of {min(n, SHORT)} words or more; there is nothing to check")

    def __len__(self) -> int:
        return len(self._known)

    def overlap(self, texts: Iterable[str]) -> Overlap | None:
        """The first n-gram of the texts that a benchmark has too; none runs from one text into the next."""
        for text in texts:
            for gram in self._grams(words(text)):
                place = self._known.get(hash(gram))
                if place is not None:
                    return Overlap(" ".join(gram), self.files[place])
        return None

    def _grams(self, found: list[str]) -> Iterator[tuple[str, ...]]:
        if SHORT <= len(found) < self.n:
            yield tuple(found)
        for start in range(len(found) - self.n + 1):
            yield tuple(found[start : start + self.n])


def _texts(file: Path) -> Iterator[str]:
    ending = file.suffix.lower()
    if ending not in (".jsonl", ".ndjson", ".json", ".parquet", ".txt"):
        raise SampleError(f"{file}: found the ending {ending or 'none'}; give .jsonl, .json, .parquet or .txt")
    try:
        if ending == ".parquet":
            yield from _parquet(file)
        elif ending == ".txt":
            yield from re.split(r"\n\s*\n", decode_utf8(file.read_bytes()))
        elif ending == ".json":
            yield from _strings(json.loads(decode_utf8(file.read_bytes())))
        else:
            with open(file, "rb") as lines:
                for number, line in enumerate(lines, start=1):
                    if line.strip():
                        yield from _strings(_json(line, f"{file}:{number}"))
    except OSError as error:
        raise SampleError(f"{file}: {error.strerror or error}; give a benchmark file") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, SampleError):
            raise
        raise SampleError(f"{file}: cannot be read ({error})") from error


def _json(line: bytes, where: str) -> Any:
    try:
        return json.loads(decode_utf8(line))
    except (ValueError, RecursionError) as error:
        raise SampleError(f"{where}: not JSON ({error})") from error


def _parquet(file: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches():
                for row in batch.to_pylist():
                    yield from _strings(row)
    except pa.ArrowException as error:
        raise SampleError(f"{file}: cannot be read as Parquet: {error}") from error


def _strings(value: Any) -> Iterator[str]:
    """Every string in plain values; of a column that holds JSON, the strings within."""
    if isinstance(value, str):
        if value[:1] in "[{":
            try:
                yield from _strings(json.loads(value))
                return
            except (ValueError, RecursionError):
                pass
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)
