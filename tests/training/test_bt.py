"""Bradley-Terry training really trains, with the loss that it says, for media and text models, and goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import Files
from typer.testing import CliRunner

from omnirm.app.cli import app
from omnirm.backends.hf_inputs import InputEncoder
from omnirm.errors import ConfigError, SampleError
from omnirm.nano.build import save_checkpoint, train_tokenizer
from omnirm.sample import Sample, write_samples
from omnirm.scorers.base import Scored
from omnirm.scorers.reward_model import RewardModel, TextProcessor, save_reward_model
from omnirm.scorers.scalar_head import ScalarHead
from omnirm.training.bt import BTRecipe, BTSettings, read_recipe, train, train_bt
from omnirm.training.preferred import Preferred, PreferredCollator, from_samples
from omnirm.types import Message, Part

RECIPES = Path(__file__).resolve().parents[2] / "training" / "recipes"
SETTINGS = BTSettings(
    learning_rate=3e-3, batch_size=2, accumulation=1, warmup=0.0, schedule="constant", log_steps=1, save_steps=1000,
    workers=0, freeze=(),
)  # fmt: skip
LEAST = 'name = "x"\ninit = "somewhere"\ndata = "pairs.jsonl"\n'


def text(value: str) -> tuple[Part, ...]:
    return (Part("text", value),)


def row(prompt: str, *responses: str, pairs: tuple[tuple[int, int], ...] = ((0, 1),), margin: float = 0.0) -> Preferred:
    return Preferred((Message("user", text(prompt)),), tuple(map(text, responses)), pairs, margin)


FRUITS = ("apple", "cherry", "fig", "grape", "kiwi", "lemon", "mango", "olive")
ROWS = [row(f"list {a}, {b}.", f"{a}, {b}", f"{b} {b} {b}") for a in FRUITS for b in FRUITS if a != b]
GROUP = row("what is two?", "two", "one", "three red circles", pairs=((0, 1), (0, 2), (1, 2)), margin=0.5)


def reward_model(tiny: Any, seed: int = 0) -> RewardModel:
    """A new model whose head has an opinion."""
    generator = torch.Generator().manual_seed(seed)
    return RewardModel(tiny.model(seed), torch.randn(1, 64, generator=generator) * 0.3)


def collator_of(tiny: Any, rows: Sequence[Preferred], max_tokens: int = 500) -> PreferredCollator:
    return PreferredCollator(InputEncoder(tiny.processor, open_turn=False), rows.__getitem__, tiny.prepare, max_tokens)


def run(tiny: Any, model: Any, rows: Sequence[Preferred], output: Path, callbacks: Any = (), **changes: Any) -> Any:
    settings = replace(SETTINGS, **changes)
    collator = collator_of(tiny, rows)
    places = list(range(len(rows)))
    return train_bt(model, tiny.processor.tokenizer, places, collator, settings, output, callbacks=callbacks)


def losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def bradley_terry(model: Any, batch: dict[str, Any]) -> float:
    """Mean of `-log sigmoid(s_better - s_worse - m)`, pair by pair."""
    inputs = {k: v for k, v in batch.items() if k not in ("pairs", "margin")}
    with torch.no_grad():
        scores = model(**inputs, use_cache=False).logits[:, 0].tolist()
    margins = batch["margin"].tolist() if "margin" in batch else [0.0] * len(batch["pairs"])
    leads = [scores[i] - scores[j] - m for (i, j), m in zip(batch["pairs"].tolist(), margins, strict=True)]
    return sum(math.log1p(math.exp(-lead)) for lead in leads) / len(leads)


def test_a_response_is_encoded_once_however_many_pairs_it_is_in(tiny: Any) -> None:
    batch = collator_of(tiny, [ROWS[0], GROUP])([0, 1])
    assert len(batch["input_ids"]) == 5
    assert batch["pairs"].tolist() == [[0, 1], [2, 3], [2, 4], [3, 4]]
    assert batch["margin"].tolist() == [0, 0.5, 0.5, 0.5]
    tokenizer = tiny.processor.tokenizer
    for ids, mask, expected in zip(
        batch["input_ids"], batch["attention_mask"], ("apple, cherry", "cherry cherry cherry", "two", "one", "three"),
        strict=True,
    ):  # fmt: skip
        assert f"assistant\n{expected}" in tokenizer.decode(ids[mask.bool()])
        assert tokenizer.decode(ids[mask.bool()]).endswith("<|im_end|>\n")
    assert "margin" not in collator_of(tiny, ROWS)([0, 1])


def test_a_row_over_the_limit_is_an_error_that_names_it(tiny_of: Any) -> None:
    collator = collator_of(tiny_of("qwen3_vl"), [ROWS[0], row("x", "y", "z " * 300)], max_tokens=100)
    with pytest.raises(ValueError, match=r"row 1 has \d+ tokens, over max_tokens = 100"):
        collator([0, 1])


def test_what_is_trained_is_what_is_scored(tiny: Any, tmp_path: Path, files: Files) -> None:
    image, other = (Part("image", str(p)) for p in files.images)
    video = Part("video", str(files.silent))
    rows = [
        Preferred((Message("user", (image, *text("draw it again"))),), ((image,), (other,))),
        Preferred((Message("user", (video,)),), (text("a square"), text("two red circles at the top"))),
        GROUP,
    ]
    model = reward_model(tiny).eval()
    batch = collator_of(tiny, rows)([0, 1, 2])
    with torch.no_grad():
        trained = model(**{k: v for k, v in batch.items() if k not in ("pairs", "margin")}).logits[:, 0].tolist()
    folder = save_reward_model(model, tiny.processor, tmp_path / "model")
    scorer = ScalarHead(str(folder), device="cpu", settings=tiny.settings, batch_size=3)
    items = [Scored(one.prompt, response) for one in rows for response in one.responses]
    assert scorer.score(items) == pytest.approx(trained, abs=1e-4)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_loss_is_bradley_terrys_with_its_margin(tiny: Any, tmp_path: Path, accumulation: int) -> None:
    rows = [replace(r, margin=m) for r, m in zip(ROWS, (0.0, 1.0, 0.3, 2.0), strict=False)]
    model = reward_model(tiny)
    trainer = run(tiny, model, rows, tmp_path, learning_rate=0.0, accumulation=accumulation)
    order = [
        int(i) for i in torch.utils.data.DataLoader(range(4), sampler=list(trainer.get_train_dataloader().sampler))
    ]
    assert sorted(order) == [0, 1, 2, 3]
    collator = collator_of(tiny, rows)
    whole = bradley_terry(model, collator([0, 1, 2, 3]))
    assert sum(losses(trainer)) / len(losses(trainer)) == pytest.approx(whole, rel=1e-4)


def test_a_new_head_starts_from_a_coin_toss(tiny: Any, tmp_path: Path) -> None:
    model = RewardModel(tiny.model())
    assert losses(run(tiny, model, ROWS[:2], tmp_path)) == [pytest.approx(math.log(2))]


def test_groups_of_responses_are_learned_pair_by_pair(tiny_of: Any, tmp_path: Path) -> None:
    tiny = tiny_of("qwen2_5_omni")
    rows = [replace(GROUP, margin=0.0)] * 40
    model = reward_model(tiny)
    before = bradley_terry(model, collator_of(tiny, rows)([0]))
    found = losses(run(tiny, model, rows, tmp_path))
    assert found[0] == pytest.approx(before, rel=1e-4), "the mean over the three pairs, each response computed once"
    assert found[-1] < 0.2


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_preferences_are_learned_and_hold_for_unseen_words(tiny_of: Any, tmp_path: Path, optimizer: str) -> None:
    tiny = tiny_of("qwen2_5_omni")
    model = reward_model(tiny)
    run(tiny, model, ROWS[:48], tmp_path, batch_size=8, epochs=5.0, optimizer=optimizer)
    assert bradley_terry(model.eval(), collator_of(tiny, ROWS)(range(48, 56))) < 0.4


def test_towers_stay_as_they_are_when_frozen_and_learn_when_not(tiny: Any, tmp_path: Path, files: Files) -> None:
    image, other = (Part("image", str(p)) for p in files.images)
    rows = [Preferred((Message("user", (image, *text("again"))),), ((image,), (other,)))] * 4
    init = save_checkpoint(tiny.model(), tiny.processor, tmp_path / "init")
    area = tiny.settings.image.max_pixels
    (init / "omnirm.json").write_text(json.dumps({"media": {"image": {"min_pixels": area, "max_pixels": area}}}))
    samples = [Sample(f"{i}", one.prompt, from_parts(one.responses), label=0) for i, one in enumerate(rows)]
    write_samples(tmp_path / "pairs.jsonl", samples)
    for freeze in (("visual", "audio_tower"), ()):
        recipe = BTRecipe("run", str(init), str(tmp_path / "pairs.jsonl"), bt=replace(SETTINGS, freeze=freeze))
        final = train(recipe, tmp_path / f"out{len(freeze)}")
        assert (final / "omnirm.json").is_file(), "media budgets go with the model"
        scorer = ScalarHead(str(final), device="cpu")
        moved = [
            name
            for (name, new), old in zip(
                scorer.model.backbone.named_parameters(), tiny.model().parameters(), strict=False
            )
            if "visual" in name and not torch.equal(new, old)
        ]
        assert bool(moved) == (not freeze)
        good, bad = scorer.score([Scored(rows[0].prompt, r) for r in rows[0].responses])
        assert good > bad  # type: ignore[operator]


def from_parts(responses: Sequence[tuple[Part, ...]]) -> tuple[Any, ...]:
    from omnirm.sample import Candidate

    return tuple(Candidate(parts) for parts in responses)


class StopAt:
    """Stops training after a step, as a user who presses Ctrl-C or a job that ends."""

    def __new__(cls, step: int) -> Any:
        from transformers import TrainerCallback

        class Stop(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                control.should_training_stop = state.global_step >= step

        return Stop()


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(tiny_of: Any, tmp_path: Path, optimizer: str) -> None:
    tiny, how = tiny_of("qwen2_5_omni"), {"optimizer": optimizer, "schedule": "cosine", "save_steps": 2}
    whole = reward_model(tiny)
    straight = losses(run(tiny, whole, ROWS[:16], tmp_path / "straight", **how))
    assert len(straight) == 8
    first = run(tiny, reward_model(tiny), ROWS[:16], tmp_path / "broken", [StopAt(5)], **how)
    assert first.state.global_step == 5
    again = reward_model(tiny, seed=1)  # whatever it starts from, the checkpoint counts
    second = run(tiny, again, ROWS[:16], tmp_path / "broken", **how)
    assert losses(second) == pytest.approx(straight, rel=1e-4), "from step 4 on, which was saved, not from 5"
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_a_text_language_model_becomes_a_reward_model(tmp_path: Path) -> None:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = train_tokenizer("qwen3_vl", [f"list {a}. user assistant\n" for a in FRUITS] * 9, 320)
    tokenizer.chat_template = (
        "{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{%- endfor %}"
    )
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "init")
    TextProcessor(tokenizer).save_pretrained(tmp_path / "init")
    samples = [Sample(f"{i}", r.prompt, from_parts(r.responses), label=0) for i, r in enumerate(ROWS)]
    write_samples(tmp_path / "pairs.jsonl", samples)
    settings = replace(SETTINGS, batch_size=8, epochs=8.0)
    final = train(BTRecipe("text", str(tmp_path / "init"), str(tmp_path / "pairs.jsonl"), bt=settings), tmp_path)
    scorer = ScalarHead(str(final), device="cpu")
    scores = scorer.score([Scored(r.prompt, response) for r in ROWS for response in r.responses])
    right = [a > b for a, b in zip(scores[::2], scores[1::2], strict=True)]  # type: ignore[operator]
    assert sum(right) > 0.9 * len(right)
    with pytest.raises(ConfigError, match="layers"):
        train(BTRecipe("cut", str(final), str(tmp_path / "pairs.jsonl"), layers=1), tmp_path)


def test_the_command_trains_on_the_nano_world_and_resumes(tiny_of: Any, tmp_path: Path) -> None:
    tiny = tiny_of("qwen2_5_omni")
    init = save_checkpoint(tiny.model(), tiny.processor, tmp_path / "init")
    area = tiny.settings.image.max_pixels
    media = {"image": {"min_pixels": area, "max_pixels": area}, "video": {"min_pixels": area, "max_pixels": area}}
    (init / "omnirm.json").write_text(json.dumps({"media": media}))
    changes = [f"init={init}", "nano.rows=8", "nano.rough_rows=2", "nano.apart_rows=2", "nano.words_rows=3", "layers=1"]
    changes += ["bt.batch_size=4", "bt.save_steps=1", "bt.workers=0"]
    command = ["train", str(RECIPES / "nano-disrm.toml"), "--output", str(tmp_path), "--debug"]
    command += [word for change in changes for word in ("--set", change)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    final = Path(done.stdout.splitlines()[-1])
    assert final == tmp_path / "nano-disrm" / "final"
    (found,) = ScalarHead(str(final), device="cpu").score([Scored(ROWS[0].prompt, ROWS[0].responses[0])])
    assert isinstance(found, float)
    weights = (final / "model.safetensors").read_bytes()
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (final / "model.safetensors").read_bytes() == weights, "a finished run given again trains no further"


def test_every_label_that_prefers_one_gives_its_pairs() -> None:
    def sample(name: str, label: Any, n: int = 2, **metadata: Any) -> Sample:
        return Sample.from_dict(
            {"id": name, "prompt": "q", "candidates": [f"{name}{i}" for i in range(n)], "label": label,
             "metadata": metadata}
        )  # fmt: skip

    rows = from_samples([sample("a", 1), sample("b", "tie"), sample("c", None), sample("d", 0, 3, margin=2)])
    said = [(r.responses[0][0].value, r.responses[1][0].value, r.margin) for r in rows]
    assert said == [("a1", "a0", 0.0), ("d0", "d1", 2.0), ("d0", "d2", 2.0)]
    with pytest.raises(SampleError, match="nothing to train on"):
        from_samples([sample("b", "tie")])
    for margin in ("2", True, -1, float("inf")):
        with pytest.raises(SampleError, match=r"sample e: metadata\.margin"):
            from_samples([replace(sample("e", 0), metadata={"margin": margin})])


def recipe_file(folder: Path, content: str) -> Path:
    file = folder / "recipe.toml"
    file.write_text(content, encoding="utf-8")
    return file


def test_a_recipe_with_changes(tmp_path: Path) -> None:
    file = recipe_file(tmp_path, LEAST + "layers = 2\n[bt]\nlearning_rate = 1\n")
    changes = ["init=/some/where else", "layers=3", "bt.seed = 7", 'bt.freeze=["visual"]', "bt.optimizer=muon"]
    found = read_recipe(file, changes)
    assert (found.name, found.init, found.layers) == ("x", "/some/where else", 3)
    assert found.bt == BTSettings(learning_rate=1.0, seed=7, freeze=("visual",), optimizer="muon")
    assert isinstance(found.bt.learning_rate, float)


@pytest.mark.parametrize(
    ("content", "changes", "named"),
    [
        (LEAST + "row = 3\n", [], r"unknown \['row'\]; known are"),
        (LEAST + "[bt]\nlr = 1.0\n", [], r"unknown \['lr'\]; known are"),
        (LEAST + 'layers = "two"\n', [], "layers = 'two': needs a value of type int"),
        (LEAST + "layers = true\n", [], "layers = True"),
        (LEAST + "bt = 3\n", [], "write a table"),
        (LEAST + '[bt]\nfreeze = "visual"\n', [], "freeze = 'visual'"),
        ('name = "x"\n', [], r"\['data', 'init'\] must be given"),
        ("name = \n", [], "not TOML"),
        (LEAST, ["layers"], "write key=value"),
        (LEAST, ["name.x=1"], "name is no table"),
        (LEAST, ["data=nano"], r"a table \[nano\] go together"),
        (LEAST, ["nano.rows=100"], r"a table \[nano\] go together"),
        (LEAST, ["data=nano", "nano.rows=3"], "at least one batch"),
        (LEAST, ["data=nano", "nano.first_seed=3"], r"\['rows'\] must be given"),
        (LEAST, ["bt.sampling=backwards"], "'backwards': write random, sequential"),
        (LEAST, ["bt.optimizer=adam"], "'adam': write adamw or muon"),
    ],
)
def test_a_wrong_recipe_is_an_error_that_names_what_is_wrong(
    tmp_path: Path, content: str, changes: list[str], named: str
) -> None:
    file = recipe_file(tmp_path, content)
    with pytest.raises(ConfigError, match=named):
        read_recipe(file, changes)
    done = CliRunner().invoke(app, ["train", str(file), *(w for c in changes for w in ("--set", c))])
    assert done.exit_code == 2
    assert done.stdout == ""


def test_the_shipped_recipe_reads_and_can_be_resumed() -> None:
    recipe = read_recipe(RECIPES / "nano-disrm.toml")
    assert recipe.name == "nano-disrm"
    assert recipe.nano is not None
    assert recipe.nano.rows // recipe.bt.batch_size > 2 * recipe.bt.save_steps
    assert 0 < recipe.nano.rough_rows < recipe.nano.rough_rows + recipe.nano.apart_rows < recipe.nano.rows / 2
    assert 0 < recipe.nano.words_rows < recipe.nano.rows / 2
    assert recipe.bt.sampling == "sequential", "easier rows come first"
