"""Finding what is reviewed: results, the run that they are of, and its video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from queryinst_vis.errors import InputError
from queryinst_vis.formats.run_file import fingerprint, read_run, source_of_run
from queryinst_vis.formats.track_lines import is_track_lines

TRACKS_FILE = "tracks.jsonl"


@dataclass(frozen=True)
class Results:
    """What is reviewed.

    Attributes:
        path: the result file or folder.
        folder: for the journal and the index, beside it.
        run: the content of the ``run.json`` beside it; None: there is none.
    """

    path: Path
    folder: Path
    run: dict[str, Any] | None

    def tracks(self) -> Path:
        """The results as ``tracks.jsonl``."""
        return self.path


def find_results(path: Path) -> Results:
    """The results in a folder that ``track`` has written, or a file of them.

    Raises:
        InputError: there are none.
    """
    if path.is_dir() and (path / TRACKS_FILE).is_file():
        path = path / TRACKS_FILE
    if not path.exists():
        raise InputError(f"results {path}: no such file or folder")
    if path.is_dir():
        raise InputError(
            f"results {path}: holds no {TRACKS_FILE}, which 'track' writes unless --save leaves "
            "it out"
        )
    if not is_track_lines(path):
        raise InputError(f"results {path}: is not a {TRACKS_FILE} of 'track'")
    return Results(path, path.with_name(f"{path.name}.review"), read_run(path.parent))


def find_video(results: Results, named: Path | None) -> tuple[Path | None, Any]:
    """Where the video of results is.

    Args:
        results: whose.
        named: where somebody says that it is; None: where it was when it was tracked.

    Returns:
        Its path, None where nothing is known of it, and its fingerprint, None where it has none.

    Raises:
        InputError: it is not there, or it is another one.
    """
    source = source_of_run(results.run)
    expected, origin = source.get("fingerprint"), source.get("origin")
    if named is None:
        if not isinstance(origin, str) or (expected is None and not Path(origin).exists()):
            return None, None
        if not Path(origin).exists():
            raise InputError(
                f"video {origin}: is not there any more; say with --video where it is now"
            )
        named = Path(origin)
    elif not named.exists():
        raise InputError(f"video {named}: no such file or folder")
    found = fingerprint(named) if named.is_file() else None
    if expected is not None and found is not None and found != expected:
        raise InputError(
            f"video {named}: is not the one that was tracked, or has changed since; say with "
            "--video where that one is"
        )
    return named, found
