"""What must stay light, by the modules that get imported, not by the clock."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "av",
    "decord",
    "torchcodec",
    "numpy",
    "PIL",
    "scipy",
    "soundfile",
    "datasets",
    "gradio",
)


def imported_by(code: str) -> set[str]:
    program = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stderr.splitlines()[-1]))


HELP = """
import sys
sys.argv = ["omnirm", *{arguments!r}]
from omnirm.app.cli import main
try:
    main()
except SystemExit as e:
    assert not e.code, e.code
"""


@pytest.mark.parametrize(
    "code",
    [
        "import omnirm",
        "import omnirm.types, omnirm.errors, omnirm.sample, omnirm.judgment, omnirm.backends.load",
        "from omnirm import Judge, Sample, load_backend, Rubric",
        "import omnirm.app.service",
        HELP.format(arguments=["--help"]),
        HELP.format(arguments=["judge", "--help"]),
        HELP.format(arguments=["study", "rubrics", "--help"]),
        HELP.format(arguments=["doctor", "--help"]),
        HELP.format(arguments=["--version"]),
    ],
)
def test_no_heavy_library_is_imported(code):
    assert imported_by(code) & set(HEAVY) == set()


def test_help_does_not_even_need_rich_or_the_judge():
    found = imported_by(HELP.format(arguments=["--help"]))
    assert not [name for name in found if name.split(".")[0] == "rich" or name == "omnirm.judge"]


def test_the_scripted_judge_works_without_torch():
    code = """
from omnirm import Judge, Sample, load_backend
sample = Sample.from_dict({"prompt": "q", "candidates": ["a", "b"]})
assert Judge(load_backend("scripted:always-a"), orders=1).compare(sample).verdict == "A"
"""
    assert not imported_by(code) & {"torch", "transformers"}


def test_every_public_name_can_be_had():
    import omnirm

    for name in omnirm.__all__:
        assert getattr(omnirm, name) is not None
    assert set(omnirm.__all__) <= set(dir(omnirm))
    assert omnirm.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="nonsense"):
        omnirm.nonsense  # noqa: B018
