"""The judge as verl's reward: with verl's own reward managers where verl is installed, else with their call copied.

verl is not a dependency. To run the tests marked so, put verl 0.9.1 and what it imports on the path:
    uv pip install --target /tmp/verl --no-deps verl==0.9.1 ray omegaconf antlr4-python3-runtime==4.9.3 hydra-core \
        'tensordict<=0.10' aiohttp aiosignal frozenlist multidict yarl propcache attrs aiohappyeyeballs codetiming \
        torchdata msgpack jsonschema referencing rpds-py jsonschema-specifications cloudpickle orjson pyvers \
        importlib_metadata zipp cachetools nvtx protobuf
    PYTHONPATH=/tmp/verl pytest tests/training/test_rewards_verl.py
"""

from __future__ import annotations

import asyncio
import importlib.util
import inspect
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from scripted_judging import UNREADABLE, batches, judge

from omnirm.errors import ConfigError, SampleError
from omnirm.training.rewards import gathered as rewards_gathered
from omnirm.training.rewards import verl as rewards_verl
from omnirm.training.rewards.trl import JudgeReward

FILE = Path(rewards_verl.__file__).resolve()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The judge that every setting leads to, without loading one by name."""
    one = judge()

    def made(judge: str, **settings: Any) -> JudgeReward:
        assert judge == "kind"
        return JudgeReward(one, **settings)

    monkeypatch.setattr(rewards_gathered, "JudgeReward", made)
    monkeypatch.setattr(rewards_gathered, "_SHARED", {})
    return one


KWARGS = {"model": "kind", "not_judged": 0.0}


def loaded(name: str, **reward_kwargs: Any) -> Any:
    """As verl 0.9.1 loads a function from a path and binds `reward_kwargs`.

    verl/utils/import_utils.py (load_module, without a name: the module is not put into sys.modules) and
    verl/trainer/ppo/reward.py (get_custom_reward_fn, _call_with_kwargs).
    """
    spec = importlib.util.spec_from_file_location(f"custom_module_{hash(str(FILE))}", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = getattr(module, name)

    async def awaited(function: Any, extra: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        return await function(*args, **{**kwargs, **extra})

    def called(function: Any, extra: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        return function(*args, **{**kwargs, **extra})

    return partial(awaited if inspect.iscoroutinefunction(function) else called, function, reward_kwargs)


def naive(function: Any, response: str, truth: Any = "", router: str | None = None, **info: Any) -> Any:
    """The call of verl 0.9.1's managers, verl/experimental/reward_loop/reward_manager/naive.py (run_single)."""
    extra = {"reward_router_address": router, "reward_model_tokenizer": None} if router is not None else {}
    info |= {"num_turns": None, "rollout_reward_scores": {}}
    return function(data_source="own", solution_str=response, ground_truth=truth, extra_info=info, **extra)


def gather(*calls: Any) -> list[dict[str, Any]]:
    """verl/experimental/reward_loop/reward_loop.py (compute_score_batch): a task for every row, then gather."""

    async def run() -> list[dict[str, Any]]:
        return await asyncio.gather(*(asyncio.ensure_future(call()) for call in calls))

    return asyncio.run(run())


def test_responses_that_are_scored_together_are_judged_together(asked: Any) -> None:
    function = loaded("compute_score", **KWARGS)
    assert inspect.iscoroutinefunction(function), "verl looks at that to await it"
    said = ["good", "good good", UNREADABLE, "", "good " * 9]
    found = gather(*(lambda s=s: naive(function, s, prompt="p", router="localhost:1") for s in said))
    assert [one["score"] for one in found] == [0.1, 0.2, 0.0, 0.0, 0.9]
    assert [one["judged"] for one in found] == [1.0, 1.0, 0.0, 1.0, 1.0]
    assert [bool(one["reason"]) for one in found] == [False, False, True, False, False]
    assert batches(asked) == [5]
    again = gather(
        lambda: naive(loaded("compute_score", **KWARGS), "good", question=[{"role": "user", "content": "p"}])
    )
    assert again[0]["score"] == 0.1, "another event loop, and the file loaded once more"


def test_most_and_window_bound_what_is_gathered(asked: Any) -> None:
    function = loaded("compute_score", **KWARGS, most=2, window=0.02)
    gather(*(lambda i=i: naive(function, f"good {i}", prompt="p") for i in range(5)))
    assert sorted(batches(asked)) == [1, 2, 2]


