"""Files of nano samples: what was asked for, no pair twice, media beside them; and pairs full of distractors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from omnirm.nano.samples import main, pairs
from omnirm.nano.world import FAMILIES, preference
from omnirm.sample import Sample, read_samples


def contents(sample: Sample) -> str:
    return repr((sample.prompt, sample.candidates))


def test_a_file_has_so_many_different_pairs_of_the_families_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "pairs.jsonl"
    main([str(file), "--pairs", "40", "--family", "T2T", "TV2T", "--in-words", "--split", "validation"])
    found = list(read_samples(file))
    assert len(found) == 40
    assert len({contents(s) for s in found}) == 40
    assert {s.metadata["family"] for s in found} == {"T2T", "TV2T"}
    assert {s.label for s in found} == {0, 1}
    assert {p.type for s in found for m in s.prompt for p in m.parts} == {"text"}
    assert not file.with_suffix("").exists(), "no folder where there are no media"


def test_media_are_files_that_the_samples_refer_to(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "omnirm.nano.samples", str(file), "--pairs", "3", "--family", "T2I", "T2A", "TV2T"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"3 pairs: {file}\n"
    kinds = set()
    for sample in read_samples(file):
        for part in [p for m in sample.prompt for p in m.parts] + [p for c in sample.candidates for p in c.parts]:
            if part.type != "text":
                assert Path(part.value).read_bytes()
                kinds.add(part.type)
    assert kinds == {"image", "audio", "video"}


def test_another_first_seed_gives_other_pairs() -> None:
    assert {contents(p.sample) for p in pairs(20, "test", ["T2T"], first=0)}.isdisjoint(
        contents(p.sample) for p in pairs(20, "test", ["T2I"], first=500)
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_among_distractors_only_the_attribute_that_matters_tells_right(family: str) -> None:
    told = {"gold": [], "other": []}  # type: dict[str, list[bool]]
    for seed in range(120):
        pair = preference(seed, "test", family, in_words=True, distractors=True)  # type: ignore[arg-type]
        label = "AB"[pair.sample.label]  # type: ignore[index]
        for name in pair.wanted.attributes:
            verdict = pair.analysis(name)[2]
            if verdict != "tie":
                told["gold" if name == pair.attribute else "other"].append(verdict == label)
    assert all(told["gold"])
    assert len(told["gold"]) == 120
    assert not any(told["other"])
    assert len(told["other"]) > 150
