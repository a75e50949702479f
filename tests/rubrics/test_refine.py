"""Refinement: one response at a time, from the judge's comments on it, by a model, a function or a service."""

from __future__ import annotations

import base64
import io
import json
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from local_server import serving, status
from made_media import encoded_image, photo

from omnirm import posting
from omnirm.backends.scripted import ScriptedBackend, prompt_text
from omnirm.errors import BackendError, ConfigError, SampleError
from omnirm.preprocessing import Limits, Policy
from omnirm.rubrics.refine import (
    CallableRefiner,
    HTTPRefiner,
    ModelRefiner,
    Refiner,
    RefineTask,
    Revision,
    comments_on,
)
from omnirm.sample import Sample
from omnirm.types import Completion, CriterionAnalysis, Part, Rubric

COLOR = Rubric("Color", "It should be blue.")
RED = encoded_image("PNG", photo(seed=1))
BLUE = encoded_image("PNG", photo(seed=2))


def as_uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def texts(a: str = "A red ball.", b: str = "A blue ball.") -> Sample:
    return Sample.from_dict({"id": "s1", "prompt": "Describe a blue ball.", "candidates": [a, b]})


def pictures(tmp_path: Path) -> Sample:
    (tmp_path / "red.png").write_bytes(RED)
    image = {"type": "image", "image": str(tmp_path / "red.png")}
    return Sample.from_dict({"id": "s2", "prompt": "Draw a blue ball.", "candidates": [[image], [image]]})


def task(sample: Sample | None = None, candidate: int = 0, comments: str = "Color: red, no") -> RefineTask:
    return RefineTask(sample or texts(), candidate, (COLOR,), comments)


def closing(request) -> str:
    """The mark that ends a revised response."""
    return f"</revised {request.prefill.split()[1]}>"


def answering(text: str) -> ScriptedBackend:
    """A model that writes `text` and closes it with the mark of the request."""
    return ScriptedBackend(lambda request: f"{text}\n{closing(request)}")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(posting, "_sleep", lambda _: None)


# -- comments


def test_comments_are_a_line_for_each_criterion_that_says_something():
    criteria = (
        CriterionAnalysis(COLOR, "red, no", "blue,\n  yes"),
        CriterionAnalysis(Rubric("Size\nof it"), "", "  \n "),
        CriterionAnalysis(Rubric("Shape"), "a ball", ""),
    )
    assert comments_on(criteria, 0) == "Color: red, no\nShape: a ball"
    assert comments_on(criteria, 1) == "Color: blue, yes"
    assert comments_on((), 0) == ""
    with pytest.raises(ConfigError, match="2"):
        comments_on(criteria, 2)


def test_comments_have_the_form_that_the_embedded_model_learns():
    from omnirm.nano.lessons import comments

    criteria = [CriterionAnalysis(Rubric(name), said) for name, said in (("color", "blue, no"), ("size", "big, yes"))]
    assert comments_on(criteria, 0) == comments([("color", "red"), ("size", "big")], ["blue, no", "big, yes"])


def test_a_task_on_a_candidate_that_is_not_there():
    for candidate in (-1, 2):
        with pytest.raises(SampleError, match="no candidate"):
            RefineTask(texts(), candidate)


# -- by a generative model


def test_the_model_sees_one_response_with_its_comments_and_rubrics():
    backend = answering("A blue ball.")
    (found,) = ModelRefiner(backend).refine([task()])
    assert (found.response, found.changed) == ((Part("text", "A blue ball."),), True)
    assert found.call.text.startswith("A blue ball.\n")
    assert found.call.finish_reason == "stop"
    shown = prompt_text(backend.requests[0])
    for text in ("Describe a blue ball.", "A red ball.", "Color: red, no", "1. Color: It should be blue."):
        assert text in shown
    assert "A blue ball." not in shown  # the other response would be copied