def test_the_ground_truth_is_the_reference_unless_extra_info_has_one(asked: Any) -> None:
    function = loaded("compute_score", **KWARGS, mode="reference", outcome="win")
    found = gather(
        lambda: naive(function, "good good", "good", prompt="p"),
        lambda: naive(function, "good good", "good", prompt="p", reference="good good good"),
        lambda: naive(function, "good good", None, prompt="p"),
    )
    assert [(one["score"], one["judged"]) for one in found] == [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0)]
    other = loaded("compute_score", **KWARGS, mode="reference", reference="gold", prompt="asked")
    assert gather(lambda: naive(other, "x", prompt="no", asked="p", gold="good"))[0]["score"] == 0.0


def test_rubrics_and_images_come_from_extra_info(asked: Any) -> None:
    function = loaded("compute_score", **KWARGS, rubrics=["Tone"])
    gather(
        lambda: naive(function, "a", prompt="p", rubrics=["Truth"], images=["x.png"]),
        lambda: naive(function, "b", prompt="p"),
    )
    shown = ["\n".join(str(p.value) for m in r.messages for p in m.parts) for r in asked.backend.requests]
    assert ["1. Truth" in text for text in shown] == [True, False]
    assert ["1. Tone" in text for text in shown] == [False, True]
    assert ["x.png" in text for text in shown] == [True, False]


def test_a_manager_that_does_not_await(asked: Any) -> None:
    function = loaded("compute_score_sync", **KWARGS)
    assert not inspect.iscoroutinefunction(function)
    assert naive(function, "good good", prompt="p")["score"] == 0.2


def test_a_whole_batch_in_one_call(asked: Any) -> None:
    """The call of verl/workers/reward_manager/batch.py (verify)."""

    def batch(function: Any, said: list[str], prompts: list[str]) -> list[dict[str, Any]]:
        infos = [{"prompt": p, "rollout_reward_scores": {}} for p in prompts]
        found: list[dict[str, Any]] = function(
            data_sources=["own"] * len(said), solution_strs=said, ground_truths=[""] * len(said), extra_infos=infos
        )
        return found

    said, prompts = ["good good", UNREADABLE, "x", "good"], ["p", "p", "p", "q"]
    mean = batch(loaded("compute_score_batch", model="kind", not_judged="mean"), said, prompts)
    assert [one["score"] for one in mean] == [0.2, 0.1, 0.0, 0.1]
    assert [one["judged"] for one in mean] == [1.0, 0.0, 1.0, 1.0]
    group = loaded("compute_score_batch", model="kind", not_judged="mean", mode="group")
    assert [one["score"] for one in batch(group, ["good", "x", "good good"], ["p"] * 3)] == [0.5, 0.0, 1.0]
    assert batch(group, [], []) == []


def test_settings_from_the_environment_are_under_reward_kwargs(asked: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMNIRM_REWARD", json.dumps({"model": "kind", "not_judged": 0.25}))
    assert gather(lambda: naive(loaded("compute_score"), UNREADABLE, prompt="p"))[0]["score"] == 0.25
    found = gather(lambda: naive(loaded("compute_score", not_judged=0.5), UNREADABLE, prompt="p"))
    assert found[0]["score"] == 0.5
    for text in ("{", "[1]"):
        monkeypatch.setenv("OMNIRM_REWARD", text)
        with pytest.raises(ConfigError, match="OMNIRM_REWARD"):
            gather(lambda: naive(loaded("compute_score", **KWARGS), "x", prompt="p"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"not_judged": 0.0}, "no model"),
        ({"model": "kind"}, "needs a number for every response"),
        ({"model": "kind", "not_judged": "mean"}, "needs a number for every response"),
        ({"model": "kind", "not_judged": float("nan")}, "needs a number for every response"),
        (KWARGS | {"mode": "group"}, "one at a time"),
        (KWARGS | {"modes": "group"}, r"unknown \['modes'\]"),
        (KWARGS | {"mode": "best"}, "mode 'best'"),
    ],
)
def test_settings_that_do_not_work(asked: Any, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        gather(lambda: naive(loaded("compute_score", **settings), "x", prompt="p"))


def test_a_row_without_a_prompt_says_where_verl_loses_it(asked: Any) -> None:
    with pytest.raises(SampleError, match=r"extra_info has the keys index.* and no prompt"):
        gather(lambda: naive(loaded("compute_score", **KWARGS), "x", index=3))


def test_an_error_reaches_everybody_who_waits(asked: Any) -> None:
    asked.backend.generate = lambda requests: 1 / 0
    function = loaded("compute_score", **KWARGS)

    async def run() -> list[Any]:
        calls = [naive(function, f"{i}", prompt="p") for i in range(3)]
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(one) for one in asyncio.run(run())] == [ZeroDivisionError] * 3


