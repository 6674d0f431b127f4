"""Verdicts on the outcome of a command: success, one-line error, or failure."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ERROR = "queryinst-vis: error: "
OURS = re.compile(
    r"queryinst-vis: |━|\d:\d\d:\d\d|-:--:--|step \d|(resum|stopp)ed |done: |queries|class "
)
"""Messages and progress on standard error."""

TRACEBACK = "Traceback (most recent call last):"
OK, REJECTED, FAILED = "ok", "rejected", "failed"

Files = dict[str, tuple[int, int]]
"""Size and modification time of every file below a folder."""


@dataclass
class Verdict:
    """The outcome of an input.

    Attributes:
        kind: ``OK`` (exit status 0, all outputs valid), ``REJECTED`` (2, one line) or ``FAILED``.
        faults: the failures.
        place: the innermost line of the package in the traceback, if there is one.
        message: the error line.
        noise: the first line on standard error that is not from this program.
        note: the errors in the input.
    """

    kind: str
    faults: list[str] = field(default_factory=list)
    place: str = ""
    message: str = ""
    noise: str = ""
    note: str = ""


def list_files(folder: Path) -> Files:
    """Size and modification time of every file below a folder."""
    found = {}
    for path in folder.rglob("*"):
        if not path.is_dir():
            status = path.lstat()
            found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns)
    return found


def judge_end(status: int, errors: str, stopped: bool = False) -> Verdict:
    """Judge exit status and standard error of a command that ran with ``--debug``.

    Args:
        status: exit status, or minus the signal's number.
        errors: standard error.
        stopped: a signal was sent: 130 and 143, or 1 with a hint on how to resume, are allowed.
    """
    lines, place = _without_tracebacks(errors.splitlines())
    error_lines = [line for line in lines if line.startswith(ERROR)]
    message = error_lines[-1].removeprefix(ERROR) if error_lines else ""
    noise = next((line for line in lines if line.strip() and not OURS.search(line)), "")
    verdict = Verdict(REJECTED, [], place, message, noise)
    resumable = status == 1 and "--resume" in errors
    if status == 0 or (stopped and (status in (130, 143, -15, -9, -2) or resumable)):
        verdict.kind = OK
    elif status != 2:
        what = message or next((line for line in reversed(lines) if line.strip()), "")
        verdict.faults.append(f"status {status}: {what}")
    elif len(error_lines) != 1 or lines[-1] != error_lines[-1]:
        verdict.faults.append(f"status 2 with {len(error_lines)} error lines")
    if status == 0 and error_lines:
        verdict.faults.append("status 0 with an error line")
    return verdict


def _without_tracebacks(lines: list[str]) -> tuple[list[str], str]:
    """The lines outside tracebacks, and the innermost line of the package in a traceback."""
    kept: list[str] = []
    place, inside = "", False
    for line in lines:
        if line.startswith(TRACEBACK):
            inside = True
        elif inside and line.startswith((ERROR, "queryinst-vis: warning: ")):
            inside = False
        if not inside:
            kept.append(line)
        elif found := re.search(r'File ".*/(queryinst_vis/[^"]+)", line (\d+)', line):
            place = f"{found[1]}:{found[2]}"
    return kept, place


def judge_files(before: Files, folder: Path, status: int, case: Any) -> list[str]:
    """Find failures in the files that a command has left.

    Args:
        before: the files before the run.
        folder: its working directory.
        status: its exit status.
        case: the case, with the expected and allowed files.
    """
    after = list_files(folder)
    touched = [name for name in before if before[name] != after.get(name)]
    kept = [name for name in touched if not any(fnmatch(name, pattern) for pattern in case.changes)]
    faults = [f"changed or removed its input {name}" for name in kept]
    new = [name for name in after if name not in before]
    allowed = [*case.keeps, *case.outputs] if status == 0 else case.keeps
    for name in new:
        inside = any(fnmatch(name, pattern) or fnmatch(name, f"{pattern}/*") for pattern in allowed)
        if not inside or is_temporary(name):
            faults.append(f"left {mask_random(name)} behind")
        elif fault := output_error(folder / name):
            faults.append(f"{mask_random(name)}: {fault}")
    if status == 0:
        faults += [
            f"status 0 without {name}" for name in case.outputs if not any(folder.glob(name))
        ]
    return faults


def is_temporary(name: str) -> bool:
    """Whether a file name is that of an unfinished file."""
    return any(part.startswith(".") and part != ".lock" for part in Path(name).parts)


def mask_random(name: str) -> str:
    """The name with the random part of temporary files masked, for grouping."""
    return re.sub(r"-[a-z0-9_]{8}(?=[./]|$)", "-XXXXXXXX", name)


def output_error(path: Path) -> str | None:
    """The error in an output file, by its suffix; None if it is valid."""
    try:
        return _READERS.get(path.suffix.lower(), lambda path: None)(path)
    except Exception as error:
        return f"cannot be read: {type(error).__name__} {error}"[:200]


def _read_json(path: Path) -> str | None:
    def reject(text: str) -> None:
        raise ValueError(f"{text} is not JSON")

    json.loads(path.read_text(encoding="utf-8"), parse_constant=reject)
    return None


def _read_zip(path: Path) -> str | None:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _read_tensors(path: Path) -> str | None:
    import torch

    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        tensors = load_file(path)
    else:
        content = torch.load(path, map_location="cpu", weights_only=True)
        tensors = content.get("model") or content.get("state_dict") or content
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            return f"{name} is not finite"
    return None


def _read_video(path: Path) -> str | None:
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        frames = sum(1 for _ in container.decode(video=0))
    return None if frames else "contains no frame"


def _read_picture(path: Path) -> str | None:
    from PIL import Image

    with Image.open(path) as picture:
        picture.load()
    return None


_READERS = {
    ".json": _read_json,
    ".zip": _read_zip,
    ".safetensors": _read_tensors,
    ".ckpt": _read_tensors,
    ".pth": _read_tensors,
    ".mp4": _read_video,
    ".png": _read_picture,
    ".jpg": _read_picture,
}
