"""What a person filled in on the Judge tab, and the task that it means. It knows no widget.

Reading is strict and says what to do: an empty response, a rubric without a name, a model that is not offered. What is
typed is text: nothing in it names a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from omnirm.app.jobs.tasks import JudgeTask
from omnirm.app.scaling import ScalingOptions
from omnirm.app.service import Content, JudgeOptions, build_sample
from omnirm.content import parse_content
from omnirm.errors import ConfigError, SampleError
from omnirm.rubrics.primary import primary_rubrics
from omnirm.types import Rubric

if TYPE_CHECKING:
    from omnirm.app.studio import Studio

Mode = Literal["compare", "score", "rank"]
MODES: tuple[Mode, ...] = ("compare", "score", "rank")
MOST_RESPONSES = 8
MOST_RUBRICS = 20
MOST_FILES = 8  # in one place
MOST_TEXT = 200_000  # characters in one place
_RUBRIC = re.compile(r"(?P<name>[^:]+?)\s*(?:\(\s*weight\s+(?P<weight>[^)]*?)\s*\))?\s*(?::(?P<text>.*))?", re.DOTALL)
_SINGLE = "single"


@dataclass(frozen=True, slots=True)
class Place:
    """What was typed and dropped in one place: the prompt or a response. files: paths of uploads or stored media."""

    text: str = ""
    files: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Is there nothing in it?"""
        return not self.text.strip() and not self.files


@dataclass(frozen=True, slots=True)
class Form:
    """All that the tab asks for. `strategy` single is one judgment and plans no rubrics.

    source: where rubrics come from: `model`, `own` (`own` has them, one a line) or `library` (`task` names one).
    """

    mode: Mode = "compare"
    prompt: Place = Place()
    responses: tuple[Place, ...] = (Place(), Place())
    model: str = ""
    strategy: str = _SINGLE
    source: Literal["model", "own", "library"] = "model"
    own: str = ""
    task: str = "chat"
    count: int = 5
    planner: str = "generated"
    orders: int = 2
    samples: int = 1
    format: str = "pairwise-thinking"
    allow_tie: bool = False
    seed: int = 0
    temperature: float | None = None
    method: str = "rubric"
    disrm: str = ""
    function: str = "consistency"
    allow_fallback: bool = True
    stop_when_settled: bool = False
    title: str = field(default="", compare=False)


SETTINGS = tuple(
    one.name for one in fields(Form) if one.name not in ("mode", "prompt", "responses", "temperature", "title")
)


def to_task(form: Form, studio: Studio, *, roots: Sequence[Path] = ()) -> JudgeTask:
    """The task; media are taken into the store.

    Args:
        form: what was filled in.
        studio: whose models and store.
        roots: folders that uploads lie in.

    Raises:
        SampleError, ConfigError: something is missing, too much, or contradicts something else.
        UploadRefused: a file that is no medium, or too large.
    """
    wanted = {"compare": 2, "score": 1}.get(form.mode, len(form.responses))
    if form.mode not in MODES or not 1 <= wanted <= MOST_RESPONSES or len(form.responses) < wanted:
        raise ConfigError(f"{len(form.responses)} responses to {form.mode}: give 1 to {MOST_RESPONSES}")
    if form.mode == "rank" and wanted < 2:
        raise ConfigError("One response cannot be ranked: add another, or score it.")
    if form.prompt.empty:
        raise SampleError("The prompt is empty. Write what was asked, or drop a picture, video or sound.")
    responses = form.responses[:wanted]
    for i, one in enumerate(responses):
        if one.empty:
            raise SampleError(f"{response_label(form.mode, i)} is empty. Write something, or drop a file.")
    content = [_content(one, studio, roots) for one in (form.prompt, *responses)]
    sample = build_sample(content[0], content[1:], id="app")
    model = form.model or studio.models.names[0]
    if model not in studio.models.names:
        raise ConfigError(f"The model {model} is not offered here: choose {' or '.join(studio.models.names)}.")
    return JudgeTask(
        sample=sample.to_dict(),
        mode="compare" if form.mode == "compare" else "score",
        model=model,
        judging=_judging(form),
        scaling=_scaling(form, studio) if form.mode == "compare" else None,
        method="p-yes" if form.method == "p-yes" else "rubric",
        title=form.title or _title(form.prompt),
    )


def response_label(mode: Mode, index: int) -> str:
    """What a response is called: `Response A`, `The response`, `Response 3`."""
    if mode == "compare":
        return f"Response {'AB'[index]}"
    return "The response" if mode == "score" else f"Response {index + 1}"


def own_rubrics(text: str) -> tuple[Rubric, ...]:
    """Rubrics as people write them, one a line: `Name: what it asks`, `Name (weight 2): what it asks`, or `Name`.

    Raises:
        SampleError: no rubric at all, too many, two of one name, or a weight that is no number of at least 0.
    """
    found: list[Rubric] = []
    for number, line in enumerate((one.strip() for one in text.splitlines()), start=1):
        if not line:
            continue
        match = _RUBRIC.fullmatch(line)
        if match is None:
            raise SampleError(f'Rubric in line {number}: write "Name: what it asks".')
        found.append(Rubric(match["name"].strip(), (match["text"] or "").strip(), _weight(match["weight"], number)))
    names = [one.name for one in found]
    if not found:
        raise SampleError("There is no rubric of your own yet: write one a line, or let the model find them.")
    if len(found) > MOST_RUBRICS:
        raise SampleError(f"{len(found)} rubrics are too many: keep at most {MOST_RUBRICS}.")
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise SampleError(f"Two rubrics are called {twice}: give each its own name.")
    if not any(one.weight for one in found):
        raise SampleError("No rubric has a weight above 0: give at least one of them some weight.")
    return tuple(found)