# -- with verl itself


def verl_config(name: str, path: str, function: str = "compute_score", **reward_kwargs: Any) -> Any:
    from omegaconf import OmegaConf

    custom = {"path": path, "name": function, "reward_kwargs": reward_kwargs}
    manager = {"source": "register", "name": name, "module": None}
    reward = {"custom_reward_function": custom, "reward_manager": manager, "num_workers": 1, "reward_kwargs": {}}
    return OmegaConf.create({"reward": reward, "trainer": {"experiment_name": "x"}})


def verl_data(responses: list[str], tokenizer: Any, prompt: str) -> Any:
    """A batch as the agent loop hands it to the reward manager."""
    import numpy as np
    import torch
    from tensordict import TensorDict
    from verl import DataProto

    ids = [tokenizer(text)["input_ids"] for text in responses]
    width = max(len(one) for one in ids)
    tensors = {
        "prompts": torch.ones(len(ids), 2, dtype=torch.int64),
        "responses": torch.tensor([one + [0] * (width - len(one)) for one in ids]),
        "attention_mask": torch.tensor([[1, 1] + [1] * len(one) + [0] * (width - len(one)) for one in ids]),
    }
    rest = {
        "data_source": ["own"] * len(ids),
        "reward_model": [{"ground_truth": "good"} for _ in ids],
        "extra_info": [{"prompt": prompt, "index": i} for i in range(len(ids))],
    }
    return DataProto(
        batch=TensorDict(tensors, batch_size=len(ids)),
        non_tensor_batch={key: np.array(value, dtype=object) for key, value in rest.items()},
    )


@pytest.mark.parametrize("path", [str(FILE), "pkg://omnirm.training.rewards.verl"])
@pytest.mark.parametrize("manager", ["naive", "dapo", "gdpo"])
def test_verls_own_reward_loop(asked: Any, tiny_of: Any, manager: str, path: str) -> None:
    pytest.importorskip("verl")
    from verl.trainer.ppo.reward import load_reward_manager

    tokenizer = tiny_of("qwen3_vl").processor.tokenizer
    said = ["good", UNREADABLE, "good good"]
    config = verl_config(manager, path, **KWARGS, rubrics=["Tone", "Truth"])

    async def run() -> list[dict[str, Any]]:
        loop = load_reward_manager(config, tokenizer)
        data = verl_data(said, tokenizer, "Say something.")
        return await asyncio.gather(*(loop.run_single(data[i : i + 1]) for i in range(len(data))))

    found = asyncio.run(run())
    assert [one["reward_score"] for one in found] == [0.1, 0.0, 0.2]
    assert [one["reward_extra_info"]["judged"] for one in found] == [1.0, 0.0, 1.0]
    assert batches(asked) == [3]


def test_verls_batch_manager_and_advantages_of_a_group_with_one_that_could_not_be_judged(
    asked: Any, tiny_of: Any
) -> None:
    pytest.importorskip("verl")
    import numpy as np
    from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
    from verl.trainer.ppo.reward import get_custom_reward_fn
    from verl.workers.reward_manager.batch import BatchRewardManager

    tokenizer = tiny_of("qwen3_vl").processor.tokenizer
    said = ["good good", UNREADABLE, "x", "good"]
    config = verl_config("batch", str(FILE), "compute_score_batch", model="kind", not_judged="mean")
    manager = BatchRewardManager(tokenizer, 0, get_custom_reward_fn(config))
    data = verl_data(said, tokenizer, "Say something.")
    found = manager(data, return_dict=True)
    assert found["reward_tensor"].sum(-1).tolist() == pytest.approx([0.2, 0.1, 0.0, 0.1])
    assert found["reward_extra_info"]["judged"] == [1.0, 0.0, 1.0, 1.0]
    mask = data.batch["attention_mask"][:, 2:]
    advantages, _ = compute_grpo_outcome_advantage(found["reward_tensor"], mask, np.array(["p"] * 4))
    assert float(advantages[1].abs().max()) == pytest.approx(0.0, abs=1e-6)
    assert float(advantages[0, 0]) > 0 > float(advantages[2, 0])
