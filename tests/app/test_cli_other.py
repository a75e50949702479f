"""`omnirm doctor`, `omnirm demo`, `omnirm --version`, and the service where the commands do not reach it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

import omnirm
from omnirm.app import doctor, service
from omnirm.app.cli import app
from omnirm.backends import scripted
from omnirm.backends.scripted import ScriptedBackend, say
from omnirm.errors import BackendError, SampleError
from omnirm.judgment import read_judgment


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_version():
    done = run("--version")
    assert (done.exit_code, done.stdout) == (0, f"omnirm {omnirm.__version__}\n")


def test_help_names_every_command_and_every_exit_code():
    help_text = run("--help").stdout
    assert all(command in help_text for command in ("judge", "demo", "doctor"))
    judge_help = run("judge", "--help").stdout
    for line in ("0  every sample was judged", "2  wrong use", "3  some samples", "4  no sample was judged"):
        assert line in judge_help


def test_doctor_for_people_and_for_programs():
    done = run("doctor")
    assert done.exit_code == 0
    for word in ("Packages", "torch", "Devices", "cpu", "Decoders", "pyav", "Qwen3-VL", "nano", "can judge"):
        assert word in done.stdout, word
    found = json.loads(run("doctor", "--json").stdout)
    assert found["can_judge"] is True
    assert found["omnirm"] == omnirm.__version__
    names = {one["name"]: one for one in found["families"]}
    assert set(names) == {"Qwen2.5-Omni", "Qwen3-Omni", "Qwen3-VL"}
    for topic in ("packages", "devices", "decoders", "extras", "families"):
        for one in found[topic]:
            assert set(one) == {"name", "usable", "detail", "remedy"}
            assert isinstance(one["usable"], bool)


def test_doctor_tells_what_to_install(monkeypatch):
    real = doctor.metadata.version

    def version(name: str) -> str:
        if name in ("torch", "nothing"):
            raise doctor.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(doctor.metadata, "version", version)
    done = run("doctor")
    assert done.exit_code == 4
    assert "pip install torch" in done.stdout
    assert "cannot judge" in done.stdout


def test_extras_are_read_from_the_package_itself(monkeypatch):
    required = [
        "numpy", 'no-such-package>=1; extra == "train"', 'numpy; extra == "app"', 'omnirm[train,app]; extra == "all"',
        'other-missing; python_version < "3" and extra == "app"',
    ]  # fmt: skip
    assert doctor._extra("train", required) == doctor.Finding(
        "train", False, "missing: no-such-package", "make install EXTRAS=train in the clone"
    )
    assert doctor._extra("app", required).usable
    assert doctor._names("all", required) == ["numpy", "no-such-package"]


def test_demo_judges_one_pair_of_each_modality(monkeypatch, tmp_path):
    pytest.importorskip("omnirm.nano.world")
    monkeypatch.setitem(scripted.NAMED, "test", lambda: ScriptedBackend(say("A")))
    done = run("demo", "--model", "scripted:test", "--json", "--keep", str(tmp_path))
    assert done.exit_code == 0
    judgments = [read_judgment(line) for line in done.stdout.splitlines()]
    assert [one.format for one in judgments] == ["pairwise-thinking"] * 4
    assert all(one.orders == ("AB", "BA") for one in judgments)
    assert [len(one.rubrics) for one in judgments] == [0, 0, 0, 0]  # it writes its own
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".mp4", ".wav"}
    report = run("demo", "--model", "scripted:test").stdout
    assert report.count("Verdict") == 4
    for kind in ("[image]", "[video]", "[audio]"):
        assert kind in report


def test_content_puts_media_before_text():
    content = service.Content("text", images=("i",), videos=("v",), audios=("s",))
    assert [(part.type, part.value) for part in content.parts] == [
        ("image", "i"), ("video", "v"), ("audio", "s"), ("text", "text")
    ]  # fmt: skip
    assert service.Content().parts == ()
    with pytest.raises(SampleError, match="candidate B"):
        service.build_sample(service.Content("q"), [service.Content("a"), service.Content()])


def test_rows_are_read_only_as_they_are_needed():
    judge = service.make_judge(ScriptedBackend(say("A")), service.JudgeOptions(orders=1))
    sample = service.build_sample(service.Content("q"), [service.Content("a"), service.Content("b")])
    drawn = []

    def endless():
        while True:
            drawn.append(1)
            yield service.Row("s", sample)

    results = service.judge_rows(judge, endless(), at_once=3)
    assert [next(results).judgment.verdict for _ in range(4)] == ["A"] * 4
    assert len(drawn) == 6


def test_tally():
    judge = service.make_judge(ScriptedBackend(say("A")), service.JudgeOptions())
    sample = service.build_sample(service.Content("q"), [service.Content("a"), service.Content("b")])
    tally = service.Tally()
    assert tally.outcome == "none"
    tally.add(judge.compare(sample))
    assert (tally.outcome, tally.both_orders, tally.consistent) == ("all", 1, 0)
    tally.add(judge.not_judged("x", "broken: line 2"))
    assert (tally.outcome, tally.reasons) == ("some", {"broken": 1})


@pytest.mark.parametrize("error", [RuntimeError("no NVIDIA driver"), OSError("disk")])
def test_whatever_keeps_a_model_from_loading_is_a_backend_error(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setitem(scripted.NAMED, "fails", fail)
    with pytest.raises(BackendError, match=f"scripted:fails: {error}"):
        service.load_model(service.ModelOptions(name="scripted:fails"))
