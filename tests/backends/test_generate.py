"""Generation: batches, seeds, sampling, stop texts, log-probabilities, and requests that fail alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import Files

from omnirm.backends.base import Backend
from omnirm.backends.hf import HFBackend
from omnirm.backends.hf_inputs import Conversation
from omnirm.backends.hf_steps import token_texts
from omnirm.prompts.formats import get_format
from omnirm.sample import Sample
from omnirm.types import Completion, Message, Part, Request, Rubric


def ask(text: str, *media: Part, **fields: Any) -> Request:
    """One user turn of media and a text."""
    return Request((Message("user", (*media, Part("text", text))),), **({"max_new_tokens": 8} | fields))


def lively(backend: HFBackend, count: int, **fields: Any) -> list[Completion]:
    """Sampled completions, varied and long enough to cut."""
    return backend.generate([ask("Go on", temperature=1.5, seed=seed, **fields) for seed in range(count)])


def test_it_is_a_backend(backend: HFBackend) -> None:
    assert isinstance(backend, Backend)
    assert backend.capabilities.context == 8192
    assert len(backend.revision) == 16
    assert backend.generate([]) == []


def test_a_completion_is_the_same_alone_and_in_any_batch(backend: HFBackend, files: Files) -> None:
    asked = [
        ask("A", track=("A", "B")),
        ask("Tell me more about it " * 20, track=("A", "B")),
        ask("Look", Part("image", str(files.images[0])), track=("A",)),
        ask("And at this " * 5, Part("image", str(files.images[1])), Part("image", str(files.images[0])), track=("B",)),
        ask("Watch", Part("video", str(files.videos[0])), track=("A", "tie")),
        ask("Watch it all " * 7, Part("video", str(files.silent)), track=("A", "B")),
    ]
    if "audio" in backend.capabilities.modalities:
        asked += [
            ask("Listen", Part("audio", str(files.audios[0])), track=("A", "B")),
            ask("Listen to both", *(Part("audio", str(path)) for path in files.audios), track=("A", "B")),
            ask("Hear it", Part("video", str(files.videos[1]), {"use_audio_in_video": True}), track=("A",)),
            ask(
                "Hear both",
                Part("video", str(files.videos[0]), {"use_audio_in_video": True}),
                Part("audio", str(files.audios[0])),
                track=("A",),
            ),
        ]
    alone = [backend.generate([one])[0] for one in asked]
    assert not [c.error for c in alone if c.error]
    for order in (range(len(asked)), reversed(range(len(asked)))):
        order = list(order)
        for i, found in zip(order, backend.generate([asked[i] for i in order]), strict=True):
            expected = alone[i]
            assert (found.text, found.finish_reason) == (expected.text, expected.finish_reason)
            assert (found.prompt_tokens, found.completion_tokens) == (
                expected.prompt_tokens,
                expected.completion_tokens,
            )
            for one, other in zip(found.logprobs, expected.logprobs, strict=True):
                assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
                assert one.top == pytest.approx(other.top, abs=1e-4)


def test_greedy_is_the_most_likely_token_each_time(omni: HFBackend) -> None:
    request = ask("Say it", track=("A",))
    [completion] = omni.generate([request])
    inputs = omni.encoder([Conversation(request.messages)])
    with torch.inference_mode():
        for token in completion.logprobs:
            logprobs = omni.model(**inputs).logits[0, -1].log_softmax(-1)
            best = int(logprobs.argmax())
            assert token.logprob == pytest.approx(float(logprobs[best]), abs=1e-4)
            ids = torch.cat([inputs["input_ids"], torch.tensor([[best]])], 1)
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def test_same_seed_same_sample_in_any_order(backend: HFBackend) -> None:
    asked = [ask("Go on" + " and on" * (seed % 3), temperature=1.0, seed=seed) for seed in range(9)]
    first = [c.text for c in backend.generate(asked)]
    assert [c.text for c in backend.generate(asked)] == first
    assert [c.text for c in backend.generate(asked[::-1])] == first[::-1]
    assert [backend.generate([one])[0].text for one in asked[:3]] == first[:3]
    assert len({backend.generate([replace(asked[0], seed=seed)])[0].text for seed in range(5)}) > 1
    assert backend.generate([replace(asked[0], seed=-1), replace(asked[0], seed=2**70)])[0].finish_reason != "error"


def test_sampled_rows_leave_greedy_rows_alone(omni: HFBackend) -> None:
    greedy = ask("Go on")
    [alone] = omni.generate([greedy])
    mixed = omni.generate([replace(greedy, temperature=2.0, seed=1), greedy, replace(greedy, temperature=2.0, seed=2)])
    assert mixed[1] == alone
    assert mixed[0].text != alone.text or mixed[2].text != alone.text


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (2.0, 1.0), (1.0, 0.6), (2.0, 0.3)])
def test_samples_have_the_distribution_that_was_asked_for(
    omni: HFBackend, monkeypatch: pytest.MonkeyPatch, temperature: float, top_p: float
) -> None:
    """Chi-square against softmax (logits / temperature), cut to the nucleus, on the first token of 1,200 seeds."""
    count = 1200
    monkeypatch.setattr(omni, "batch_size", 200)
    request = ask("Hi", max_new_tokens=1, temperature=temperature, top_p=top_p, track=("A",))
    found = omni.generate([replace(request, seed=seed) for seed in range(count)])
    with torch.inference_mode():
        logits = omni.model(**omni.encoder([Conversation(request.messages)])).logits[0, -1].double()
    p = (logits / temperature).softmax(-1)
    order = p.argsort(descending=True)
    kept = order[p[order].cumsum(-1) - p[order] < top_p]
    told = logits.log_softmax(-1)[kept]  # tokens are told apart by their log-probability: their texts may be equal
    drawn = torch.zeros(len(kept))
    for completion in found:
        distance = (told - completion.logprobs[0].logprob).abs()
        assert distance.min() < 1e-4  # none outside the nucleus
        drawn[distance.argmin()] += 1
    expected = p[kept] / p[kept].sum() * count
    often = expected >= 8  # likely tokens are cells of their own, the others one together
    cells = [*zip(drawn[often].tolist(), expected[often].tolist(), strict=True)]
    cells += [(float(drawn[~often].sum()), float(expected[~often].sum()))] if expected[~often].sum() >= 8 else []
    assert len(cells) >= 3
    chi, free = sum((d - e) ** 2 / e for d, e in cells), len(cells) - 1
    assert chi < free * (1 - 2 / (9 * free) + 3.5 * math.sqrt(2 / (9 * free))) ** 3  # 3.5 sigma (Wilson-Hilferty)


def test_stop_texts_stay_and_end_the_completion(omni: HFBackend) -> None:
    tried = 0
    for seed, whole in enumerate(lively(omni, 12, max_new_tokens=24, track=("A",))):
        text = whole.text
        middle = text[len(text) // 2 : len(text) // 2 + 2]
        if len(middle) < 2 or "\ufffd" in middle:
            continue
        tried += 1
        request = ask(
            "Go on", temperature=1.5, seed=seed, max_new_tokens=24, track=("A",), stop=("never in it", middle)
        )
        [cut] = omni.generate([request])
        assert cut.finish_reason == "stop"
        assert cut.text == text[: text.index(middle) + 2]
        assert cut.completion_tokens <= whole.completion_tokens
        assert "".join(t.text for t in cut.logprobs) == cut.text
    assert tried >= 4


def test_a_stop_text_of_one_row_does_not_stop_its_neighbours(omni: HFBackend) -> None:
    request = ask("Go on", temperature=1.5, seed=3, max_new_tokens=24)
    [whole] = omni.generate([request])
    cut, other = omni.generate([replace(request, stop=(whole.text[:1],)), request])
    assert (cut.text, cut.finish_reason) == (whole.text[:1], "stop")
    assert other == whole


def test_end_of_turn_ends_the_completion_and_is_no_text(omni: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    request = ask("Go on", temperature=1.5, seed=5, max_new_tokens=20, track=("A", "B"))
    [whole] = omni.generate([request])
    assert (whole.finish_reason, whole.completion_tokens, len(whole.logprobs)) == ("length", 20, 20)
    end = next(i for i, t in enumerate(whole.logprobs) if i >= 5 and t.text not in [o.text for o in whole.logprobs[:i]])
    [token] = omni.processor.tokenizer(whole.logprobs[end].text)["input_ids"]
    monkeypatch.setattr(omni, "_ends", omni._ends | {token})
    monkeypatch.setattr(omni.model.generation_config, "eos_token_id", sorted(omni._ends))
    [ended] = omni.generate([request])
    assert (ended.finish_reason, ended.completion_tokens) == ("stop", end)
    assert ended.text == "".join(t.text for t in whole.logprobs[:end])
    assert [t.top for t in ended.logprobs] == [t.top for t in whole.logprobs[: end + 1]]  # the end's position too
    assert ended.logprobs[-1].text == ""


def test_each_request_has_its_own_length_in_one_batch(omni: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [ask(f"{n} go on", max_new_tokens=n, temperature=1.5, seed=5, track=("A",)) for n in (1, 7, 3, 12)]
    apart = omni.generate(asked)
    assert [c.completion_tokens for c in apart] == [1, 7, 3, 12]
    sizes = spy(omni, monkeypatch)
    monkeypatch.setattr(omni, "_group", lambda request: (False, False, 0))
    monkeypatch.setattr("omnirm.backends.hf.share", lambda *_: None)  # the path of prompts that begin apart
    together = omni.generate(asked)
    assert sizes == [4]
    for one, other in zip(together, apart, strict=True):
        assert (one.text, one.completion_tokens, one.finish_reason) == (other.text, other.completion_tokens, "length")
        assert [t.logprob for t in one.logprobs] == pytest.approx([t.logprob for t in other.logprobs], abs=1e-4)


def test_a_token_limit_reached_on_the_end_token_is_a_stop(omni: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone or beside a longer request: what counts is whether the end came within the request's own limit."""
    request = ask("Go on", temperature=1.5, seed=5, max_new_tokens=20, track=("A",))
    [whole] = omni.generate([request])
    end = next(i for i, t in enumerate(whole.logprobs) if i >= 5 and t.text not in [o.text for o in whole.logprobs[:i]])
    [token] = omni.processor.tokenizer(whole.logprobs[end].text)["input_ids"]
    monkeypatch.setattr(omni, "_ends", omni._ends | {token})
    monkeypatch.setattr(omni.model.generation_config, "eos_token_id", sorted(omni._ends))
    monkeypatch.setattr(omni, "_group", lambda request: (False, False, 0))
    asked = [replace(request, max_new_tokens=n) for n in (end, end + 1, 20)]
    assert [c.finish_reason for c in omni.generate(asked)] == ["length", "stop", "stop"]
    assert [omni.generate([one])[0].finish_reason for one in asked] == ["length", "stop", "stop"]


