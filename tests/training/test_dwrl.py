"""DWRL's trainer: gradients by hand, what it reads against the backend, resuming, and that preferences are learned."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from transformers import TrainerCallback

from omnirm.backends.hf import HFBackend
from omnirm.backends.hf_inputs import Conversation, media_parts
from omnirm.errors import CapabilityError, ConfigError, SampleError
from omnirm.nano.build import FAMILIES, Family
from omnirm.prompts.formats import get_format
from omnirm.sample import Sample
from omnirm.training.backbone import with_backbone
from omnirm.training.dialogs import Dialogs, Thought, pairs_of
from omnirm.training.dwrl import DWRLSettings, TwiceSampler, train_dwrl
from omnirm.training.models import LoraSettings, Trainable, load_trainable

ONE_OF_ALL = [  # the others are slow tests
    pytest.param(family, marks=[] if family == "qwen3_vl" else pytest.mark.slow) for family in FAMILIES
]
SETTINGS = DWRLSettings(
    learning_rate=1e-3, batch_size=1, accumulation=1, epochs=1.0, warmup=0.0, schedule="constant", max_grad_norm=0.0,
    thoughts=3, max_new_tokens=9, log_steps=1, save_steps=1000, sampling="sequential",
)  # fmt: skip
Make = Callable[..., Trainable]


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Each trainer collects garbage when it is done, half a second through all that was imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a tiny judge that mostly ends its thoughts in time; each call gives the same weights anew."""
    folders: dict[str, Path] = {}

    def make(family: Family = "qwen3_vl", rank: int = 0) -> Trainable:
        if family not in folders:
            folders[family] = tiny_models.build(family, tmp_path_factory.mktemp(family))
        trainable = load_trainable(str(folders[family]), lora=LoraSettings(rank=rank))
        tokenizer = trainable.processor.tokenizer
        base = trainable.model.get_base_model() if rank else trainable.model
        bias = torch.zeros(base.lm_head.out_features)
        bias[list(tokenizer.get_added_vocab().values())] = -30.0
        bias[len(tokenizer) :] = -30.0
        bias[tokenizer.eos_token_id] = 6.8  # a fifth of all tokens
        bias[tokenizer("Yes")["input_ids"]] = 4.0
        base.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
        return trainable

    return make


def pair(number: int, label: int = 0, good: str = "An apple, of course.", bad: str = "A stone.") -> Sample:
    return Sample.from_dict(
        {"id": f"s{number}", "prompt": f"Name a fruit {number}.", "candidates": [good, bad], "label": label}
    )


def dialogs_of(trainable: Trainable, settings: DWRLSettings = SETTINGS, max_tokens: int = 3000) -> Dialogs:
    return Dialogs(
        trainable, thoughts=settings.thoughts, max_new_tokens=settings.max_new_tokens, max_tokens=max_tokens,
        seed=settings.seed,
    )  # fmt: skip


def train(trainable: Trainable, rows: Sequence[Sample], output: Path, callbacks: Any = (), **changes: Any) -> Any:
    settings = replace(SETTINGS, **changes)
    return train_dwrl(trainable, rows, settings, output, max_tokens=3000, callbacks=callbacks)


