"""What the project promises of itself: one version, complete packages, versions that fit, nothing of one machine."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import omnirm

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "omnirm": "omnirm",
    "preprocessing": "omnirm.preprocessing",
    "training": "omnirm.training",
    "app": "omnirm.app",
}
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {name: Version(version) for name, _, version in (line.partition("==") for line in lines)}


def requirements() -> list[Requirement]:
    texts = [*PROJECT["dependencies"], *(text for extra in PROJECT["optional-dependencies"].values() for text in extra)]
    return [Requirement(text) for text in texts]


NOT_INSTALLED = {ROOT / "training" / "EXPERIMENTS.md"}  # a log for the readers of the repository


def own_files() -> list[Path]:
    """The files that a clone would have; without git, all that are not caches."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        asked = [git, "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"]
        done = subprocess.run(asked, capture_output=True, check=False)
        if done.returncode == 0:
            return [ROOT / name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    found = [file for name in (*FOLDERS, "tests", "docs", ".ci") for file in (ROOT / name).rglob("*")]
    return [file for file in (*found, *ROOT.iterdir()) if file.is_file() and "__pycache__" not in file.parts]


def packages_on_disk() -> set[str]:
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join((package, *init.parent.relative_to(ROOT / folder).parts)))
    return found


def test_the_version_is_written_once():
    assert omnirm.__version__ == metadata.version("omnirm") == PROJECT["version"]
    for file in (ROOT / "omnirm").rglob("*.py"):
        assert PROJECT["version"] not in file.read_text(encoding="utf-8"), f"{file} repeats the version"


def test_the_changelog_speaks_of_this_version():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(PROJECT['version'])}\b", changes, re.MULTILINE)


def test_every_package_is_installed():
    listed = PYPROJECT["tool"]["setuptools"]["packages"]
    assert set(listed) == packages_on_disk(), "[tool.setuptools] packages in pyproject.toml"
    assert all(name == "omnirm" or name.startswith("omnirm.") for name in listed), "nothing generic in site-packages"


def test_every_folder_with_code_is_a_package():
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), f"{file.parent} has code and no __init__.py"


def test_every_data_file_of_a_package_is_installed():
    covered = set()
    for package, patterns in PYPROJECT["tool"]["setuptools"]["package-data"].items():
        above = [item for item in FOLDERS.items() if f"{package}.".startswith(f"{item[1]}.")]
        folder, name = max(above, key=lambda item: len(item[1]))
        place = ROOT.joinpath(folder, *package.removeprefix(name).strip(".").split("."))
        covered |= {file for pattern in patterns for file in place.glob(pattern)}
    data = {file for file in own_files() if file.relative_to(ROOT).parts[0] in FOLDERS and file.suffix != ".py"}
    assert data - covered - NOT_INSTALLED == set(), "[tool.setuptools.package-data] in pyproject.toml"


@pytest.mark.slow
def test_a_wheel_holds_everything_and_nothing_generic(tmp_path):
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    if not Path(uv).is_file():
        pytest.skip("no uv to build with")
    source = tmp_path / "source"
    for file in own_files():
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", tmp_path / "wheel", source], check=True)
    (wheel,) = (tmp_path / "wheel").glob("omnirm-*.whl")
    site = tmp_path / "site"
    shutil.unpack_archive(wheel, site, format="zip")
    assert {item.name for item in site.iterdir()} == {"omnirm", f"omnirm-{PROJECT['version']}.dist-info"}
    inside = {file.relative_to(site / "omnirm").as_posix() for file in (site / "omnirm").rglob("*") if file.is_file()}
    expected = set()
    for folder, package in FOLDERS.items():
        inner = Path(*package.split(".")[1:])
        expected |= {
            (inner / file.relative_to(ROOT / folder)).as_posix()
            for file in own_files()
            if file.is_relative_to(ROOT / folder) and file not in NOT_INSTALLED
        }
    assert inside == expected
    program = (
        "import omnirm, omnirm.preprocessing, omnirm.app, omnirm.training; from omnirm.prompts.formats import FORMATS;"
        "print(omnirm.__path__[0])"
    )
    # -I and a path of our own: the wheel's package is found, not the one that is installed for editing
    code = f"import sys; sys.path.insert(0, {str(site)!r}); {program}"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(site / "omnirm")