def test_token_texts_join_to_the_text(backend: HFBackend) -> None:
    found = lively(backend, 8, max_new_tokens=40, track=("A",))
    assert any("\ufffd" in c.text for c in found)  # bytes that are no character are among them
    assert not [c.error for c in found if c.error]
    for completion in found:
        assert "".join(t.text for t in completion.logprobs) == completion.text
        assert all(math.isfinite(t.logprob) and t.logprob <= 0 for t in completion.logprobs)


def test_an_id_that_the_tokenizer_does_not_know_has_no_text(omni: HFBackend) -> None:
    tokenizer = omni.processor.tokenizer
    assert omni.model.config.get_text_config().vocab_size > len(tokenizer)
    ids = [*tokenizer("one")["input_ids"], len(tokenizer), *tokenizer(" two")["input_ids"]]
    pieces = token_texts(tokenizer, ids, "one two")
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tokenizer.decode(ids) == "one two"


@pytest.mark.parametrize(
    "text", ["naïve café", "汉字 and かな", "🙂👍🏽", "a\u0301b", "", "x" * 50, "<think>é</think>"]
)
def test_characters_of_several_tokens_stay_whole(omni: HFBackend, text: str) -> None:
    tokenizer = omni.processor.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = token_texts(tokenizer, ids, text)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == text
    assert "".join(token_texts(tokenizer, ids, text[:-1])) == text[:-1]