class Watch(TrainerCallback):
    """Gradients of each step, and the weights that they are taken at."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.weights.append({k: v.detach().clone() for k, v in model.state_dict().items()})

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.gradients.append({k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None})


def sampled(trainable: Trainable, rows: Sequence[Sample], settings: DWRLSettings, step: int = 0) -> Any:
    """The thoughts that the trainer samples at that step with the weights as they are."""
    trainable.model.eval()
    backend = HFBackend.of(trainable.model, trainable.processor, trainable.settings, batch_size=16, tokens=True)
    return dialogs_of(trainable, settings).sample(backend, pairs_of(rows), step)


def by_hand(trainable: Trainable, sample: Sample, candidate: int, thought: Thought) -> tuple[Any, Any]:
    """log P("Yes") and the log-probabilities of a thought's tokens, with no part of the trainer: one dialog of texts
    and ids put together here, and the model's own logits."""
    encoder, tokenizer = trainable.encoder, trainable.processor.tokenizer
    form = get_format("p-yes")
    first = form.render_thought(sample, candidate=candidate)
    prompt = encoder([Conversation(first.messages)])["input_ids"][0].tolist()
    own = list(thought.ids[:-1])
    question = form.render_question(first, "x").messages[-1].parts[0].value
    ids = lambda text: tokenizer(text, add_special_tokens=False)["input_ids"]  # noqa: E731
    tail = ids("<|im_end|>\n<|im_start|>user\n") + ids(question) + ids("<|im_end|>\n<|im_start|>assistant\n")
    whole = torch.tensor([prompt + own + tail])
    logits = trainable.model(input_ids=whole, attention_mask=torch.ones_like(whole)).logits[0].double()
    logs = logits.log_softmax(-1)
    places = range(len(prompt) - 1, len(prompt) + len(own))
    tokens = torch.stack([logs[place, token] for place, token in zip(places, thought.ids, strict=True)])
    return logs[-1, ids("Yes")[0]], tokens


def gradients(trainable: Trainable, loss: Any) -> dict[str, torch.Tensor]:
    model = trainable.model
    model.zero_grad()
    loss.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], factor: float = 1.0) -> None:
    """Equal gradients, by the size of the largest; a parameter without one has a gradient of 0."""
    largest = max(float(g.abs().max()) for g in expected.values()) * abs(factor)
    assert largest > 0
    for name in {*found, *expected}:
        zero = torch.zeros(())
        difference = found.get(name, zero) - factor * expected.get(name, zero)
        assert float(difference.abs().max()) < 2e-4 * largest, name


# -- what is read -----------------------------------------------------------------------------------------------------


def shown(kinds: Sequence[str], files: Any) -> Sample:
    """A prompt with media, and a response with an image."""
    parts: list[Any] = [{"type": "text", "text": "What is this?"}]
    media = {"image": files.images[0], "video": files.silent, "audio": files.audios[1]}
    parts += [{"type": kind, kind: str(media[kind])} for kind in kinds]
    answer = (
        [{"type": "text", "text": "Like"}, {"type": "image", "image": str(files.images[1])}] if kinds else "A square."
    )
    return Sample.from_dict({"id": "m", "prompt": parts, "candidates": [answer, "No idea."], "label": 0})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "kinds",
    [
        (),
        pytest.param(("image",), marks=pytest.mark.slow),
        pytest.param(("video",), marks=pytest.mark.slow),
        pytest.param(("audio",), marks=pytest.mark.slow),
        ("image", "video", "audio"),
    ],
)
def test_p_and_tokens_are_the_backend_s_own(family: Family, kinds: Sequence[str], judge: Make, files: Any) -> None:
    trainable = judge(family)
    if "audio" in kinds and "audio" not in trainable.encoder.modalities:
        kinds = tuple(kind for kind in kinds if kind != "audio") or ("image", "image")
    sample = shown(kinds, files)
    dialogs = dialogs_of(trainable)
    trainable.model.eval()
    backend = HFBackend.of(trainable.model, trainable.processor, trainable.settings, tokens=True)
    form = get_format("p-yes")
    asked, expected_yes, expected_tokens = [], [], []
    for candidate, text in ((0, "Two words of use."), (1, " It is bad\nand says nothing at all.\n")):
        # thoughts in words: the backend encodes their text to the same ids
        first = form.render_thought(sample, candidate=candidate)
        (answer,) = backend.generate([form.render_question(first, text).request()])
        assert answer.error == ""
        expected_yes.append(answer.logprobs[0].top["Yes"])
        ids = (*trainable.encoder.untrusted_ids(text), trainable.processor.tokenizer.eos_token_id)
        asked.append((pairs_of([sample])[0], candidate, Thought(text, ids)))
        # sampled thoughts: the backend says with which probability it chose each token
        request = first.request(temperature=1.0, seed=candidate, max_new_tokens=9, track=("Yes",))
        (written,) = backend.generate([request])
        assert written.error == ""
        if written.finish_reason == "stop":
            asked.append((asked[-1][0], candidate, Thought(written.text, written.token_ids)))
            expected_yes.append(math.nan)
        expected_tokens.append([one.logprob for one in written.logprobs] if written.finish_reason == "stop" else None)
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(with_backbone(trainable.model))
    with torch.no_grad():
        yes, tokens, mask = dialogs.read(trainable.model, asked)
    for found, expected in zip(yes.tolist(), expected_yes, strict=True):
        assert math.isnan(expected) or found == pytest.approx(expected, abs=2e-4)
    drawn = [place for place, expected in enumerate(expected_yes) if math.isnan(expected)]
    known = [one for one in expected_tokens if one is not None]
    assert drawn, "no thought ended in time: nothing was compared"
    for place, logprobs in zip(drawn, known, strict=True):
        assert tokens[place][mask[place]].tolist() == pytest.approx(logprobs, abs=2e-4)