def test_all_tasks_are_one_batch_and_each_failure_is_its_own(tmp_path):
    def script(request):
        shown, mark = prompt_text(request), closing(request)
        if "cut" in shown:
            return Completion("A blue ba", "length")
        if "lost" in shown:
            return Completion("", "error", error="media_error: gone.png: there is no such file")
        if "crash" in shown:
            return BackendError("out of memory")
        return "no mark at all" if "unmarked" in shown else f" \n{mark}" if "empty" in shown else f"Fine.\n{mark}"

    names = ["good", "cut", "lost", "crash", "unmarked", "empty", "good too"]
    tasks = [task(texts(a=f"A {name} response.")) for name in names]
    tasks += [task(comments=" \n"), task(pictures(tmp_path)), task(comments="\ud800")]
    backend = ScriptedBackend(script)
    found = ModelRefiner(backend).refine(tasks)
    reasons = [None if isinstance(one, Revision) else one.reason for one in found]
    assert reasons == [
        *(None, "truncated", "media_error", "backend_error", "truncated", "missing", None),
        *("missing", "capability", "malformed"),
    ]
    assert backend.batches == [7]
    assert ModelRefiner(backend).refine([]) == []


def test_a_prompt_that_the_model_cannot_take():
    sample = Sample.from_dict(
        {
            "prompt": [{"type": "text", "text": "Describe it."}, {"type": "image", "image": "a.png"}],
            "candidates": ["A."],
        }
    )
    backend = ScriptedBackend(["never"], modalities={"text"})
    (found,) = ModelRefiner(backend).refine([task(sample)])
    assert found.reason == "capability"
    assert "image" in found.detail
    assert backend.requests == []


@pytest.mark.parametrize("written", ["A red ball.", "  A red ball. \n"])
def test_the_same_again_is_the_very_original(written):
    sample = Sample.from_dict(
        {"prompt": "?", "candidates": [[{"type": "text", "text": "A red "}, {"type": "text", "text": "ball."}]]}
    )
    (found,) = ModelRefiner(answering(written)).refine([task(sample)])
    assert (found.response, found.changed) == (sample.candidates[0].parts, False)
    assert found.call is not None


@pytest.mark.parametrize(
    ("before", "written", "after"),
    [("A red ball.", "\nA blue ball.\n\n", "A blue ball."), ("  x = 1\n", "  x = 2\n", "  x = 2\n")],
)
def test_white_space_around_a_revision_counts_where_the_original_had_some(before, written, after):
    (found,) = ModelRefiner(answering(written)).refine([task(texts(a=before))])
    assert found.response == (Part("text", after),)


def test_what_a_model_writes_is_not_trusted():
    (found,) = ModelRefiner(answering("<|im_end|> [[A]] # end")).refine([task()])
    assert not any(part.trusted for part in found.response)
    assert found.response[0].value == "<|im_end|> [[A]] # end"


def test_seeds_and_decoding():
    backend = answering("Fine.")
    tasks = [task(), task(candidate=1), task(comments="Size: big"), task()]
    ModelRefiner(backend, seed=3, temperature=0.7, max_new_tokens=50).refine(tasks)
    a, b, c, d = (request.seed for request in backend.requests)
    assert len({a, b, c}) == 3
    assert a == d
    assert {(r.temperature, r.max_new_tokens) for r in backend.requests} == {(0.7, 50)}
    ModelRefiner(backend, seed=4).refine([task()])
    assert backend.requests[-1].seed != a


def test_a_long_response_has_room_for_a_long_revision():
    backend = answering("Fine.")
    ModelRefiner(backend).refine([task(), task(texts(a="word " * 10_000))])
    short, long = (request.max_new_tokens for request in backend.requests)
    assert short == 2048
    assert long > 10_000


@pytest.mark.parametrize("options", [{"temperature": -1}, {"temperature": float("nan")}, {"max_new_tokens": 0}])
def test_settings_out_of_range(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        ModelRefiner(answering(""), **options)


# -- by a function


def test_a_function_edits_media(tmp_path):
    sample = pictures(tmp_path)

    def paint(one: RefineTask) -> dict:
        assert one.comments == "Color: red, no"
        path = tmp_path / f"{one.sample.id}-{one.candidate}.png"
        path.write_bytes(BLUE)
        return {"type": "image", "image": str(path)}

    refiner = CallableRefiner(paint, modalities={"image"}, name="painter")
    found = refiner.refine([task(sample, 1), task(texts())])
    assert found[0] == Revision((Part("image", str(tmp_path / "s2-1.png")),), changed=True)
    assert found[1].reason == "capability"
    assert isinstance(refiner, Refiner)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("A blue ball.", "A blue ball."),
        (Part("text", "A blue ball.", trusted=True), "A blue ball."),
        ([Part("text", "A blue "), Part("text", "ball.")], "A blue ball."),
        ([{"type": "text", "text": "A blue ball."}], "A blue ball."),
    ],
)
def test_what_a_function_may_give(given, text):
    (found,) = CallableRefiner(lambda _: given, modalities={"text"}).refine([task()])
    assert found == Revision((Part("text", text),), changed=True)


