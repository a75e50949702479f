"""Judging with more compute, for every face of omnirm: which strategy, planner, DisRM and refiner, and the run folder.

For the CLI and the web app, like `service.py`. Heavy libraries are imported when a model is loaded, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from omnirm.app.service import JudgeOptions, ModelOptions, Row, load_model, make_judge, media_policy
from omnirm.errors import ConfigError
from omnirm.rubrics.trajectory import ScaledJudgment, Strategy
from omnirm.types import Modality, Rubric

if TYPE_CHECKING:
    from omnirm.backends.base import Backend
    from omnirm.judge import Judge
    from omnirm.rubrics.base import Planner
    from omnirm.rubrics.refine import Refiner
    from omnirm.rubrics.strategies import ScaledJudge
    from omnirm.runs import RunFolder
    from omnirm.scorers.base import Scorer

PlannerName = Literal["generated", "extended", "primary", "contrastive", "decomposed", "gold"]


@dataclass(frozen=True, slots=True)
class ScalingOptions:
    """How to spend more compute; see `omnirm.rubrics.strategies.ScaledJudge`.

    rubrics: how many to plan. given: rubrics instead of a plan. disrm: a name for `omnirm.scorers.load`. refiner:
    `model` (the judge's own), a URL, or another model's name. planner_temperature: of planning. run: folder of a run
    that resumes.
    """

    strategy: Strategy = "vote"
    rubrics: int = 10
    planner: PlannerName = "generated"
    planner_temperature: float = 0.0
    task: str | None = None
    given: tuple[Rubric, ...] = ()
    disrm: str | None = None
    refiner: str = "model"
    function: Literal["consistency", "relative", "direct"] = "consistency"
    temperature: float = 1.0
    allow_fallback: bool = False
    stop_when_settled: bool = False
    stop_at: float | None = None
    run: Path | None = None


@dataclass(frozen=True, slots=True)
class ScaledResult:
    """A row with its scaled judgment."""

    row: Row
    judgment: ScaledJudgment


def check(options: ScalingOptions, judging: JudgeOptions) -> None:
    """Raises `ConfigError` for options that contradict each other, before a model is loaded."""
    if options.strategy == "meta" and options.disrm is None:
        raise ConfigError("strategy meta needs a reward model: give --disrm (nano, a folder, a hub name or a URL)")
    if options.strategy != "meta" and options.disrm is not None:
        raise ConfigError(f"strategy {options.strategy} uses no reward model: leave out --disrm, or take meta")
    if options.given and options.strategy == "single":
        raise ConfigError("strategy single plans no rubrics: give --rubric without --strategy")
    if options.strategy != "vote" and (options.stop_when_settled or options.stop_at is not None):
        raise ConfigError(f"strategy {options.strategy} has no vote to stop: drop --stop-when-settled, or take vote")
    if options.strategy != "meta" and options.allow_fallback:
        raise ConfigError(f"strategy {options.strategy} needs no fallback: leave out --allow-fallback, or take meta")
    if options.strategy == "meta" and judging.format == "pairwise":
        raise ConfigError("strategy meta refines by the judge's comments, and pairwise has none: pairwise-thinking")


def make_scaled_judge(
    model: ModelOptions, judging: JudgeOptions, options: ScalingOptions, *, about: Mapping[str, Any] | None = None
) -> tuple[ScaledJudge, RunFolder | None]:
    """The judge with its planner, DisRM and refiner, and the run folder where one is asked for (close it at the end).

    With `meta` the format `auto` is `pairwise-thinking`, on media too, since responses are refined by the judge's
    comments. `about` is more that decides the results, for the settings of the run folder.

    Raises:
        ConfigError: options that cannot be, or a run folder of other settings.
        BackendError, MissingExtra: a model cannot be loaded.
    """
    check(options, judging)
    judging = judging_for(options, judging)
    backend, scorer, refiner = load_model(model), None, None
    if options.strategy == "meta":
        scorer = load_disrm(options.disrm or "", model)
        refiner = _refiner(options, model, backend, judging.seed)
    with ExitStack() as stack:
        run = None
        if options.run is not None:  # not before everything is loaded: a model's name that was mistyped is no setting
            from omnirm.runs import RunFolder

            run = stack.enter_context(
                RunFolder(options.run, run_settings(model.name, judging, options) | dict(about or {}))
            )
            backend = run.backend(backend)
            scorer = None if scorer is None else run.scorer(scorer)
            refiner = None if refiner is None else run.refiner(refiner)
        scaled = scaled_judge(make_judge(backend, judging), options, scorer=scorer, refiner=refiner)
        stack.pop_all()
    return scaled, run


def load_disrm(name: str, model: ModelOptions) -> Scorer:
    """A reward model that runs where the generative model does and reads the same media.

    Raises:
        ConfigError: an empty name, or a setting that cannot be used.
        BackendError, MissingExtra: it cannot be loaded.
    """
    from omnirm.scorers.load import load_scorer

    return load_scorer(
        name, device=model.device, dtype=model.dtype, batch_size=model.batch_size, policy=media_policy(model),
        allow_pickle=model.allow_pickle or None, allow_remote_code=model.allow_remote_code or None,
    )  # fmt: skip


def judging_for(options: ScalingOptions, judging: JudgeOptions) -> JudgeOptions:
    """How to judge within a strategy: `meta` needs comments, so its format `auto` is `pairwise-thinking`."""
    if options.strategy == "meta" and judging.format == "auto":
        return replace(judging, format="pairwise-thinking")
    return judging


def run_settings(model: str, judging: JudgeOptions, options: ScalingOptions) -> dict[str, Any]:
    """The settings of a run folder: all that decides the results, and not the folder's own place."""
    scaling = {key: value for key, value in _plain(options).items() if key != "run"}
    asked = {key: value for key, value in _plain(judging).items() if value or key not in ("pick", "own")}  # came later
    return {"model": model, "judging": asked, "scaling": scaling}


def scaled_judge(
    judge: Judge,
    options: ScalingOptions,
    *,
    planner: Planner | None = None,
    scorer: Scorer | None = None,
    refiner: Refiner | None = None,
) -> ScaledJudge:
    """The strategy around models that are loaded already.

    Args:
        judge: made with `judging_for`; it plans too.
        options: `disrm`, `refiner` and `run` are not looked at.
        planner: instead of the one of `options` (`make_planner`).
        scorer: the DisRM, for `meta`.
        refiner: for `meta`; None is the judge's own model.

    Raises:
        ConfigError: options that cannot be, or a strategy without what it needs.
    """
    from omnirm.rubrics.meta import Meta
    from omnirm.rubrics.refine import ModelRefiner
    from omnirm.rubrics.strategies import ScaledJudge

    seed, meta = judge.decoding.seed, None
    if options.strategy == "meta" and scorer is not None:
        meta = Meta(scorer, refiner or ModelRefiner(judge.backend, seed=seed), options.function)
    if planner is None and options.strategy != "single":
        planner = make_planner(judge.backend, judge, options, seed)
    return ScaledJudge(
        judge,
        planner,
        options.strategy,
        meta=meta,
        allow_fallback=options.allow_fallback,
        stop_when_settled=options.stop_when_settled,
        stop_at=options.stop_at,
        temperature=options.temperature,
    )


def make_planner(backend: Backend, judge: Judge, options: ScalingOptions, seed: int) -> Planner:
    """The planner of that name; rubrics given by the user are planned as they are."""
    from omnirm.rubrics.contrastive import ContrastivePlanner
    from omnirm.rubrics.decomposed import DecomposedPlanner
    from omnirm.rubrics.extended import ExtendedPlanner
    from omnirm.rubrics.generated import GeneratedPlanner
    from omnirm.rubrics.gold import GoldPlanner
    from omnirm.rubrics.primary import PrimaryPlanner

    if options.given:
        return _Given(options.given)
    drawn: dict[str, Any] = {"count": options.rubrics, "seed": seed, "temperature": options.planner_temperature}
    match options.planner:
        case "generated":
            return GeneratedPlanner(backend, **drawn)
        case "extended":
            return ExtendedPlanner(backend, **drawn)
        case "primary":
            return PrimaryPlanner(backend, task=options.task, **drawn)
        case "contrastive":
            return ContrastivePlanner(backend, judge, **drawn)
        case "decomposed":
            return DecomposedPlanner(GeneratedPlanner(backend, **drawn), backend, judge, seed=seed)
        case "gold":
            return GoldPlanner()
    raise ConfigError(
        f"planner {options.planner!r}: give generated, extended, primary, contrastive, decomposed or gold"
    )


class _Given:
    """The same rubrics for every sample."""

    name = "given"

    def __init__(self, rubrics: tuple[Rubric, ...]) -> None:
        self._rubrics = rubrics

    def plan(self, samples: Any) -> list[Any]:
        from omnirm.rubrics.base import RubricSet

        return [RubricSet(self._rubrics) for _ in samples]


def _refiner(options: ScalingOptions, model: ModelOptions, backend: Backend, seed: int) -> Refiner:
    from omnirm.rubrics.refine import HTTPRefiner, ModelRefiner

    if options.refiner == "model":
        return ModelRefiner(backend, seed=seed)
    if options.refiner.lower().startswith(("http://", "https://")):
        every = get_args(Modality)  # what it cannot revise it answers with an error
        return HTTPRefiner(options.refiner, modalities=every, policy=media_policy(model), seed=seed)
    return ModelRefiner(load_model(replace(model, name=options.refiner, revision=None)), seed=seed)


def scale_rows(
    scaled: ScaledJudge, rows: Iterable[Row], *, run: RunFolder | None = None, at_once: int = 16
) -> Iterator[ScaledResult]:
    """Judges rows in batches; results come in the order of the rows.

    Where there is a run folder, samples and judgments go into it too.

    Raises:
        BackendError: a model failed as a whole. Results so far have been given.
    """
    rest = iter(rows)
    while batch := list(islice(rest, at_once)):
        good = [row.sample for row in batch if row.sample is not None]
        found = iter(scaled.compare(good))
        for row in batch:
            if row.sample is not None:
                judgment = next(found)
            else:
                judgment = ScaledJudgment(row.where, scaled.strategy, None, error=row.error)
            if run is not None:
                if row.sample is not None:
                    run.append("samples", row.sample.to_dict())
                run.append("judgments", judgment.to_dict())
            yield ScaledResult(row, judgment)
    if run is not None:
        run.finish()


def _plain(options: Any) -> dict[str, Any]:
    return {
        k: list(v) if isinstance(v, tuple) else str(v) if isinstance(v, Path) else v for k, v in asdict(options).items()
    }