def test_the_tokens_of_a_thought_are_those_that_were_sampled(judge: Make) -> None:
    # "no" in letters is another way to write a token; encoded anew it would be one
    trainable = judge()
    encoder, tokenizer = trainable.encoder, trainable.processor.tokenizer
    letters = tuple(token for letter in "apple" for token in encoder.untrusted_ids(letter))
    assert letters != tuple(encoder.untrusted_ids("apple"))
    thought = Thought("apple", (*letters, tokenizer.eos_token_id))
    batch, columns, mask = dialogs_of(trainable).batch([(pairs_of([pair(0)])[0], 1, thought)])
    found = batch["labels"][0][columns[0][:-1][mask[0][:-1]]]
    assert tuple(found.tolist()) == thought.ids
    assert batch["input_ids"][0][columns[0][:-1]].tolist() == list(thought.ids)
    yes = batch["labels"][0][columns[0][-1]]
    assert tokenizer.decode(yes) == "Yes"


def test_a_thought_that_ended_with_another_token_is_rated_by_that_token(judge: Make) -> None:
    trainable = judge()
    tokenizer = trainable.processor.tokenizer
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    ids = (*trainable.encoder.untrusted_ids("Good."), tokenizer.pad_token_id)
    batch, columns, mask = dialogs_of(trainable).batch([(pairs_of([pair(0)])[0], 0, Thought("Good.", ids))])
    places = columns[0][:-1][mask[0][:-1]]
    assert batch["labels"][0][places[-1]] == tokenizer.pad_token_id
    assert batch["input_ids"][0][places[-1]] == tokenizer.eos_token_id  # the dialog goes on as the template says


@pytest.mark.parametrize(
    ("text", "ending", "failure"),
    [("  \n", "stop", "missing"), ("Good", "length", "truncated"), ("Go<|image_pad|>od", "stop", "special_token"),
     ("Good<|im_start|>", "stop", "special_token"), ("Good", "stop", "")],
)  # fmt: skip
def test_thoughts_that_cannot_be_used(text: str, ending: Any, failure: str, judge: Make) -> None:
    from omnirm.backends.hf import TokenCompletion

    trainable = judge()
    ids = tuple(trainable.encoder.text_ids(text)) + (
        (trainable.processor.tokenizer.eos_token_id,) if ending == "stop" else ()
    )

    class Fixed:
        def generate(self, requests: Sequence[Any]) -> list[Any]:
            return [TokenCompletion(text, ending, token_ids=ids) for _ in requests]

    found = dialogs_of(trainable).sample(Fixed(), pairs_of([pair(0)]), 0)  # type: ignore[arg-type]
    assert {one.failure for side in found[0] for one in side} == {failure}
    assert [len(side) for side in found[0]] == [3, 3]