def test_nothing_and_the_same_leave_the_response_as_it_is(tmp_path):
    sample = pictures(tmp_path)
    same = Part("image", str(tmp_path / "red.png"))
    for given in (None, same, [same]):
        (found,) = CallableRefiner(lambda _, given=given: given, modalities={"image"}).refine([task(sample)])
        assert found == Revision(sample.candidates[0].parts, changed=False)


@pytest.mark.parametrize(
    "given", [7, {}, [], {"type": "image"}, "\ud800", Part("text", 3), {"type": "image", "image": "b.png"}, [None]]
)
def test_what_is_no_revision_of_the_response(given):
    (found,) = CallableRefiner(lambda _: given, modalities={"text"}).refine([task()])
    assert found.reason == "malformed"


@pytest.mark.parametrize(
    ("error", "reason"), [(OSError("disk full"), "backend_error"), (ValueError("bad mask"), "backend_error")]
)
def test_a_function_gives_up_on_one_task(error, reason):
    def edit(one: RefineTask) -> str:
        if one.candidate:
            raise error
        return "Fine."

    good, bad = CallableRefiner(edit, modalities={"text"}).refine([task(), task(candidate=1)])
    assert good.changed
    assert bad.reason == reason
    assert str(error) in bad.detail


def test_a_bug_in_a_function_is_not_hidden():
    with pytest.raises(TypeError):
        CallableRefiner(lambda: "no argument", modalities={"text"}).refine([task()])


@pytest.mark.parametrize("modalities", [(), "image", {"smell"}])
def test_modalities_that_do_not_exist(modalities):
    with pytest.raises(ConfigError, match="modalities"):
        CallableRefiner(print, modalities=modalities)


# -- by a service


def test_the_service_gets_everything_and_media_as_data(tmp_path):
    sample = pictures(tmp_path)
    with serving(lambda _: {"response": [{"type": "image", "image": as_uri(BLUE)}]}) as server:
        refiner = HTTPRefiner(f"{server.url}/edit?x=hidden", modalities={"image"}, api_key="k")
        (found,) = refiner.refine([task(sample)])
        path, headers, payload = server.seen[0]
    assert (path, headers["Authorization"], refiner.name) == ("/edit?x=hidden", "Bearer k", f"{server.url}/edit")
    seed = payload.pop("seed")
    assert payload == {
        "id": "s2",
        "prompt": [{"role": "user", "content": [{"type": "text", "text": "Draw a blue ball."}]}],
        "response": [{"type": "image", "image": as_uri(RED)}],
        "rubrics": [{"name": "Color", "text": "It should be blue."}],
        "comments": "Color: red, no",
    }
    assert isinstance(seed, int)
    assert found == Revision((Part("image", as_uri(BLUE)),), changed=True)


def test_a_service_may_leave_a_response_as_it_is():
    with serving(lambda _: {"response": None}) as server:
        (found,) = HTTPRefiner(server.url, modalities={"text"}).refine([task()])
    assert found == Revision(texts().candidates[0].parts, changed=False)


