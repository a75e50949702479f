"""Every family of models judges pairs of every modality it takes, end to end, on media made in code and real files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import Files

from omnirm.backends.hf import HFBackend
from omnirm.backends.load import has_nano, load_backend
from omnirm.judge import Judge
from omnirm.judgment import Judgment, PointJudgment
from omnirm.prompts.formats import get_format
from omnirm.sample import Sample
from omnirm.types import ParseFailure, Rubric

RUBRICS = (Rubric("Truth", "Is it what the prompt asks for?"), Rubric("Beauty", weight=2.0))


@pytest.fixture(params=["qwen2_5_omni", "qwen3_omni", "qwen3_vl", "full qwen2_5_omni", "full qwen3_omni", "nano"])
def family(
    request: pytest.FixtureRequest,
    backend_of: Callable[[Any], HFBackend],
    full_checkpoint: Callable[[Any], Path],
) -> HFBackend:
    """Thinkers, the VL model, thinkers out of full checkpoints as the hub has them, and the embedded model."""
    name: str = request.param
    if name == "nano":
        if not has_nano():
            pytest.skip("the weights of nano are not in this installation")
        return load_backend("nano", device="cpu")  # type: ignore[return-value]
    if name.startswith("full "):
        return HFBackend(str(full_checkpoint(name.removeprefix("full "))), device="cpu", name=name)
    return backend_of(name)


def sample(kind: str, a: Any, b: Any, **options: Any) -> Sample:
    """A prompt of text and, with media, of a medium; the candidates are media."""
    if kind == "text":
        return Sample.from_dict({"id": "text", "prompt": "Name a fruit.", "candidates": [a, b]})
    first, second = ({"type": kind, kind: str(path), **options} for path in (a, b))
    prompt = [first, {"type": "text", "text": "Make it better."}]
    return Sample.from_dict({"id": kind, "prompt": prompt, "candidates": [[first], [second]]})


def made(backend: HFBackend, files: Files) -> dict[str, Sample]:
    found = {
        "text": sample("text", "An apple.", "A pear, 🍐."),
        "image": sample("image", *files.images),
        "video": sample("video", files.videos[0], files.silent),
    }
    if "audio" in backend.capabilities.modalities:
        found["sound"] = sample("video", *files.videos, use_audio_in_video=True)
        found["audio"] = sample("audio", *files.audios)
    return found


def real(backend: HFBackend, folder: Path) -> dict[str, Sample]:
    short = {"nframes": 4, "video_end": 2.0}
    found = {
        "image": sample("image", folder / "omnireward_demo/1.jpg", folder / "omnireward_demo/2.jpg"),
        "video": sample("video", folder / "omnireward_demo/1.mp4", folder / "omnireward_demo/2.avi", **short),
        "rotated": sample("video", folder / "decord/video_90.mov", folder / "videoscore/video1.mp4"),
    }
    if "audio" in backend.capabilities.modalities:
        nasa, webm = folder / "torchcodec/nasa_13013.mp4", folder / "gradio/video_sample.webm"
        wav, mp3 = folder / "gradio/cantina.wav", folder / "gradio/cate_blanch.mp3"
        found["sound"] = sample("video", nasa, webm, use_audio_in_video=True, **short)
        found["audio"] = sample("audio", wav, mp3, duration=2.5)
    return found


@contextmanager
def saying(backend: HFBackend, first: tuple[str, ...], then: str) -> Iterator[None]:
    """Makes the model say one of `first`, as it prefers, and then `then` for ever."""
    tokenizer = backend.processor.tokenizer
    starts = [tokenizer.convert_tokens_to_ids(text) for text in first]
    [rest] = tokenizer(then)["input_ids"]

    def push(_: Any, __: Any, kwargs: dict[str, Any], output: Any) -> Any:
        said = torch.isin(kwargs["input_ids"][:, -1], torch.tensor([*starts, rest]))
        output.logits[said, -1, rest] += 1e4
        output.logits[(~said).nonzero(), -1, torch.tensor(starts)] += 1e4
        return output

    handle = backend.model.register_forward_hook(push, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def check_structure(backend: HFBackend, samples: dict[str, Sample]) -> None:
    """Whatever a random model says: one completion a request, in order, with token counts and log-probabilities."""
    asked = [
        get_format(name).render(one, **options).request(temperature=1.0, seed=3, max_new_tokens=4, track=("A", "B"))
        for one in samples.values()
        for name, options in (
            ("pairwise", {}),
            ("pairwise", {"rubrics": RUBRICS, "allow_tie": True}),
            ("pairwise-thinking", {}),
            ("pointwise", {"candidate": 1}),
            ("p-yes", {"candidate": 0}),
        )
    ]
    found = backend.generate(asked)
    assert [c.error for c in found] == [""] * len(asked)
    for request, completion in zip(asked, found, strict=True):
        assert completion.finish_reason in ("stop", "length")
        assert completion.completion_tokens <= 4
        assert 1 <= len(completion.logprobs) <= 4
        assert "".join(t.text for t in completion.logprobs) == completion.text
        for token in completion.logprobs:
            assert set(token.top) == {"A", "B"}
            assert all(math.isfinite(value) and value <= 0 for value in (token.logprob, *token.top.values()))
        assert completion.prompt_tokens > sum(p.type != "text" for m in request.messages for p in m.parts)


def check_judgments(backend: HFBackend, samples: dict[str, Sample]) -> None:
    """A model that gives verdicts as it prefers: one for every pair, in both orders, with margin and confidence."""
    judge = Judge(backend, format="pairwise", rubrics=RUBRICS)
    with saying(backend, ("A", "B"), "]"):
        judgments = judge.compare(list(samples.values()))
    for name, judgment in zip(samples, judgments, strict=True):
        assert judgment.reasons == (), name
        assert judgment.verdict in ("A", "B", "tie"), name
        assert len(judgment.calls) == 2, name
        assert judgment.coverage == 1.0, name
        assert math.isfinite(judgment.margin or math.nan), name
        assert 0 <= (judgment.confidence or 0.0) <= 1, name
        assert judgment.position_consistent is not None, name
        assert all(call.call.prompt_tokens > 0 for call in judgment.calls), name
        assert Judgment.from_json(judgment.to_json()) == judgment, name
    with saying(backend, ("Yes", "No"), "<|im_end|>"):
        scores = Judge(backend).score(list(samples.values()), method="p-yes")
    for name, score in zip(samples, scores, strict=True):
        assert score.reasons == (), name
        assert all(c.score is not None and 0 <= c.score <= 1 for c in score.candidates), name
        assert PointJudgment.from_json(score.to_json()) == score, name


def test_a_family_answers_every_format_on_made_media(family: HFBackend, files: Files) -> None:
    check_structure(family, made(family, files))


def test_a_family_judges_made_media(family: HFBackend, files: Files) -> None:
    check_judgments(family, made(family, files))


def test_a_family_answers_every_format_on_real_media(family: HFBackend, real_media: Path) -> None:
    check_structure(family, real(family, real_media))


def test_a_family_judges_real_media(family: HFBackend, real_media: Path) -> None:
    check_judgments(family, real(family, real_media))


def test_what_a_random_model_says_is_no_verdict(backend: HFBackend, files: Files) -> None:
    judge = Judge(backend, max_new_tokens=6)
    judgments = judge.compare([*made(backend, files).values()])
    for judgment in judgments:
        assert (judgment.verdict, judgment.coverage) == (None, 0.0)
        for call in judgment.calls:
            assert isinstance(call.failure, ParseFailure)
            assert call.failure.reason in ("truncated", "missing", "malformed")
    assert [j.format for j in judgments[:2]] == ["pairwise-thinking", "pairwise"]


def test_a_broken_file_is_a_failure_of_its_sample_alone(omni: HFBackend, files: Files, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    samples = [sample("audio", *files.audios), sample("audio", files.audios[0], broken)]
    with saying(omni, ("A", "B"), "]"):
        good, bad = Judge(omni).compare(samples)
    assert good.verdict is not None
    assert bad.verdict is None
    assert {call.failure.reason for call in bad.calls if call.failure} == {"media_error"}


def test_the_thinker_comes_out_of_a_full_checkpoint(backend_of: Any, full_checkpoint: Any) -> None:
    for name in ("qwen2_5_omni", "qwen3_omni"):
        thinker = backend_of(name).model.state_dict()
        loaded = HFBackend(str(full_checkpoint(name)), device="cpu").model
        assert "Thinker" in type(loaded).__name__
        state = loaded.state_dict()
        assert set(state) == set(thinker)
        assert all(torch.equal(state[key], thinker[key]) for key in thinker)
