"""omnirm's judge as verl's custom reward function. This file is what verl is pointed at.

    reward.custom_reward_function.path=pkg://omnirm.training.rewards.verl
    reward.custom_reward_function.reward_kwargs='{model: Qwen/Qwen3-VL-8B-Instruct, not_judged: 0.0}'

`compute_score` is asynchronous, for the managers naive, dapo, gdpo and limited; `compute_score_sync` is for the manager
`remote`, `compute_score_batch` for the older manager `batch`. Settings are `reward_kwargs`, or the environment variable
OMNIRM_REWARD (JSON of the same); `reward_kwargs` go before it:

    model            name of the judge's model (required)
    not_judged       what a response that could not be judged gets (required: verl knows no "no reward"); with
                     `compute_score_batch` also "mean", the mean of its prompt's others, which gives advantage 0
    prompt           key of `extra_info` with the prompt (prompt, else question)
    reference        key of `extra_info` with the answer to compare with (reference, else verl's ground truth)
    window, most     seconds and number of responses that are gathered to be judged at once
    and mode, method, outcome, rubrics, timeout, concurrency, batch_size, patience, opponents, judge_settings,
    backend_settings of `omnirm.training.rewards.JudgeReward`

verl tells a reward function neither prompt nor images, so the data set must have them in `extra_info`: `prompt`, and
where there are some `images`, `rubrics`.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from omnirm.errors import ConfigError, SampleError
from omnirm.training.rewards.gathered import WINDOW, Gathered, rewards_of, shared
from omnirm.training.rewards.plans import Reward

ENVIRONMENT = "OMNIRM_REWARD"
_ASKING = ("mode", "method", "outcome", "rubrics", "opponents")
_CALLING = ("timeout", "concurrency", "batch_size", "patience", "judge_settings", "backend_settings")
_PASSED = (*_ASKING, *_CALLING)
_OURS = {"model", "not_judged", "prompt", "reference", "window", "most", *_PASSED}
_PROMPTS, _REFERENCES = ("prompt", "question"), ("reference",)


async def compute_score(
    data_source: Any, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **kwargs: Any
) -> dict[str, Any]:
    """The reward of one response. Calls that come together are judged together.

    Args:
        data_source: not looked at.
        solution_str: the response.
        ground_truth: in mode reference the answer to compare with, where `extra_info` has none.
        extra_info: has the prompt; see above.
        kwargs: `reward_kwargs`; what verl adds of its own (`reward_*`) is passed over.

    Returns:
        `score`, `judged` (1.0, or 0.0 where `score` is `not_judged`) and `reason` ("" where judged).

    Raises:
        ConfigError: settings; SampleError: a row without a prompt; BackendError: nothing could be judged for long.
    """
    settings = _settings(kwargs)
    gathered = _gathered(settings, single=True)
    return _answer(await gathered(_row(solution_str, ground_truth, extra_info, settings)), settings["not_judged"])


def compute_score_sync(
    data_source: Any, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **kwargs: Any
) -> dict[str, Any]:
    """The same for managers that do not await: one response a call of the judge."""
    return asyncio.run(compute_score(data_source, solution_str, ground_truth, extra_info, **({"window": 0.0} | kwargs)))


def compute_score_batch(
    data_sources: Sequence[Any],
    solution_strs: Sequence[str],
    ground_truths: Sequence[Any],
    extra_infos: Sequence[Mapping[str, Any] | None],
    **kwargs: Any,
) -> list[dict[str, Any]]:
    """The rewards of a whole batch in one call of the judge; knows mode group and `not_judged: mean`."""
    settings = _settings(kwargs)
    gathered = _gathered(settings, single=False)
    if not len(solution_strs):
        return []
    rows = [
        _row(solution, truth, info, settings)
        for solution, truth, info in zip(solution_strs, ground_truths, extra_infos, strict=True)
    ]
    found = rewards_of(gathered.reward, rows)
    instead = settings["not_judged"]
    return [_answer(one, _mean(rows, found, i) if instead == "mean" else instead) for i, one in enumerate(found)]


def _settings(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What is set, plain: the environment under `reward_kwargs`."""
    text = os.environ.get(ENVIRONMENT, "")
    try:
        given = json.loads(text) if text else {}
    except ValueError as error:
        raise ConfigError(f"{ENVIRONMENT}: not JSON: {error}") from error
    if not isinstance(given, dict):
        raise ConfigError(f'{ENVIRONMENT}: write an object, as {{"model": "nano", "not_judged": 0.0}}')
    found = given | {key: _plain(value) for key, value in kwargs.items() if not key.startswith("reward_")}
    if unknown := set(found) - _OURS:
        raise ConfigError(f"reward_kwargs: unknown {sorted(unknown)}; known are {sorted(_OURS)}")
    if not isinstance(found.get("model"), str):
        raise ConfigError(f"reward_kwargs: no model; name the judge's, there or in {ENVIRONMENT}")
    return found