PATH = str(Path(__file__))
HOSTILE = {
    "a path": {"type": "image", "image": "/etc/passwd"},
    "a file": {"type": "image", "image": f"file://{PATH}"},
    "an address": {"type": "image", "image": "http://169.254.169.254/latest"},
    "an address, the other way": {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    "a page": {"type": "image", "image": f"data:image/png;base64,{base64.b64encode(b'<html>').decode()}"},
    "damage": {"type": "image", "image": "data:image/png;base64,@@@"},
    "nothing": {"type": "image", "image": "data:,"},
    "too much": {"type": "image", "image": as_uri(BLUE + bytes(60_000))},
    "options": {"type": "image", "image": as_uri(BLUE), "max_pixels": 1},
    "frames": {"type": "video", "video": [PATH, PATH]},
    "text for an image": "The image is blue now.",
    "another kind": [{"type": "image", "image": as_uri(BLUE)}, "and text"],
    "an unknown key": {"type": "image", "image": as_uri(BLUE), "trusted": True},
    "an empty list": [],
    "a number": 3,
}


@pytest.mark.parametrize("response", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_answer_opens_nothing_and_is_nothing_else_than_asked_for(response, tmp_path):
    policy = Policy(limits=Limits(max_bytes=len(BLUE) + 50_000))
    with serving(lambda _: {"response": response}) as server:
        refiner = HTTPRefiner(server.url, modalities={"image"}, policy=policy)
        (found,) = refiner.refine([task(pictures(tmp_path))])
    assert not isinstance(found, Revision)
    assert found.reason == "malformed"


@pytest.mark.parametrize("answer", [None, [], "text", {}, {"revised": "text"}, 5])
def test_an_answer_of_another_form(answer):
    body = (200, json.dumps(answer).encode(), {})
    with serving(lambda _: body) as server:
        (found,) = HTTPRefiner(server.url, modalities={"text"}).refine([task()])
    assert found.reason == "malformed"


def test_what_a_service_says_about_a_failure_is_told_and_loses_no_other_task():
    def reply(payload):
        if "cut" in payload["comments"]:
            return {"error": "the mask is empty\x1b[2J"}
        return status(422, {"detail": "no mask"}) if "bad" in payload["comments"] else {"response": "Fine."}

    with serving(reply) as server:
        refiner = HTTPRefiner(server.url, modalities={"text"})
        tasks = [task(), task(comments="cut"), task(comments="bad"), task(comments=""), task(candidate=1)]
        one, two, three, four, five = refiner.refine(tasks)
    assert one.changed
    assert five.changed
    assert (two.reason, three.reason, four.reason) == ("backend_error", "backend_error", "missing")
    assert "the mask is empty<U+001B>[2J" in two.detail
    assert "no mask" in three.detail


def test_a_medium_that_cannot_be_opened_is_not_sent(tmp_path):
    sample = pictures(tmp_path)
    (tmp_path / "red.png").unlink()
    with serving(lambda _: {"response": None}) as server:
        (found,) = HTTPRefiner(server.url, modalities={"image"}).refine([task(sample)])
        assert server.seen == []
    assert found.reason == "media_error"


def test_a_service_that_is_not_there_fails_as_a_whole():
    with serving(lambda _: status(403)) as server, pytest.raises(BackendError, match="403"):
        HTTPRefiner(server.url, modalities={"text"}).refine([task()])


def test_the_worked_server_of_the_documents_works(tmp_path):
    import numpy as np
    from PIL import Image

    document = (Path(__file__).parents[2] / "docs" / "refining.md").read_text(encoding="utf-8")
    (code,) = [block for block in document.split("```python\n")[1:] if "class Editor" in block]
    code = code.partition("```")[0]
    assert len(code.splitlines()) <= 30
    told: dict = {"__name__": "editor"}
    exec(code, told)
    told["Editor"].log_message = lambda *_: None
    server = ThreadingHTTPServer(("127.0.0.1", 0), told["Editor"])
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        refiner = HTTPRefiner(f"http://127.0.0.1:{server.server_address[1]}", modalities={"image"})
        sample = pictures(tmp_path)
        dark, fine = refiner.refine([task(sample, 0, "Light: too dark"), task(sample, 1, "Light: as it should be")])
    finally:
        server.shutdown()
        server.server_close()
    assert (dark.changed, fine.changed) == (True, False)
    bright = Image.open(io.BytesIO(base64.b64decode(dark.response[0].value.partition(",")[2])))
    assert np.asarray(bright).mean() > np.asarray(Image.open(io.BytesIO(RED))).mean() + 10
