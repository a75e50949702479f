"""The tree of shared beginnings, and how requests that begin alike come into one batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from omnirm.backends.hf_batches import batches
from omnirm.backends.prefix_tree import packed, packs, prefix_tree
from omnirm.types import Message, Part, Request

prompts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9).map(np.array), min_size=1, max_size=7)


def shared_beginnings(rows: list[np.ndarray]) -> Counter[tuple[int, ...]]:
    """How many rows have each beginning."""
    return Counter(tuple(row[:end].tolist()) for row in rows for end in range(1, len(row) + 1))


def test_two_orders_under_two_rubrics() -> None:
    rows = [np.array(list(text.encode())) for text in ("sys AB one", "sys AB two", "sys BA one", "sys BA two")]
    [root] = prefix_tree(rows)
    assert (root.rows, root.start, root.end, root.size) == ((0, 1, 2, 3), 0, 4, 10)
    assert [(node.rows, node.start, node.end) for node in root.children] == [((0, 1), 4, 7), ((2, 3), 4, 7)]
    assert [node.children for node in root.children] == [(), ()]
    layout = packed([root])
    assert [way.tolist() for way in layout.ways()] == [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 7, 8, 9]]
    assert layout.visible()[8].tolist() == [True] * 4 + [False] * 3 + [True, True, False]


@given(prompts)
def test_every_beginning_that_several_have_is_in_the_tree_once(rows: list[np.ndarray]) -> None:
    layout = packed(prefix_tree(rows))
    held = []
    for node, parent in zip(layout.nodes, layout.parents, strict=True):
        assert node.end > node.start == (layout.nodes[parent].end if parent >= 0 else 0)
        held += [tuple(rows[node.rows[0]][:end].tolist()) for end in range(node.start + 1, node.end + 1)]
        assert all(np.array_equal(rows[row][: node.end], rows[node.rows[0]][: node.end]) for row in node.rows)
    assert sorted(held) == sorted(text for text, count in shared_beginnings(rows).items() if count > 1)


@given(prompts)
def test_a_position_sees_its_own_way_and_nothing_else(rows: list[np.ndarray]) -> None:
    layout = packed(prefix_tree(rows))
    visible = layout.visible()
    for way in layout.ways():
        for i, position in enumerate(way.tolist()):
            assert np.flatnonzero(visible[position]).tolist() == way[: i + 1].tolist()


@given(prompts, st.integers(1, 12))
def test_packs_hold_every_sibling_once_and_too_large_ones_alone(rows: list[np.ndarray], limit: int) -> None:
    roots = prefix_tree(rows)
    groups = list(packs(roots, limit))
    assert [node for group in groups for node in group] == list(roots)
    assert all(len(group) == 1 or sum(node.size for node in group) <= limit for group in groups)


def about(prompt: str, rubric: str, **fields: int) -> Request:
    """A request as the templates make it: a fixed instruction, a sample's text, then text of our own."""
    parts = (Part("text", "# prompt\n", trusted=True), Part("text", prompt), Part("text", rubric, trusted=True))
    system = Message("system", (Part("text", "You judge. " * 20, trusted=True),))
    return Request((system, Message("user", parts)), **fields)  # type: ignore[arg-type]


def cut(requests: list[Request], size: int) -> list[list[int]]:
    """Indices by batch."""
    return list(batches(requests, size, lambda request: request.max_new_tokens))


def test_rubrics_on_one_prompt_stay_together_beyond_the_batch_size() -> None:
    long = "a long prompt " * 40
    requests = [about(f"{i % 3} {long}", f"rubric {i}") for i in range(30)]
    found = cut(requests, 4)
    assert sorted(sorted(batch) for batch in found) == [list(range(k, 30, 3)) for k in range(3)]


def test_unrelated_requests_come_in_the_batch_size_and_by_length() -> None:
    requests = [about("x" * (i * 7 % 20 + 1) + str(i), "") for i in range(10)]
    found = cut(requests, 4)
    assert [len(batch) for batch in found] == [4, 4, 2]
    lengths = [len(requests[i].messages[1].parts[1].value) for batch in found for i in batch]
    assert lengths == sorted(lengths)


def test_pairs_of_different_samples_still_share_batches() -> None:
    """A batch of two rows for each sample alone would make every token of the answers as dear as one of a full one."""
    requests = [about(f"sample {i // 2} " * 9, f"{i % 2}" * 300) for i in range(16)]
    assert all(len(batch) >= 4 for batch in cut(requests, 4))


def test_media_count_by_value_and_options() -> None:
    def seen(value: object, **options: int) -> Request:
        parts = (Part("image", value, options), Part("text", "rubric", trusted=True))
        return Request((Message("user", parts),))

    pixels = np.zeros((4, 4, 3), np.uint8)
    same = [seen("a.png"), seen(b"bytes"), seen(pixels), seen("a.png", max_pixels=9)]
    assert sorted(map(sorted, cut(same * 3, 1))) == [[k, k + 4, k + 8] for k in range(4)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.sampled_from([1, 8])), max_size=60))
def test_every_request_is_in_one_batch_of_bounded_size(drawn: list[tuple[int, int, int]]) -> None:
    requests = [replace(about("p" * sample, "r" * rubric), max_new_tokens=limit) for sample, rubric, limit in drawn]
    found = cut(requests, 3)
    assert sorted(i for batch in found for i in batch) == list(range(len(requests)))
    assert all(1 <= len(batch) <= 12 for batch in found)
    assert all(len({requests[i].max_new_tokens for i in batch}) == 1 for batch in found)