def test_only_what_is_tracked_is_told(omni: HFBackend) -> None:
    plain, tracked, other = omni.generate([ask("Hi"), ask("Hi", track=("A", "B")), ask("Hi", track=("tie",))])
    assert plain.logprobs == ()
    assert {frozenset(t.top) for t in tracked.logprobs} == {frozenset({"A", "B"})}
    assert {frozenset(t.top) for t in other.logprobs} == {frozenset({"tie"})}
    assert plain.text == tracked.text == other.text


def test_a_tracked_text_of_several_tokens_is_an_error_of_its_request(omni: HFBackend) -> None:
    good, bad, fine = omni.generate([ask("Hi"), ask("Hi", track=("several words",)), ask("Ho", track=("A",))])
    assert bad.finish_reason == "error"
    assert bad.error.startswith("capability_error: 'several words' is ")
    assert good.finish_reason == fine.finish_reason == "length"


@pytest.mark.parametrize(
    "fields", [{"max_new_tokens": 0}, {"temperature": -1.0}, {"temperature": math.nan}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_an_impossible_request_fails_alone(omni: HFBackend, fields: dict[str, float]) -> None:
    bad, good = omni.generate([ask("Hi", **fields), ask("Hi")])
    assert bad.error.startswith("bad_request: ")
    assert good.finish_reason == "length"


def test_a_text_that_is_no_unicode_fails_alone(omni: HFBackend) -> None:
    bad, good = omni.generate([ask("\ud800"), ask("Hi")])
    assert bad.error.startswith("backend_error: ")
    assert good.finish_reason == "length"


def test_a_prompt_over_the_context_fails_alone(omni: HFBackend) -> None:
    asked = [ask("one"), ask("many words " * 9000), ask("two"), ask("three", max_new_tokens=8)]
    found = omni.generate(asked)
    assert [c.finish_reason for c in found] == ["length", "error", "length", "length"]
    assert "omni takes 8192: shorten the prompt" in found[1].error
    assert omni.generate([ask("one", max_new_tokens=8192)])[0].error.startswith("capability_error: ")


def spy(
    backend: HFBackend, monkeypatch: pytest.MonkeyPatch, refuse: Callable[[Any], bool] = lambda _: False
) -> list[int]:
    """Notes the size of each batch that the model gets; those that `refuse` holds for run out of memory."""
    generate, sizes = backend.model.generate, []

    def watched(**inputs: Any) -> Any:
        sizes.append(inputs["input_ids"].shape[0])
        if refuse(inputs["input_ids"]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return generate(**inputs)

    monkeypatch.setattr(backend.model, "generate", watched)
    return sizes


def test_when_memory_runs_out_the_batch_is_halved(omni: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [ask(f"number {i}") for i in range(8)]
    expected = omni.generate(asked)
    monkeypatch.setattr(omni, "batch_size", 8)
    sizes = spy(omni, monkeypatch, lambda ids: ids.shape[0] > 2)
    assert omni.generate(asked) == expected
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_a_request_too_big_for_the_memory_fails_alone(omni: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [ask(f"number {i}" + " long" * (200 if i == 1 else 0)) for i in range(4)]
    sizes = spy(omni, monkeypatch, lambda ids: ids.shape[1] > 200)
    found = omni.generate(asked)
    assert [c.finish_reason for c in found] == ["length", "error", "length", "length"]
    assert found[1].error.startswith("out_of_memory: ")
    assert len(sizes) <= 7  # the same size is not tried again and again


def test_a_dead_device_is_no_row_error(omni: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    from omnirm.errors import BackendError

    def dead(**_: Any) -> Any:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(omni.model, "generate", dead)
    with pytest.raises(BackendError, match="device-side assert"):
        omni.generate([ask("Hi"), ask("Ho")])


def test_like_lengths_share_a_batch_and_the_order_comes_back(omni: HFBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [ask(f"{n} words " * (n // 2)) for n in (60, 2, 58, 4, 56, 6, 54, 8)]
    widths: list[int] = []
    spy(omni, monkeypatch, lambda ids: bool(widths.append(ids.shape[1])))
    tokens = [c.prompt_tokens for c in omni.generate(asked)]
    assert tokens == [len(omni.encoder([Conversation(r.messages)])["input_ids"][0]) for r in asked]
    assert len(widths) == 2
    assert min(widths) < max(widths) / 2


def test_one_broken_file_loses_nothing_else(backend: HFBackend, files: Files, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(files.images[0].read_bytes()[:200])
    good = ask("Look", Part("image", str(files.images[0])))
    found = backend.generate(
        [
            good,
            ask("Look", Part("image", str(files.images[0])), Part("image", str(broken))),
            ask("Look", Part("image", str(tmp_path / "absent.png"))),
            ask("Look", Part("image", str(files.images[0]), {"zoom": 2})),
            ask("Watch", Part("video", str(files.audios[0]))),
            good,
        ]
    )
    assert [c.finish_reason for c in found] == ["length", "error", "error", "error", "error", "length"]
    assert all(c.error.startswith("media_error: ") for c in found[1:5])
    assert "broken.png" in found[1].error
    assert "absent.png" in found[2].error
    assert found[0] == found[5] == backend.generate([good])[0]


def test_videos_with_and_without_sound_in_one_call(backend_of: Any, files: Files) -> None:
    for family in ("qwen2_5_omni", "qwen3_omni"):
        backend = backend_of(family)
        video, heard = (Part("video", str(files.videos[0]), {"use_audio_in_video": sound}) for sound in (False, True))
        seen, both, none, mixed, silent = backend.generate(
            [
                ask("Watch", video, video),
                ask("Watch", heard, heard),
                ask("Read"),
                ask("Watch", video, heard),
                ask("Watch", Part("video", str(files.silent), {"use_audio_in_video": True})),
            ]
        )
        assert {seen.finish_reason, both.finish_reason, none.finish_reason} == {"length"}
        assert both.prompt_tokens > seen.prompt_tokens
        assert mixed.error.startswith("capability_error: some videos")  # within one request: the family has one switch
        assert silent.error.startswith("media_error: ")


def test_a_modality_that_the_model_lacks_is_an_error(backend_of: Any, files: Files) -> None:
    backend = backend_of("qwen3_vl")
    assert backend.capabilities.modalities == {"text", "image", "video"}
    audio, sound, good = backend.generate(
        [
            ask("Listen", Part("audio", "/never/opened.wav")),
            ask("Hear", Part("video", str(files.videos[0]), {"use_audio_in_video": True})),
            ask("Read"),
        ]
    )
    assert audio.error == "capability_error: qwen3_vl takes no audio; choose a Qwen-Omni model for it"
    assert sound.error == "capability_error: qwen3_vl hears no sound: leave out use_audio_in_video"
    assert good.finish_reason == "length"


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_a_pair_in_both_orders_under_three_rubrics_is_decoded_once(
    omni: HFBackend, files: Files, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import importlib

    module = importlib.import_module(f"omnirm.preprocessing.{kind}")
    load, loaded = getattr(module, f"load_{kind}"), []

    def counted(ref: Any, *args: Any, **kwargs: Any) -> Any:
        loaded.append(ref)
        return load(ref, *args, **kwargs)

    monkeypatch.setattr(module, f"load_{kind}", counted)
    omni.cache.clear()
    paths = getattr(files, f"{kind}s")
    prompt = [{"type": "text", "text": "Which is better?"}]
    sample = Sample.from_dict({"prompt": prompt, "candidates": [[{"type": kind, kind: str(path)}] for path in paths]})
    asked = [
        get_format("pairwise").render(shown, rubrics=(Rubric(name),)).request()
        for name in ("Clarity", "Truth to the prompt", "Beauty")
        for shown in (sample, sample.swapped())
    ]
    assert {c.finish_reason for c in omni.generate(asked)} <= {"length", "stop"}
    assert len(loaded) == 2


def test_what_decides_a_completion_is_told(omni: HFBackend) -> None:
    import json

    told = omni.decoding(ask("Hi", temperature=0.5, seed=3, stop=("x",)))
    assert told == {
        "max_new_tokens": 8,
        "temperature": 0.5,
        "top_p": 1.0,
        "seed": 3,
        "stop": ["x"],
        "forced": [],
        "dtype": "float32",
        "device": "cpu",
    }
    assert json.loads(json.dumps(omni.media_settings))["image"]["factor"] == 28
