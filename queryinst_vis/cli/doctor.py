"""``queryinst-vis doctor``: report on the installation, even if parts of it are broken."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from queryinst_vis import __version__
from queryinst_vis.cli.arguments import Commands, add_command

_PACKAGE = "queryinst-vis"
_DECODERS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg", "prores")
_ENCODERS = ("libx264",)
_GIB = 1024**3
_LITTLE_SPACE, _LITTLE_MEMORY = 2 * _GIB, 4 * _GIB
_REQUIREMENT = re.compile(r"([\w.-]+)")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([\w-]+)['\"]")


def add(commands: Commands) -> None:
    """Add the command."""
    add_command(
        commands,
        "doctor",
        _run,
        "Check the installation: what is available, missing or slow.",
        "Prints versions, devices, video codecs, free space and optional packages; include them\n"
        "in bug reports. Nothing is changed or sent anywhere.",
        "queryinst-vis doctor",
    )


def _run(arguments: argparse.Namespace) -> None:
    for title, examine in _SECTIONS.items():
        print(f"{title}:")
        for line in _lines_of(examine):
            print(f"  {line}")


def _lines_of(examine: Callable[[], Iterator[str]]) -> list[str]:
    """The lines of a section; if it fails, the lines so far and the error."""
    lines: list[str] = []
    try:
        lines.extend(examine())
    except Exception as error:  # reporting what is broken is the purpose
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        lines.append(f"FAILED: {reason}")
    return lines or ["nothing"]


def _versions() -> Iterator[str]:
    yield f"{_PACKAGE} {__version__}, in {Path(__file__).resolve().parent.parent}"
    yield f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    found = {name: _version(name) for name in _requirements(None)}
    yield ", ".join(f"{name} {installed}" for name, installed in found.items() if installed)
    for name, installed in found.items():
        if installed is None:
            yield f"MISSING: {name}: pip install {name}"


def _devices() -> Iterator[str]:
    import torch

    from queryinst_vis.utils.machine import cpu_capabilities

    supported = cpu_capabilities()
    name = supported.get("cpu_name") or platform.processor() or platform.machine()
    extensions = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")
    kinds = [extension for extension in extensions if supported.get(extension)]
    yield (
        f"cpu: {name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()} kernels ({', '.join(kinds) or 'no extensions'})"
    )
    accelerator = torch.accelerator.current_accelerator() if _has_accelerator() else None
    for number in range(torch.accelerator.device_count() if accelerator else 0):
        assert accelerator is not None
        yield f"{accelerator.type}:{number}: {_describe_device(accelerator.type, number)}"
    if accelerator is None:
        built = {"CUDA": torch.version.cuda, "ROCm": torch.version.hip}
        names = [f"{name} {version}" for name, version in built.items() if version]
        yield f"no accelerator (PyTorch is built for {names[0] if names else 'CPUs only'})"


def _describe_device(kind: str, number: int) -> str:
    import torch

    if kind not in ("cuda", "xpu"):  # mps and others have no properties
        return platform.machine()
    properties = getattr(torch, kind).get_device_properties(number)
    return f"{properties.name}, {properties.total_memory / _GIB:.0f} GiB"


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def _video() -> Iterator[str]:
    import av

    libraries = ", ".join(f"{n} {'.'.join(map(str, v))}" for n, v in av.library_versions.items())
    yield f"PyAV {av.__version__} ({libraries})"
    decodes = [name for name in _DECODERS if _has_codec(name, "r")]
    encodes = [name for name in _ENCODERS if _has_codec(name, "w")]
    yield f"decodes {', '.join(decodes) or 'nothing'}; encodes {', '.join(encodes) or 'nothing'}"
    missing = [name for name in (*_DECODERS, *_ENCODERS) if name not in decodes + encodes]
    if missing:
        yield f"MISSING: {', '.join(missing)}; included in PyAV's wheels: pip install -U av"


def _has_codec(name: str, mode: Literal["r", "w"]) -> bool:
    import av

    try:
        av.codec.Codec(name, mode)
    except ValueError:  # an UnknownCodecError
        return False
    return True


def _space() -> Iterator[str]:
    for what, folder in (("here", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))):
        writable = "" if os.access(folder, os.W_OK) else ", NOT WRITABLE"
        free = shutil.disk_usage(folder).free
        yield f"{what}: {free / _GIB:.1f} GiB free in {folder}{writable}"
    memory = _memory()
    if memory is not None:
        yield f"memory: {memory / _GIB:.1f} GiB"


def _memory() -> int | None:
    """Total memory in bytes; None if unknown."""
    with suppress(AttributeError, ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None


def _extras() -> Iterator[str]:
    extras = sorted({match[1] for text in _required() if (match := _EXTRA.search(text))})
    if not extras:
        yield f"unknown: {_PACKAGE} is not installed; run 'pip install -e .' in the clone"
    for extra in extras:
        missing = [name for name in _requirements(extra) if _version(name) is None]
        if missing:
            yield f"{extra}: missing {', '.join(missing)}; pip install '{_PACKAGE}[{extra}]'"
        else:
            yield f"{extra}: installed"


def _slow() -> Iterator[str]:
    import torch

    from queryinst_vis.utils.machine import cpu_capabilities

    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    if not _has_accelerator():
        yield (
            "no GPU: expect at most a few frames per second with a ResNet-50 on the CPU. "
            "Try --max-size 320 and --stride 2; 'queryinst-vis benchmark' measures the speed"
        )
        if not cpu_capabilities().get("amx_bf16"):
            yield "training: this CPU has no AMX, so training uses float32 (train.precision)"
    if threads < cores:
        yield f"PyTorch uses {threads} of {cores} cores (OMP_NUM_THREADS or a container limit)"
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > cores:
        yield f"the machine is busy: load average {load:.1f} on {cores} cores"
    memory = _memory()
    if memory is not None and memory < _LITTLE_MEMORY:
        yield f"low memory ({memory / _GIB:.1f} GiB): use --batch 1 and --max-size"
    for folder in {Path.cwd(), Path(tempfile.gettempdir())}:
        if shutil.disk_usage(folder).free < _LITTLE_SPACE:
            yield f"{folder} is nearly full; set TMPDIR to another folder for temporary files"


def _required() -> list[str]:
    """The requirements of the installed package; none if it is not installed."""
    with suppress(PackageNotFoundError):
        return requires(_PACKAGE) or []
    return []


def _requirements(extra: str | None) -> list[str]:
    """Names of the distributions of an extra and of those it includes; None: the required ones."""
    chosen = []
    for text in _required():
        match = _EXTRA.search(text)
        requirement = _REQUIREMENT.match(text)
        if requirement is None or (match[1] if match else None) != extra:
            continue
        if requirement[1] != _PACKAGE:
            chosen.append(requirement[1])
        else:
            included = text.partition("[")[2].partition("]")[0]
            for name in included.split(","):
                chosen += _requirements(name.strip())
    return chosen


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


_SECTIONS: dict[str, Callable[[], Iterator[str]]] = {
    "versions": _versions,
    "devices": _devices,
    "video": _video,
    "space": _space,
    "optional packages": _extras,
    "performance": _slow,
}