def _gathered(settings: dict[str, Any], *, single: bool) -> Gathered:
    """The shared reward of the settings; checks what only one of the conventions can do."""
    instead = settings.get("not_judged")
    number = isinstance(instead, int | float) and not isinstance(instead, bool) and math.isfinite(instead)
    if not (number or (instead == "mean" and not single)):
        raise ConfigError(
            f"reward_kwargs: not_judged is {instead!r}, and verl needs a number for every response: say what one that "
            "could not be judged gets, for example 0.0, the lowest reward"
            + ("" if single else ', or "mean", the mean of its prompt')
        )
    if single and settings.get("mode") == "group":
        raise ConfigError(
            "mode group needs all completions of a prompt in one call, and this manager asks for one at a time: take "
            "pointwise or reference, or compute_score_batch with the manager batch"
        )
    passed = {key: settings[key] for key in _PASSED if key in settings} | {"judge": settings["model"]}
    return shared(float(settings.get("window", WINDOW)), int(settings.get("most", 256)), passed)


def _row(solution: str, truth: Any, info: Any, settings: Mapping[str, Any]) -> dict[str, Any]:
    extra = dict(info) if isinstance(info, Mapping) else {}
    prompt = _first(extra, [settings["prompt"]] if "prompt" in settings else _PROMPTS)
    if prompt is None:
        raise SampleError(
            f"extra_info has the keys {', '.join(map(str, extra)) or 'none'} and no prompt, which verl does not tell a "
            "reward function otherwise: write it into extra_info when you make the data set, and name the key by "
            "reward_kwargs.prompt"
        )
    row = {"prompt": prompt, "completion": solution}
    row |= {key: extra[key] for key in ("rubrics", "images", "videos", "audios") if extra.get(key) is not None}
    if settings.get("mode") == "reference":
        reference = _first(extra, [settings["reference"]] if "reference" in settings else _REFERENCES)
        row["reference"] = truth if reference is None else reference
    return row


def _first(extra: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((extra[key] for key in keys if extra.get(key) is not None), None)


def _answer(found: Reward, instead: float | None) -> dict[str, Any]:
    if found.value is not None:
        return {"score": found.value, "judged": 1.0, "reason": ""}
    return {"score": 0.0 if instead is None else float(instead), "judged": 0.0, "reason": found.reason}


def _mean(rows: Sequence[Mapping[str, Any]], found: Sequence[Reward], index: int) -> float | None:
    """The mean of what was judged of the same prompt; None where nothing was."""
    asked = repr(rows[index]["prompt"])
    same = [one.value for row, one in zip(rows, found, strict=True) if repr(row["prompt"]) == asked]
    known = [value for value in same if value is not None]
    return math.fsum(known) / len(known) if known else None


def _plain(value: Any) -> Any:
    """omegaconf's containers as dicts and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(one) for one in value]
    return value


__all__ = ["ENVIRONMENT", "compute_score", "compute_score_batch", "compute_score_sync"]