def test_constraints_name_one_version_each():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*", line)] == []
    names = [line.partition("==")[0] for line in lines]
    assert names == sorted(set(names))


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_constraints_satisfy_the_requirement(requirement):
    name = canonicalize_name(requirement.name)
    if name == "omnirm":  # an extra made of others
        assert requirement.extras <= set(PROJECT["optional-dependencies"])
    else:
        assert requirement.specifier.contains(constraints()[name]), f"constraints.txt has {constraints()[name]}"


def test_all_is_all_that_a_user_may_want():
    (everything,) = (Requirement(text) for text in PROJECT["optional-dependencies"]["all"])
    assert everything.extras == set(PROJECT["optional-dependencies"]) - {"all", "dev"}


DISTRIBUTIONS = {"PIL": "pillow"}  # import name -> distribution, where they differ
EXTRAS = {"omnirm": ("media",), "preprocessing": ("media",), "training": ("media", "train"), "app": ("media", "app")}


def imported_by(file: Path) -> set[str]:
    """Distributions that a file imports, at its top or in its functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return {canonicalize_name(DISTRIBUTIONS.get(name, name)) for name in found - sys.stdlib_module_names - {"omnirm"}}


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_the_code_imports_is_installed_with_it(folder):
    texts = [
        *PROJECT["dependencies"],
        *(t for extra in EXTRAS[folder] for t in PROJECT["optional-dependencies"][extra]),
    ]
    required = {canonicalize_name(Requirement(text).name) for text in texts}
    missing = {file.relative_to(ROOT): imported_by(file) - required for file in (ROOT / folder).rglob("*.py")}
    assert {file: names for file, names in missing.items() if names} == {}


def test_no_dependency_is_for_nothing():
    imported = {name for folder in FOLDERS for file in (ROOT / folder).rglob("*.py") for name in imported_by(file)}
    needed_by_transformers = {"jinja2", "torchvision"}  # chat templates, video processors
    assert {Requirement(text).name for text in PROJECT["dependencies"]} - imported <= needed_by_transformers


# Spelled in pieces, so that this file does not hold them itself.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.:/])/(?:work|root|home|Users|opt)/\w",
    "a package registry": "files.python" + "hosted|pypi." + "org/simple|extra-index" + "-url|find-" + "links",
    "a secret": "hf_" + "[A-Za-z0-9]{30}|gh[pousr]_" + "[A-Za-z0-9]{30}|BEGIN [A-Z ]*PRIVATE" + " KEY",
}


def test_no_file_names_a_workplace():
    found = []
    for file in own_files():
        data = file.read_bytes()
        if b"\0" in data[:4096]:
            continue
        text = data.decode("utf-8", errors="replace")
        for what, pattern in FORBIDDEN.items():
            if match := re.search(pattern, text):
                line = text.count("\n", 0, match.start()) + 1
                found.append(f"{file.relative_to(ROOT)}:{line}: {what}: {match.group()}")
    assert found == []


def test_no_large_file_is_in_the_repository():
    large = {f.relative_to(ROOT).as_posix(): f.stat().st_size for f in own_files() if f.stat().st_size > 1_000_000}
    shipped = ("omnirm/nano/weights/", "omnirm/nano/disrm/")
    weights = {name for name in large if name.startswith(shipped) and name.endswith(".safetensors")}
    assert set(large) == weights
    assert sum(large.values()) <= 20 * 2**20


def test_links_in_the_documents_lead_somewhere():
    for document in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
            if not target.startswith(("http:", "https:", "mailto:")):
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_commands_in_the_readme_exist():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= set(re.findall(r"\bmake ([a-z][a-z-]+)", readme)) <= targets
