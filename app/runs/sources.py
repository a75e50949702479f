"""Where the rows of a run come from: a run folder, or the judgments that were made in the app. For `runs`.

Both give the facts of all rows at once and a record or a sample only when asked for that one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from omnirm.app.runs.facts import RowFacts, facts_of, parse_line
from omnirm.app.runs.folders import Folder
from omnirm.app.runs.reading import Reader, Rows, SampleFacts, text_matches
from omnirm.errors import SampleError

if TYPE_CHECKING:
    from omnirm.app.store.store import Store, StoredJudgment

_AT_ONCE = 500  # judgments asked of the store in one go
_MOST_STORED = 100_000  # the newest of them are listed


class Source(Protocol):
    """The rows of one run as they are now. Rows are numbered from 0; `problems` says what could not be read."""

    @property
    def facts(self) -> Sequence[RowFacts]: ...

    @property
    def problems(self) -> Sequence[str]: ...

    @property
    def version(self) -> tuple[Any, ...]:
        """Changes whenever rows change."""

    def modalities(self, number: int) -> tuple[str, ...]:
        """Of the sample; () where they are not known."""

    def record(self, number: int) -> dict[str, Any]:
        """The whole judgment. Raises `SampleError` where it can no longer be read."""

    def sample(self, number: int) -> dict[str, Any] | None:
        """The sample in its file form; None where it is not known."""

    def title(self, number: int) -> str:
        """What a row is called besides its sample's id, mostly ""."""

    def permalink(self, number: int) -> str:
        """The id of a judgment of the app, "" for others."""

    def matching(self, text: str) -> list[int]:
        """The rows in which a text occurs, in any case: in the id, the sample, or what the judge wrote."""

    def text_hashes(self) -> dict[str, int]:
        """By sample id: a hash of the sample's texts, where it is known."""


class FolderSource:
    """A run folder. A judgments file that cannot be opened is a problem and has no rows."""

    def __init__(self, folder: Folder, reader: Reader) -> None:
        self.folder = folder
        self._problems = [folder.problem] if folder.problem else []
        self._judgments: Rows[RowFacts] = Rows(folder.judgments)
        self._samples: Rows[SampleFacts] = Rows(folder.samples)
        try:
            if folder.has_judgments:
                self._judgments = reader.judgments(folder.judgments)
            if folder.has_samples:
                self._samples = reader.samples(folder.samples)
        except SampleError as error:
            self._problems.append(f"{error}.")
        self._of_id = self._samples.numbers(lambda one: one.sample_id)

    @property
    def facts(self) -> Sequence[RowFacts]:
        return self._judgments.facts

    @property
    def problems(self) -> Sequence[str]:
        found = [*self._problems, *self._judgments.problems, *self._samples.problems]
        if self.facts and not self.folder.has_samples:
            found.append("This run keeps no samples (samples.jsonl), so only ids and judgments can be shown.")
        return found

    @property
    def version(self) -> tuple[Any, ...]:
        return (self._judgments.signature, self._samples.signature)

    def modalities(self, number: int) -> tuple[str, ...]:
        found = self._of_id.get(self.facts[number].sample_id)
        return () if found is None else self._samples.facts[found].modalities

    def record(self, number: int) -> dict[str, Any]:
        found = self._judgments.value(number)
        if found.get("sample_id") != self.facts[number].sample_id:
            raise SampleError("the file was written anew meanwhile; open the run again")
        return found

    def sample(self, number: int) -> dict[str, Any] | None:
        found = self._of_id.get(self.facts[number].sample_id)
        try:
            return None if found is None else self._samples.value(found)
        except SampleError:
            return None

    def title(self, number: int) -> str:
        return ""

    def permalink(self, number: int) -> str:
        return ""

    def matching(self, text: str) -> list[int]:
        ids = {
            facts.sample_id
            for facts, line in _zipped(self._samples)
            if text_matches(text, parse_line(line), facts.sample_id, None)
        }
        # such a text stands in its line as it is, so most lines need not be parsed
        plain = text.isascii() and text.isprintable() and not set(text) & set('"\\/')
        raw = text.lower().encode() if plain else b""

        def found(facts: RowFacts, line: bytes) -> bool:
            if facts.sample_id in ids:
                return True
            return raw in line.lower() and text_matches(text, None, facts.sample_id, parse_line(line))

        return [number for number, row in enumerate(_zipped(self._judgments)) if found(*row)]

    def text_hashes(self) -> dict[str, int]:
        return {one.sample_id: one.text_hash for one in self._samples.facts}


class StoreSource:
    """The judgments made in the app, the newest first."""

    problems: Sequence[str] = ()

    def __init__(self, store: Store, known: StoredFacts) -> None:
        self._store = store
        self._entries = known.newest_first(store)

    @property
    def facts(self) -> Sequence[RowFacts]:
        return [one.facts for one in self._entries]

    @property
    def version(self) -> tuple[Any, ...]:
        return (len(self._entries),)

    def modalities(self, number: int) -> tuple[str, ...]:
        return self._entries[number].modalities

    def record(self, number: int) -> dict[str, Any]:
        return self._stored(number).record

    def sample(self, number: int) -> dict[str, Any] | None:
        return self._stored(number).sample or None

    def title(self, number: int) -> str:
        return self._entries[number].title

    def permalink(self, number: int) -> str:
        return self._entries[number].id

    def matching(self, text: str) -> list[int]:
        numbers = {one.id: number for number, one in enumerate(self._entries)}
        found, offset = [], 0
        while rows := self._store.judgments(limit=_AT_ONCE, offset=offset, text=text):
            found += [numbers[one.id] for one in rows if one.id in numbers]
            offset += len(rows)
        return found

    def text_hashes(self) -> dict[str, int]:
        return {}

    def _stored(self, number: int) -> StoredJudgment:
        found = self._store.judgment(self._entries[number].id)
        if found is None:
            raise SampleError("this judgment is no longer in the database")
        return found


class _Entry:
    """What is remembered of a stored judgment."""

    __slots__ = ("facts", "id", "modalities", "title")

    def __init__(self, row: StoredJudgment) -> None:
        self.id, self.title, self.modalities = row.id, row.title, tuple(one for one in row.modalities if one)
        self.facts = facts_of(row.record)


class StoredFacts:
    """Remembers what was read from the store: judgments never change, so only new ones are asked for."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []  # oldest first
        self._ids: set[str] = set()
        self._guard = threading.Lock()

    def newest_first(self, store: Store) -> list[_Entry]:
        """All of them as they are now. A record that is no judgment is left out."""
        with self._guard:
            new = list(self._new(store))
            self._entries += reversed(new)
            self._ids.update(one.id for one in new)
            return self._entries[::-1]

    def _new(self, store: Store) -> Iterator[_Entry]:
        offset = 0
        while rows := store.judgments(limit=_AT_ONCE, offset=offset):
            for row in rows:
                if row.id in self._ids:
                    return
                try:
                    yield _Entry(row)
                except SampleError:
                    continue
            offset += len(rows)
            if offset >= _MOST_STORED:
                return


def _zipped(rows: Rows[Any]) -> Iterator[tuple[Any, bytes]]:
    return zip(rows.facts, rows.each_line(), strict=True) if rows.facts else iter(())