def library() -> tuple[tuple[str, str], ...]:
    """The rubrics of the library as (what a menu shows, task)."""
    return tuple((f"{task.capitalize()}: {rubric.name}", task) for task, rubric in primary_rubrics().items())


def from_task(data: Mapping[str, Any]) -> Form | None:
    """The form that a stored task was filled in with; None for one that the tab has no place for (several turns)."""
    try:
        task = JudgeTask.from_dict(data)
        prompt = _place(task.sample["prompt"])
        responses = tuple(_place(one) for one in task.sample["candidates"])
    except (ConfigError, SampleError):
        return None
    if prompt is None or None in responses or len(responses) > MOST_RESPONSES:
        return None
    scaling, judging = task.scaling, task.judging
    given = (scaling.given if scaling else judging.rubrics) or ()
    mode: Mode = "compare" if task.mode == "compare" else "score" if len(responses) == 1 else "rank"
    return Form(
        mode=mode,
        prompt=prompt,
        responses=tuple(one for one in responses if one is not None),
        model=task.model,
        strategy=scaling.strategy if scaling else _SINGLE,
        source="own" if given else "library" if scaling and scaling.planner == "primary" else "model",
        own="\n".join(_written(rubric) for rubric in given),
        task=(scaling.task if scaling else None) or "chat",
        count=scaling.rubrics if scaling else 5,
        planner=scaling.planner if scaling and scaling.planner != "primary" else "generated",
        orders=judging.orders if isinstance(judging.orders, int) else 2,
        samples=judging.samples,
        format=judging.format,
        allow_tie=judging.allow_tie,
        seed=judging.seed,
        temperature=judging.temperature,
        method=task.method,
        disrm=(scaling.disrm if scaling else None) or "",
        function=scaling.function if scaling else "consistency",
        allow_fallback=scaling.allow_fallback if scaling and scaling.strategy == "meta" else True,
        stop_when_settled=bool(scaling and scaling.stop_when_settled),
        title=task.title,
    )


def _judging(form: Form) -> JudgeOptions:
    rubrics: tuple[Rubric, ...] | None = None
    if form.strategy == _SINGLE or form.mode != "compare":
        if form.source == "own":
            rubrics = own_rubrics(form.own)
        elif form.source == "library":
            rubrics = (_from_library(form.task),)
    return JudgeOptions(
        format=form.format,
        orders=form.orders,
        samples=form.samples,
        temperature=form.temperature,
        seed=form.seed,
        allow_tie=form.allow_tie,
        rubrics=rubrics,
    )


def _scaling(form: Form, studio: Studio) -> ScalingOptions | None:
    if form.strategy == _SINGLE:
        return None
    meta = form.strategy == "meta"
    if form.source == "library":
        _from_library(form.task)
    return ScalingOptions(
        strategy=form.strategy,  # type: ignore[arg-type]  # checked by the task
        rubrics=form.count,
        planner="primary" if form.source == "library" else form.planner,  # type: ignore[arg-type]
        task=form.task if form.source == "library" else None,
        given=own_rubrics(form.own) if form.source == "own" else (),
        disrm=(form.disrm or next(iter(studio.settings.disrms), None)) if meta else None,
        function=form.function if meta else "consistency",  # type: ignore[arg-type]
        allow_fallback=form.allow_fallback and meta,
        stop_when_settled=form.stop_when_settled and form.strategy == "vote",
    )


def _from_library(task: str) -> Rubric:
    found = primary_rubrics().get(task)
    if found is None:
        raise ConfigError(f"The library has no rubric for {task}: choose one from the menu.")
    return found


def _content(place: Place, studio: Studio, roots: Sequence[Path]) -> Content:
    if len(place.files) > MOST_FILES:
        raise SampleError(f"{len(place.files)} files in one place are too many: keep at most {MOST_FILES}.")
    if len(place.text) > MOST_TEXT:
        raise SampleError(f"A text of {len(place.text)} characters is too long: keep at most {MOST_TEXT}.")
    media: dict[str, list[str]] = {"image": [], "video": [], "audio": []}
    for file in place.files:
        stored = studio.media.add(file, roots=roots)
        media[stored.kind].append(str(stored.path))
    text = place.text if place.text.strip() else None
    return Content(text, tuple(media["image"]), tuple(media["video"]), tuple(media["audio"]))


def _place(content: Any) -> Place | None:
    """The content of a sample as it is put into the form; None where it does not fit (text before a medium)."""
    if isinstance(content, Mapping) and "content" in content:
        content = content["content"]
    if isinstance(content, list) and any(isinstance(one, Mapping) and "role" in one for one in content):
        return None
    parts = parse_content(content, "content")
    texts = [part for part in parts if part.type == "text"]
    if len(texts) > 1 or (texts and parts[-1].type != "text") or any(not isinstance(p.value, str) for p in parts):
        return None
    return Place(texts[0].value if texts else "", tuple(p.value for p in parts if p.type != "text"))


def _weight(text: str | None, number: int) -> float:
    try:
        value = float("1" if text is None else text)
    except ValueError as error:
        raise SampleError(f"Rubric in line {number}: the weight {text} is no number.") from error
    if not 0 <= value <= 1e6:  # also NaN
        raise SampleError(f"Rubric in line {number}: the weight {text} is not between 0 and a million.")
    return value


def _written(rubric: Rubric) -> str:
    weight = "" if rubric.weight == 1 else f" (weight {rubric.weight:g})"
    return " ".join(f"{rubric.name}{weight}: {rubric.text}".split()).removesuffix(":")


def _title(prompt: Place) -> str:
    words = " ".join(prompt.text.split())
    return words if len(words) <= 80 else words[:79] + "…"
