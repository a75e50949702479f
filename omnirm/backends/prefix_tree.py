"""The tree of beginnings that several prompts share, and which parts of it are computed together.

For the transformers backend. Prompts are arrays of whole numbers: two of them share a position where they are equal up
to and with it. Knows nothing of tokens, media or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Node:
    """A stretch that two or more prompts have in common: positions `start` to `end` (exclusive) of each of `rows`.

    `size` counts the positions here and below.
    """

    rows: tuple[int, ...]
    start: int
    end: int
    children: tuple[Node, ...]
    size: int


def prefix_tree(prompts: Sequence[np.ndarray]) -> tuple[Node, ...]:
    """The roots of the tree of what prompts (int [length]) share. What a prompt has for itself alone is not in it."""

    def grow(rows: Sequence[int], start: int) -> tuple[Node, ...]:
        groups: dict[int, list[int]] = {}
        for row in rows:
            if len(prompts[row]) > start:
                groups.setdefault(int(prompts[row][start]), []).append(row)
        nodes = []
        for group in groups.values():
            if len(group) > 1:
                end = _common(prompts, group, start)
                below = grow(group, end)
                nodes.append(Node(tuple(group), start, end, below, end - start + sum(node.size for node in below)))
        return tuple(nodes)

    return grow(range(len(prompts)), 0)


def _common(prompts: Sequence[np.ndarray], rows: Sequence[int], start: int) -> int:
    first = prompts[rows[0]]
    end = min(len(prompts[row]) for row in rows)
    for row in rows[1:]:
        differs = np.flatnonzero(first[start:end] != prompts[row][start:end])
        if len(differs):
            end = start + int(differs[0])
    return end


def packs(siblings: Sequence[Node], limit: int) -> Iterator[tuple[Node, ...]]:
    """Siblings in groups to compute in one go: whole trees of at most `limit` positions together, a larger one alone
    (its own stretch first, then what is below it)."""
    group: list[Node] = []
    for node in siblings:
        if group and sum(one.size for one in group) + node.size > limit:
            yield tuple(group)
            group = []
        group.append(node)
    if group:
        yield tuple(group)


@dataclass(frozen=True, slots=True)
class Packed:
    """Nodes laid out one behind the other. `parents` are indices into `nodes`, -1 for the topmost."""

    nodes: tuple[Node, ...]
    parents: tuple[int, ...]

    @property
    def offsets(self) -> list[int]:
        """Where each node begins, and where the last one ends."""
        return [0, *np.cumsum([node.end - node.start for node in self.nodes]).tolist()]

    def visible(self) -> np.ndarray:
        """bool [positions, positions]: may the first see the second? It sees itself and what stands before it on the
        way from its root."""
        reach = np.eye(len(self.nodes), dtype=bool)
        for i, parent in enumerate(self.parents):
            if parent >= 0:
                reach[i] |= reach[parent]
        owner = np.repeat(np.arange(len(self.nodes)), [node.end - node.start for node in self.nodes])
        return np.tril(reach[owner][:, owner])

    def ways(self) -> list[np.ndarray]:
        """Of each node the positions from its root to its end, in order."""
        offsets, found = self.offsets, list[np.ndarray]()
        for i, parent in enumerate(self.parents):
            own = np.arange(offsets[i], offsets[i + 1])
            found.append(own if parent < 0 else np.concatenate([found[parent], own]))
        return found


def packed(nodes: Sequence[Node], *, whole: bool = True) -> Packed:
    """Nodes with all that is below them, every node behind its parent; without what is below where not `whole`."""
    found: list[Node] = []
    parents: list[int] = []

    def add(node: Node, parent: int) -> None:
        found.append(node)
        parents.append(parent)
        here = len(found) - 1
        for child in node.children if whole else ():
            add(child, here)

    for node in nodes:
        add(node, -1)
    return Packed(tuple(found), tuple(parents))
