"""Requests that begin alike: what they share is computed once, and each is answered as if it had been asked alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.bench_judging import least_tokens
from tiny_models import Files

from omnirm.backends import hf, hf_branches
from omnirm.backends.hf import HFBackend
from omnirm.backends.load import load_backend
from omnirm.judge import Judge
from omnirm.nano.build import Family
from omnirm.prompts.formats import get_format
from omnirm.sample import Sample
from omnirm.types import Completion, Message, Part, Request, Rubric

RUBRICS = (
    Rubric("Clarity"),
    Rubric("Truth", "which response says or shows what the prompt asks for, and no more than that?"),
    Rubric("Clear wording", "short"),
)
KINDS = ("text", "image", "images before", "video", "audio", "heard", "mixed")


@pytest.fixture
def wide(omni: HFBackend, monkeypatch: pytest.MonkeyPatch) -> HFBackend:
    """Batches of 8."""
    monkeypatch.setattr(omni, "batch_size", 8)
    return omni


def pair(kind: str, files: Files) -> Sample:
    """A pair of that kind of media; `images before` has one in the prompt too, `mixed` has three kinds."""
    images = [{"type": "image", "image": str(path)} for path in files.images]
    videos = [{"type": "video", "video": str(path)} for path in (files.silent, files.videos[0])]
    audios = [{"type": "audio", "audio": str(path)} for path in files.audios]
    heard = [{"type": "video", "video": str(path), "use_audio_in_video": True} for path in files.videos]
    ask = {"type": "text", "text": "Which of these is it?"}
    prompt, candidates = {
        "text": ([ask], ["An apple.", "Two pears, or one."]),
        "image": ([ask], [[images[0]], [images[1]]]),
        "images before": ([images[0], ask, images[1]], [[images[1], ask], [images[0]]]),
        "video": ([ask], [[videos[0]], [videos[1]]]),
        "audio": ([ask, audios[1]], [[audios[0]], [audios[1]]]),
        "heard": ([ask], [[heard[0]], [heard[1]]]),
        "mixed": ([images[1], ask], [[videos[0], ask, images[0]], [audios[0], images[0]]]),
    }[kind]
    return Sample.from_dict({"prompt": prompt, "candidates": candidates})


def asked(sample: Sample, rubrics: Sequence[Rubric] = RUBRICS, **fields: Any) -> list[Request]:
    """One request for each order and rubric; every other one is sampled."""
    found = []
    for shown in (sample, sample.swapped()):
        for i, rubric in enumerate(rubrics):
            request = get_format("pairwise").render(shown, rubrics=(rubric,)).request()
            changes = {"max_new_tokens": 10, "stop": (), "temperature": 1.2 * (i % 2), "seed": i} | fields
            found.append(replace(request, **changes))
    return found


def check(found: Sequence[Completion], backend: HFBackend, requests: Sequence[Request]) -> None:
    """Equal to each request asked alone; log-probabilities within 1e-4."""
    for one, request in zip(found, requests, strict=True):
        [alone] = backend.generate([request])
        assert not alone.error
        assert alone.computed_prompt_tokens == alone.prompt_tokens
        assert (one.text, one.finish_reason, one.prompt_tokens, one.completion_tokens, one.error) == (
            alone.text, alone.finish_reason, alone.prompt_tokens, alone.completion_tokens, "",
        )  # fmt: skip
        for token, expected in zip(one.logprobs, alone.logprobs, strict=True):
            assert token.text == expected.text
            assert token.logprob == pytest.approx(expected.logprob, abs=1e-4)
            assert token.top == pytest.approx(expected.top, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_rubrics_on_a_pair_in_both_orders_are_answered_as_alone(backend: HFBackend, files: Files, kind: str) -> None:
    sample = pair(kind, files)
    if missing := ({"audio"} if kind == "heard" else sample.modalities) - backend.capabilities.modalities:
        pytest.skip(f"{backend.name} takes no {missing}")
    requests = asked(sample)
    found = backend.generate(requests)
    check(found, backend, requests)
    computed, prompts = (sum(getattr(c, k) for c in found) for k in ("computed_prompt_tokens", "prompt_tokens"))
    assert computed < 0.6 * prompts
    least = sum(c.least_prompt_tokens for c in found)
    assert least <= computed <= 1.03 * least + len(requests)  # media that begin alike are not shared in part
    if kind in ("text", "image", "images before"):
        assert least == least_tokens(backend, requests)


def test_the_least_possible_does_not_depend_on_batches(backend: HFBackend, files: Files, monkeypatch: Any) -> None:
    requests = asked(pair("image", files)) + asked(pair("text", files))
    together = sum(c.least_prompt_tokens for c in backend.generate(requests))
    monkeypatch.setattr(backend, "batch_size", 1)
    found = backend.generate(requests)
    assert sum(c.least_prompt_tokens for c in found) == together == least_tokens(backend, requests)
    assert sum(c.computed_prompt_tokens for c in found) > 1.5 * together


def test_the_embedded_model_answers_as_alone(files: Files) -> None:
    nano = load_backend("nano")
    assert isinstance(nano, HFBackend)
    requests = asked(pair("image", files)) + asked(pair("text", files), max_new_tokens=30)
    found = nano.generate(requests)
    check(found, nano, requests)
    for part in (requests[:6], requests[6:]):
        computed = sum(c.computed_prompt_tokens for c in nano.generate(part))
        assert least_tokens(nano, part) <= computed <= least_tokens(nano, part) + len(part)


def test_samples_and_order_do_not_matter(wide: HFBackend, files: Files) -> None:
    """Several samples in one call, interleaved, with an unrelated request between."""
    groups = [asked(pair(kind, files), max_new_tokens=6) for kind in ("text", "image", "images before")]
    requests = [request for row in zip(*groups, strict=True) for request in row]
    requests.insert(5, Request((Message("user", (Part("text", "Go on"),)),), max_new_tokens=6, track=("A",)))
    check(wide.generate(requests), wide, requests)
    check(wide.generate(requests[::-1]), wide, requests[::-1])


def test_one_prompt_sampled_many_times_is_computed_once(wide: HFBackend, files: Files) -> None:
    [request, *_] = asked(pair("image", files), temperature=1.5)
    requests = [replace(request, seed=seed) for seed in range(6)]
    found = wide.generate(requests)
    check(found, wide, requests)
    assert len({c.text for c in found}) > 1
    computed = sorted(c.computed_prompt_tokens for c in found)
    assert computed[:5] == [1] * 5  # the last token, whose logits begin the answer
    assert computed[5] <= found[0].prompt_tokens + 1


def test_a_prompt_that_is_the_beginning_of_another(wide: HFBackend, files: Files) -> None:
    [request, *_] = asked(pair("image", files), track=("A", "B"))
    requests = [replace(request, prefill=text) for text in ("", "Verdict", "Verdict: it is", "Well")]
    found = wide.generate(requests)
    assert sum(c.computed_prompt_tokens for c in found) < found[0].prompt_tokens + 40
    check(found, wide, requests)


def test_stop_texts_and_limits_of_each_row(wide: HFBackend, files: Files) -> None:
    requests = asked(pair("text", files), temperature=1.5, max_new_tokens=24)
    stopped = []
    for i, (request, whole) in enumerate(zip(requests, wide.generate(requests), strict=True)):
        middle = whole.text[4 + i : 6 + i]
        stopped.append(replace(request, stop=("never in it", middle) if middle.isprintable() and middle else ()))
    found = wide.generate(stopped)
    check(found, wide, stopped)
    assert [c.finish_reason for c in found].count("stop") >= 3
    assert len({c.completion_tokens for c in found}) > 1


def test_rows_that_end_early(wide: HFBackend, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = asked(pair("image", files), temperature=1.5, max_new_tokens=24)
    wholes = wide.generate(requests)
    encode, texts = wide.processor.tokenizer, [t.text for t in wholes[1].logprobs]
    [token] = next(ids for text in texts[4:] if text not in texts[:4] and len(ids := encode(text)["input_ids"]) == 1)
    monkeypatch.setattr(wide, "_ends", wide._ends | {token})
    monkeypatch.setattr(wide.model.generation_config, "eos_token_id", sorted(wide._ends))
    found = wide.generate(requests)
    check(found, wide, requests)
    assert found[1].finish_reason == "stop"
    assert 4 <= found[1].completion_tokens < 24


def test_different_limits_in_one_batch(wide: HFBackend, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "_group", lambda request: (False, False, 0))
    limits = [1, 12, 3, 7, 2, 5]
    requests = [replace(r, max_new_tokens=n) for r, n in zip(asked(pair("text", files)), limits, strict=True)]
    found = wide.generate(requests)
    assert [c.completion_tokens for c in found] == limits
    check(found, wide, requests)


@pytest.mark.parametrize("limit", [1, 40, 150])
def test_a_tree_that_is_too_large_is_computed_in_pieces(
    backend: HFBackend, files: Files, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(backend, "batch_size", 8)
    requests = asked(pair("images before", files), max_new_tokens=5)
    before = [c.computed_prompt_tokens for c in backend.generate(requests)]
    monkeypatch.setattr(hf_branches, "_PACK", limit)
    found = backend.generate(requests)
    check(found, backend, requests)
    assert [c.computed_prompt_tokens for c in found] == before


def test_an_answer_longer_than_the_room_there_is(
    wide: HFBackend, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = asked(pair("image", files), max_new_tokens=20)
    monkeypatch.setattr(hf_branches, "_ROOM", 3)
    found = wide.generate(requests)
    check(found, wide, requests)
    assert sum(c.computed_prompt_tokens for c in found) < 0.6 * sum(c.prompt_tokens for c in found)
    assert max(c.completion_tokens for c in found) == 20


def test_media_are_encoded_for_what_is_shared_once(
    wide: HFBackend, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, forward = [], wide.model.visual.forward

    def watched(pixels: Any, grid_thw: Any, **kwargs: Any) -> Any:
        images.append(len(grid_thw))
        return forward(pixels, grid_thw=grid_thw, **kwargs)

    monkeypatch.setattr(wide.model.visual, "forward", watched)
    rubrics = [Rubric(f"Number {i}") for i in range(5)]
    found = wide.generate(asked(pair("image", files), rubrics))
    assert not [c.error for c in found if c.error]
    assert sum(images) == 4  # two in each order, instead of 20


def test_equal_pixels_are_one_medium_and_others_are_not(wide: HFBackend, files: Files, tmp_path: Path) -> None:
    """The tokens of two images of one size are the same; the images are not."""
    from PIL import Image

    twin = tmp_path / "twin.png"
    shutil.copy(files.images[0], twin)
    other = tmp_path / "other.png"
    with Image.open(files.images[0]) as image:
        image.rotate(180).save(other)

    def look(path: Path, seed: int) -> Request:
        text = Part("text", "Look at it well, from all sides, and say what you see. " * 4)
        parts = (Part("text", "Here it is. " * 12, trusted=True), Part("image", str(path)), text)
        return Request((Message("user", parts),), max_new_tokens=8, temperature=1.0, seed=seed, track=("A",))

    requests = [look(path, seed) for path in (files.images[0], twin, other) for seed in range(2)]
    for _ in range(2):
        found = wide.generate(requests)
        check(found, wide, requests)
        requests = requests[::-1]


def test_when_memory_runs_out_the_branches_are_halved(
    wide: HFBackend, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, sizes, run = asked(pair("image", files)), [], hf.generate_shared

    def watched(model: Any, shared: Any, *rest: Any) -> Any:
        sizes.append(len(shared.prompts))
        if len(shared.prompts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return run(model, shared, *rest)

    monkeypatch.setattr(hf, "generate_shared", watched)
    found = wide.generate(requests)
    assert sizes == [6, 3, 3]
    check(found, wide, requests)


def test_a_prompt_over_the_context_fails_alone(wide: HFBackend, files: Files) -> None:
    rubrics = (Rubric("Short"), Rubric("Long", "and so on " * 9000), Rubric("Brief"))
    found = wide.generate(asked(pair("text", files), rubrics))
    assert [c.finish_reason for c in found] == ["length", "error", "length"] * 2
    assert "omni takes 8192: shorten the prompt" in found[1].error


def test_videos_of_which_one_is_heard_fail_as_alone(wide: HFBackend, files: Files) -> None:
    seen, heard = (Part("video", str(files.videos[0]), {"use_audio_in_video": sound}) for sound in (False, True))
    text = Part("text", "Watch them closely and tell which is which. " * 8)
    requests = [
        Request((Message("user", (text, seen, heard, Part("text", f"{i}"))),), max_new_tokens=2) for i in range(3)
    ]
    assert all(c.error.startswith("capability_error: some videos") for c in wide.generate(requests))


def test_short_or_unlike_prompts_go_the_usual_way(
    wide: HFBackend, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hf, "generate_shared", None)
    texts = ("Hi", "Hi", "x" * 400)
    requests = [Request((Message("user", (Part("text", text),)),), max_new_tokens=2) for text in texts]
    found = wide.generate(requests)
    assert [c.finish_reason for c in found] == ["length"] * 3
    assert [c.computed_prompt_tokens for c in found] == [c.prompt_tokens for c in found]


def test_a_model_with_sliding_windows_goes_the_usual_way(
    checkpoint: Callable[[Family], Path], files: Files, tmp_path: Path
) -> None:
    folder = tmp_path / "sliding"
    shutil.copytree(checkpoint("qwen2_5_omni"), folder)
    config = json.loads((folder / "config.json").read_text())
    config["text_config"] |= {
        "use_sliding_window": True,
        "sliding_window": 32,
        "max_window_layers": 0,
        "layer_types": ["sliding_attention"] * 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    backend = HFBackend(str(folder), device="cpu", batch_size=8)
    requests = asked(pair("text", files), max_new_tokens=4)
    found = backend.generate(requests)
    check(found, backend, requests)
    assert [c.computed_prompt_tokens for c in found] == [c.prompt_tokens for c in found]


def test_a_judgment_tells_what_its_calls_cost(wide: HFBackend, files: Files) -> None:
    judgment = Judge(wide, samples=3, max_new_tokens=3).compare(pair("image", files))
    calls = [one.call for one in judgment.calls]
    assert len(calls) == 6
    assert 0 < sum(call.computed_prompt_tokens for call in calls) < sum(call.prompt_tokens for call in calls) / 2
    again = type(judgment).from_json(judgment.to_json())
    assert again == judgment
    assert [one.call.computed_prompt_tokens for one in again.calls] == [call.computed_prompt_tokens for call in calls]
