"""Examines this installation: versions, decoders, devices, extras, families of models. For `omnirm doctor`.

It looks and imports, but changes nothing, downloads nothing and loads no model.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("torch", "transformers", "numpy", "pillow", "av", "soundfile", "soxr")
FAMILIES: dict[str, tuple[str, str, tuple[str, ...]]] = {  # family -> module of transformers, example, modalities
    "Qwen2.5-Omni": ("qwen2_5_omni", "Qwen/Qwen2.5-Omni-7B", ("text", "image", "video", "audio")),
    "Qwen3-Omni": ("qwen3_omni_moe", "Qwen/Qwen3-Omni-30B-A3B-Instruct", ("text", "image", "video", "audio")),
    "Qwen3-VL": ("qwen3_vl", "Qwen/Qwen3-VL-8B-Instruct", ("text", "image", "video")),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked for. `remedy`: what to do where it is not usable, "" where nothing is needed."""

    name: str
    usable: bool
    detail: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All that was found, by topic."""

    omnirm: str
    python: str
    platform: str
    packages: tuple[Finding, ...]
    devices: tuple[Finding, ...]
    decoders: tuple[Finding, ...]
    extras: tuple[Finding, ...]
    families: tuple[Finding, ...]
    nano: Finding

    @property
    def can_judge(self) -> bool:
        """Is everything there that every judgment needs?"""
        needed = {one.name: one.usable for one in self.packages}
        return needed["torch"] and needed["transformers"] and any(one.usable for one in self.families)

    def to_json(self) -> str:
        """One JSON object, with `can_judge`."""
        return json.dumps({**asdict(self), "can_judge": self.can_judge}, indent=2)


def examine() -> Findings:
    """Looks at everything."""
    import omnirm

    return Findings(
        omnirm=omnirm.__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=tuple(_package(name) for name in PACKAGES),
        devices=_devices(),
        decoders=_decoders(),
        extras=_extras(),
        families=_families(),
        nano=_nano(),
    )


def print_findings(findings: Findings) -> None:
    """Prints for people: a mark, a name, details, and what to do."""
    from rich.text import Text

    from omnirm.report import make_console

    console = make_console(soft_wrap=True)
    console.print(Text(f"omnirm {findings.omnirm}, Python {findings.python}, {findings.platform}", "bold"))
    topics = {
        "Packages": findings.packages,
        "Devices": findings.devices,
        "Decoders": findings.decoders,
        "Model families": findings.families,
        "Embedded model": (findings.nano,),
        "Extras": findings.extras,
    }
    for topic, found in topics.items():
        if not found:
            continue
        console.print(Text(f"\n{topic}", "bold"))
        for one in found:
            mark = ("ok", "green") if one.usable else ("--", "yellow")
            line = Text.assemble("  ", mark, f"  {one.name:<14} {one.detail}")
            if one.remedy:
                line.append(f"  -> {one.remedy}", "cyan")
            console.print(line)
    verdict = "\nThis installation can judge." if findings.can_judge else "\nThis installation cannot judge yet."
    console.print(Text(verdict, "bold green" if findings.can_judge else "bold red"))


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}")


def _devices() -> tuple[Finding, ...]:
    try:
        import torch
    except (ImportError, OSError) as e:
        return (Finding("cpu", False, f"torch cannot be imported: {e}", "pip install torch"),)
    found = [Finding("cpu", True, f"{torch.get_num_threads()} threads")]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            found.append(
                Finding(f"cuda:{index}", True, f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
            )
    else:
        found.append(Finding("cuda", False, "no usable NVIDIA GPU"))
    if torch.backends.mps.is_available():
        found.append(Finding("mps", True, "Apple GPU"))
    return tuple(found)


def _decoders() -> tuple[Finding, ...]:
    from omnirm.preprocessing import available_decoders

    statuses, found = available_decoders(), []
    default = next((one.name for one in statuses if one.usable and one.automatic), "")
    for one in statuses:
        choice = "used by default" if one.name == default else "used where asked for by name"
        detail = f"{one.version}, {choice}" if one.usable else one.reason
        found.append(Finding(one.name, one.usable, detail, "" if one.usable else one.install))
    return tuple(found)


def _extras() -> tuple[Finding, ...]:
    try:
        described = metadata.metadata("omnirm")
        required = metadata.requires("omnirm") or []
    except metadata.PackageNotFoundError:
        return ()
    return tuple(_extra(extra, required) for extra in described.get_all("Provides-Extra") or [])


def _extra(extra: str, required: list[str]) -> Finding:
    missing = [name for name in _names(extra, required) if not _installed(name)]
    if not missing:
        return Finding(extra, True, "installed")
    return Finding(extra, False, f"missing: {', '.join(missing)}", f"make install EXTRAS={extra} in the clone")


def _names(extra: str, required: list[str]) -> list[str]:
    from packaging.requirements import Requirement

    names = []
    for requirement in map(Requirement, required):
        if requirement.marker is None or not requirement.marker.evaluate({"extra": extra}):
            continue
        if requirement.marker.evaluate({"extra": ""}):
            continue  # needed without the extra too
        if requirement.name.replace("_", "-").lower() == "omnirm":  # an extra made of others
            names += [name for inner in sorted(requirement.extras) for name in _names(inner, required)]
        else:
            names.append(requirement.name)
    return list(dict.fromkeys(names))


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _families() -> tuple[Finding, ...]:
    spec = find_spec("transformers")
    folder = Path(spec.origin).parent / "models" if spec is not None and spec.origin else None
    found = []
    for family, (module, example, modalities) in FAMILIES.items():
        usable = folder is not None and (folder / module).is_dir()
        detail = f"{', '.join(modalities)}; e.g. {example}"
        found.append(Finding(family, usable, detail, "" if usable else "pip install -U transformers"))
    return tuple(found)


def _nano() -> Finding:
    from omnirm.backends.load import has_nano, nano_folder

    if not has_nano():
        return Finding("nano", False, "its weights are not installed", "reinstall omnirm")
    size = sum(file.stat().st_size for file in nano_folder().glob("*.safetensors"))
    return Finding("nano", True, f"{size / 1e6:.1f} MB; knows only its toy world")