def test_a_medium_that_cannot_be_read_stops_training_and_is_named(judge: Make, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    sample = Sample.from_dict(
        {
            "id": "bad-one",
            "prompt": [{"type": "image", "image": str(tmp_path / "broken.png")}],
            "candidates": ["a", "b"],
            "label": 0,
        }
    )
    with pytest.raises(SampleError, match=r"bad-one.*media_error"):
        train(judge(), [sample], tmp_path / "out")


# -- gradients --------------------------------------------------------------------------------------------------------


def weights_of(logp: Sequence[Sequence[float]]) -> tuple[float, list[list[float]]]:
    """w and v by their definitions."""
    p = [[math.exp(one) for one in side] for side in logp]
    means = [sum(side) / len(side) for side in p]
    return means[1] / sum(means), [[one / sum(side) for one in side] for side in p]


@pytest.mark.parametrize("family", ONE_OF_ALL)
@pytest.mark.parametrize(
    "how",
    [
        {},
        pytest.param({"chunk": 2, "scale": "likelihood"}, marks=pytest.mark.slow),
        pytest.param({"misalignment": False, "scoring_weight": 0.5, "thought_weight": 3.0}, marks=pytest.mark.slow),
    ],
)
def test_both_updates_are_those_of_separate_passes_by_hand(
    family: Family, how: Any, judge: Make, tmp_path: Path
) -> None:
    trainable, watch, rows = judge(family), Watch(), [pair(0, label=1)]
    settings = replace(SETTINGS, thoughts=6, clip=0.02, **how)
    train_dwrl(trainable, rows, settings, tmp_path, max_tokens=3000, callbacks=[watch])
    assert len(watch.gradients) == 2
    model = trainable.model
    model.load_state_dict(watch.weights[0])
    (thoughts,) = sampled(trainable, rows, settings)
    usable = [[one for one in side if not one.failure] for side in thoughts]
    assert all(len(side) >= 2 for side in usable)
    sides = (1, 0)  # the label says 1

    # scoring: -w sum_i (v+_i log p+_i - v-_i log p-_i)
    model.train()
    read = [[by_hand(trainable, rows[0], c, one) for one in side] for c, side in zip(sides, usable, strict=True)]
    w, v = weights_of([[yes.item() for yes, _ in side] for side in read])
    w = w if settings.misalignment else 1.0
    signed = [sign * sum(x * yes for x, (yes, _) in zip(v[s], read[s], strict=True)) for s, sign in ((0, 1), (1, -1))]
    expected = gradients(trainable, -w * settings.scoring_weight * (signed[0] + signed[1]))
    assert_same(watch.gradients[0], expected)
    old = [[tokens.detach() for _, tokens in side] for side in read]

    # thoughts: the updated model's weights, and its ratios to the one that sampled
    model.load_state_dict(watch.weights[1])
    read = [[by_hand(trainable, rows[0], c, one) for one in side] for c, side in zip(sides, usable, strict=True)]
    w, v = weights_of([[yes.item() for yes, _ in side] for side in read])
    w = w if settings.misalignment else 1.0
    loss: Any = 0.0
    held = tokens_in_all = 0
    for side, sign in ((0, 1.0), (1, -1.0)):
        n = len(read[side])
        for i, (_, new) in enumerate(read[side]):
            advantage = sign * (v[side][i] - 1 / n)
            ratio = (new - old[side][i]).exp()
            clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
            objective = torch.minimum(ratio * advantage, clipped * advantage)
            held += int((clipped * advantage < ratio * advantage).sum())
            tokens_in_all += len(new)
            loss = loss - (w / n * objective.mean() if settings.scale == "paper" else w * objective.sum())
    assert 0 < held < tokens_in_all, "the clip was not put to the test"
    assert_same(watch.gradients[1], gradients(trainable, settings.thought_weight * loss))


def test_a_step_is_the_mean_over_its_pairs_however_it_is_cut_up(judge: Make, tmp_path: Path) -> None:
    rows = [pair(i, label=i % 2) for i in range(4)]
    found = []
    for number, how in enumerate((
        {"batch_size": 4}, {"batch_size": 2, "accumulation": 2, "chunk": 5}
    )):  # fmt: skip
        watch = Watch()
        train(judge(), rows, tmp_path / str(number), [watch], **how)
        assert len(watch.gradients) == 2
        found.append(watch.gradients)
    for other in found[1:]:
        for step in (0, 1):
            assert_same(other[step], found[0][step])


def still(trainable: Trainable, sample: Sample, output: Path, **changes: Any) -> list[dict[str, torch.Tensor]]:
    """Gradients of a scoring and a thought step at the same weights."""
    watch = Watch()
    train(trainable, [sample], output, [watch], learning_rate=0.0, **changes)
    return watch.gradients


def test_what_exchanging_the_responses_and_leaving_out_w_do_to_both_gradients(judge: Make, tmp_path: Path) -> None:
    trainable = judge()
    (thoughts,) = sampled(trainable, [pair(0)], SETTINGS)
    logp = [
        [by_hand(trainable, pair(0), c, x)[0].item() for x in side if not x.failure] for c, side in enumerate(thoughts)
    ]
    w, _ = weights_of(logp)
    assert abs(w - 0.5) > 0.01
    one = still(trainable, pair(0, label=0), tmp_path / "a")
    other = still(trainable, pair(0, label=1), tmp_path / "b")
    flat = still(trainable, pair(0, label=0), tmp_path / "c", misalignment=False)
    for step in (0, 1):
        assert_same(other[step], one[step], -(1 - w) / w)  # w becomes 1 - w, and chosen becomes rejected
        assert_same(flat[step], one[step], 1 / w)


# -- schedule, logs, checkpoints --------------------------------------------------------------------------------------


def test_each_rollout_comes_twice_and_every_epoch_has_its_own_order() -> None:
    orders = []
    for epoch in (0, 1, 0):
        sampler = TwiceSampler(11, 4, lambda now=epoch: now, seed=3)  # type: ignore[misc]
        found = list(sampler)
        assert len(found) == len(sampler) == 16
        for start in (0, 8):
            assert found[start : start + 4] == found[start + 4 : start + 8]
        assert len({*found}) == 8
        orders.append(found)
    assert orders[0] == orders[2] != orders[1]
    assert list(TwiceSampler(5, 2, lambda: 0, None)) == [0, 1, 0, 1, 2, 3, 2, 3]


CURVE = ("loss", "grad_norm", "nll", "accuracy", "misalignment", "entropy", "clipped", "usable", "epoch")


def curve(trainer: Any) -> dict[int, dict[str, float]]:
    return {e["step"]: {k: e[k] for k in CURVE if k in e} for e in trainer.state.log_history if "loss" in e}


class StopAt(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = control.should_training_stop = state.global_step == self.step


@pytest.mark.parametrize(
    ("stop", "rollout"),
    [(5, 1), (3, 2), *(pytest.param(stop, 1, marks=pytest.mark.slow) for stop in (1, 2))],  # 4 steps an epoch
)
def test_a_resumed_run_has_the_curve_of_one_that_never_stopped(
    stop: int, rollout: int, judge: Make, tmp_path: Path
) -> None:
    rows = [pair(i, label=i % 2) for i in range(2)]
    how = {"epochs": 2.0, "sampling": "random", "steps_per_rollout": rollout, "learning_rate": 3e-3, "max_steps": 6}
    whole = curve(train(judge(), rows, tmp_path / "whole", **how))
    first = curve(train(judge(), rows, tmp_path / "cut", [StopAt(stop)], **how))
    assert list(first) == list(range(1, stop + 1))
    rest = curve(train(judge(), rows, tmp_path / "cut", **how))
    assert list(whole) == list(rest) == list(range(1, 7))
    for step, numbers in whole.items():
        assert rest[step] == pytest.approx(numbers, rel=1e-4, abs=1e-6), step
    assert {"nll", "clipped"} <= {name for numbers in whole.values() for name in numbers}
    scored = [step for step, numbers in whole.items() if "usable" in numbers]
    assert scored == [s for s in range(1, 7) if (s - 1) // rollout % 2 == 0]


@pytest.mark.slow
def test_thoughts_that_are_not_at_hand_are_sampled_anew(judge: Make, tmp_path: Path) -> None:
    rows = [pair(i) for i in range(2)]
    train(judge(), rows, tmp_path, [StopAt(3)])
    (tmp_path / "checkpoint-3" / "thoughts-0.json").unlink()
    found = curve(train(judge(), rows, tmp_path))
    assert list(found) == list(range(1, 5))
    assert found[4]["clipped"] == 0  # the policy that sampled them is the one in training
    assert found[4]["grad_norm"] > 0


def test_what_is_logged_is_what_the_thoughts_say(judge: Make, tmp_path: Path) -> None:
    trainable = judge()
    rows = [pair(0), pair(1, label=1)]
    found = [sampled(trainable, rows, SETTINGS)]
    logp = [
        [
            [by_hand(trainable, row, c, x)[0].item() for x in side if not x.failure]
            for c, side in zip(cs, both, strict=True)
        ]
        for row, cs, both in zip(rows, ((0, 1), (1, 0)), found[0], strict=True)
    ]
    both = [weights_of(one) for one in logp]
    entropies = [-sum(x * math.log(x) for x in v) for _, vs in both for v in vs]
    every = [x for one in found[0] for side in one for x in side]
    trainer = train(trainable, rows, tmp_path, batch_size=2, learning_rate=0.0)
    (entry,) = [e for e in trainer.state.log_history if "nll" in e]
    assert entry["nll"] == pytest.approx(-sum(math.log(1 - w) for w, _ in both) / 2, rel=1e-4)
    assert entry["misalignment"] == pytest.approx(sum(w for w, _ in both) / 2, rel=1e-4)
    assert entry["accuracy"] == sum(w < 0.5 for w, _ in both) / 2
    assert entry["entropy"] == pytest.approx(sum(entropies) / 4, rel=1e-4)
    assert entry["usable"] == pytest.approx(sum(not x.failure for x in every) / 12)
    assert entry["thought_tokens"] == pytest.approx(sum(len(x.ids) for x in every) / 12)


# -- learning ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_preference_that_can_be_learned_is_learned(judge: Make, tmp_path: Path) -> None:
    said = ("An apple, of course.", "A stone.")
    rows = [pair(i, i % 2, said[i % 2], said[1 - i % 2]) for i in range(8)]
    trainer = train(judge(), rows, tmp_path, batch_size=4, epochs=8.0, learning_rate=2e-3, max_grad_norm=1.0)
    scored = [e for e in trainer.state.log_history if "nll" in e]
    assert len(scored) == 16
    assert scored[0]["nll"] > 0.5
    assert sum(e["nll"] for e in scored[-3:]) / 3 < 0.1
    assert all(e["accuracy"] == 1.0 for e in scored[-3:])


@pytest.mark.parametrize("family", ONE_OF_ALL)
def test_adapters_learn_and_nothing_else(family: Family, judge: Make, tmp_path: Path) -> None:
    trainable = judge(family, rank=4)
    before = {name: weight.detach().clone() for name, weight in trainable.model.named_parameters()}
    trainer = train(trainable, [pair(i) for i in range(2)], tmp_path, batch_size=2, gradient_checkpointing=True)
    moved = {name for name, weight in trainable.model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved
    assert all("lora_" in name for name in moved)
    assert all(numbers["grad_norm"] > 0 for numbers in curve(trainer).values())


@pytest.mark.parametrize("family", ONE_OF_ALL)
def test_media_of_every_kind_train(family: Family, judge: Make, files: Any, tmp_path: Path) -> None:
    trainable = judge(family)
    kinds = ["image", "video", "audio"] if "audio" in trainable.encoder.modalities else ["image", "video"]
    rows = [replace(shown([kind], files), id=kind) for kind in kinds]
    before = {name: weight.detach().clone() for name, weight in trainable.model.named_parameters()}
    trainer = train(trainable, rows, tmp_path, batch_size=len(kinds), max_steps=2)
    assert [e["grad_norm"] > 0 for e in curve(trainer).values()] == [True, True]
    moved = {name for name, weight in trainable.model.named_parameters() if not torch.equal(weight, before[name])}
    for part in ("visual", *(["audio_tower"] if "audio" in kinds else [])):
        assert any(part in name for name in moved), part


@pytest.mark.slow
def test_videos_with_and_without_sound_may_share_a_batch(judge: Make, files: Any, tmp_path: Path) -> None:
    def row(name: str, sound: bool) -> Sample:
        video = {"type": "video", "video": str(files.videos[0]), "use_audio_in_video": sound}
        return Sample.from_dict({"id": name, "prompt": [video], "candidates": ["a", "b"], "label": 0})

    trainable = judge("qwen2_5_omni")
    (one, *_), rows = media_parts(row("x", True).prompt), [row("loud", True), row("mute", False)]
    assert one.options["use_audio_in_video"] is True
    trainer = train(trainable, rows, tmp_path, batch_size=2)
    assert all(numbers["grad_norm"] > 0 for numbers in curve(trainer).values())


def test_the_model_is_left_as_a_model(judge: Make, tmp_path: Path) -> None:
    trainable = judge()
    generation = trainable.model.generation_config
    train(trainable, [pair(0)], tmp_path)
    assert "forward" not in vars(trainable.model)
    assert trainable.model.generation_config is generation


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "how", "max_tokens", "message"),
    [
        ([], {}, 3000, "nothing to train on"),
        ([replace(pair(0), label="tie")], {}, 3000, "nothing to train on"),
        ([pair(0)], {"batch_size": 2}, 3000, "1 pairs, but a rollout takes 2"),
        ([pair(i) for i in range(3)], {"steps_per_rollout": 4}, 3000, "3 pairs, but a rollout takes 4"),
        ([pair(0), pair(77, good="long " * 500)], {}, 1000, "sample s77, candidate 0.*max_tokens"),
        ([pair(i) for i in range(4)], {"max_new_tokens": 1, "patience": 2}, 3000, "usable thought.*truncated"),
    ],
)
def test_what_cannot_be_trained_on_is_an_error(
    rows: Any, how: Any, max_tokens: int, message: str, judge: Make, tmp_path: Path
) -> None:
    trainable = judge()
    before = {name: weight.detach().clone() for name, weight in trainable.model.named_parameters()}
    with pytest.raises(SampleError, match=message):
        train_dwrl(trainable, rows, replace(SETTINGS, **how), tmp_path, max_tokens=max_tokens)
    assert all(torch.equal(weight, before[name]) for name, weight in trainable.model.named_parameters())


def test_a_model_without_a_single_token_for_yes_cannot_be_trained(tiny_of: Any, tmp_path: Path) -> None:
    tiny = tiny_of("qwen3_vl")  # its vocabulary has never seen the word
    with pytest.raises(CapabilityError, match="'Yes' is not a single token"):
        train(Trainable(tiny.model(), tiny.processor, tiny.settings, ""), [pair(0)], tmp_path)


def test_thoughts_that_are_all_alike_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    from omnirm.training.dwrl_log import DWRLLog

    log = DWRLLog(patience=2)
    alike = torch.log(torch.tensor([[[0.2, 0.2], [0.1, 0.1]]]))
    thoughts = [Thought("x", (1, 2))] * 4
    with caplog.at_level(logging.WARNING):
        log.scored(alike, thoughts)
        assert not caplog.records
        log.scored(alike, thoughts)
        log.scored(alike, thoughts)
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"thoughts": 1}, {"temperature": 0.7}, {"top_p": 0.9}, {"clip": 0.0}, {"clip": 1.0}, {"scale": "sum"},
        {"chunk": -1}, {"steps_per_rollout": 0}, {"max_new_tokens": 0}, {"patience": 0}, {"thought_weight": -1.0},
        {"sampling": "group_by_length"}, {"batch_size": 0},
    ],
)  # fmt: skip
def test_settings_out_of_range(wrong: Any) -> None:
    with pytest.raises(ConfigError):
        DWRLSettings(**wrong)
