"""Planning and checking the output files of a run before any work is done."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.formats.names import list_names, nearest_name
from queryinst_vis.formats.run_file import RUN_FILE, origin_of_run
from queryinst_vis.inference.options import TrackOptions
from queryinst_vis.inference.outputs.kinds import OUTPUTS
from queryinst_vis.inference.outputs.output import Output, OutputContext, OutputKind
from queryinst_vis.inference.outputs.run_file import RunSettings
from queryinst_vis.utils.files import atomic_folder, atomic_path, shortened
from queryinst_vis.video.encoders import AUTO, find_encoder
from queryinst_vis.video.source import Source, is_repeatable
from queryinst_vis.visualization.timeline import read_origin

_LONGEST_NAME = 251  # bytes before ".mp4"; file systems allow 255
_ORIGIN_FILE = "timeline.png"  # of earlier versions, which wrote no run.json
_OF_EARLIER_VERSIONS = ("{name}.mp4", "results.json", "timeline.png")


class OutputPlan:
    """The output files for a source: checked at once, opened with the first frame.

    Args:
        folder: output folder; created if necessary.
        source: the video; some files are named after it.
        options: what to write, and the settings to record.
        overwrite: replace files of another video or another program.
        kinds: the available outputs.

    Attributes:
        options: as given.
        run: the settings to record.
        encoder: the video encoder, as for ``VideoWriter``.
        files: all files, in the order of ``kinds``; the last one is ``run_file``.
        about: a short description of each file.
        run_file: provenance of the others, see ``run_record``.
        origin: hash of the source's origin, which does not disclose the path.

    Raises:
        InputError: an unknown output, an encoder that is unknown or does not work here; a file
            would replace the source or, without ``overwrite``, results of another video.
    """

    def __init__(
        self,
        folder: str | Path,
        source: Source,
        options: TrackOptions,
        *,
        overwrite: bool = False,
        kinds: Mapping[str, OutputKind] = OUTPUTS,
    ) -> None:
        self.options = options
        self._folder = Path(folder)
        self._name = shortened(source.name, _LONGEST_NAME)
        check_outputs(options.save, kinds)
        self._paths = {
            kind: tuple(self._path(file) for file in kinds[kind].files)
            for kind in kinds
            if kind in options.save
        }
        self._kinds = kinds
        self.run = RunSettings.of(options)
        self.run_file = self._folder / RUN_FILE
        self.about = {
            path: kinds[kind].about for kind, paths in self._paths.items() for path in paths
        }
        self.about[self.run_file] = "settings and summary of the run"
        self.files = tuple(self.about)
        writes_videos = any(path.suffix == ".mp4" for path in self.files)
        self.encoder = options.encoder
        if writes_videos and self.encoder != AUTO:  # which the frame size decides
            find_encoder(self.encoder)  # before any work
        if Path(source.origin).resolve() in {path.resolve() for path in self.files}:
            raise InputError(
                f"video {source.origin}: the annotated video would replace it; choose another "
                f"folder than {folder} for the results"
            )
        self._can_be_repeated = is_repeatable(source)
        self.origin = sha256(source.origin.encode(errors="surrogateescape")).hexdigest()
        if not overwrite:
            self._reject_results_of_others()
        self._warn_of_leftovers(Path(source.origin))

    def open(self, context: OutputContext) -> list[Output]:
        """Open the outputs; their files are published when ``context.stack`` is closed.

        Raises:
            InputError: a file cannot be written.
        """
        temporary = {
            kind: [
                context.stack.enter_context(
                    atomic_folder(path) if file.endswith("/") else atomic_path(path)
                )
                for path, file in zip(paths, self._kinds[kind].files, strict=True)
            ]
            for kind, paths in self._paths.items()
        }
        return [self._kinds[kind].open(context, *paths) for kind, paths in temporary.items()]

    def _path(self, file: str) -> Path:
        return self._folder / file.format(name=self._name)

    def _reject_results_of_others(self) -> None:
        """Raise an InputError if the folder contains results of another source.

        Those of a pipe, of a live source or of frames in memory always are: there is no second
        recording of them.

        Their source is noted in ``run.json`` or the timeline. Without this note, files are assumed
        to be of the same source if all files that earlier versions wrote exist.
        """
        existing = [path for path in self.files if path.exists()]
        origin = origin_of_run(self._folder) or read_origin(self._folder / _ORIGIN_FILE)
        if origin is None:
            is_ours = all(self._path(file).exists() for file in _OF_EARLIER_VERSIONS)
        else:
            is_ours = origin == self.origin and self._can_be_repeated
        if existing and not is_ours:
            raise InputError(
                f"{existing[0]}: contains results of another video; use another folder with "
                "--out, or replace them with --overwrite"
            )

    def _warn_of_leftovers(self, source: Path) -> None:
        """Warn of files of other outputs, which could be mistaken for those of this run."""
        others = {self._path(file) for kind in self._kinds.values() for file in kind.files}
        leftovers = sorted(
            path.name for path in others - set(self.files) - {source} if path.exists()
        )
        if leftovers:
            warnings.warn(
                f"{self._folder}: {', '.join(leftovers)} of an earlier run are kept; use another "
                "folder with --out, or remove them",
                InputWarning,
                stacklevel=3,
            )


def check_outputs(save: Sequence[str], kinds: Mapping[str, OutputKind] = OUTPUTS) -> None:
    """Raise an InputError for a name that is not one of ``kinds``."""
    for name in save:
        if name not in kinds:
            nearest = nearest_name(name, kinds)
            meant = f"did you mean '{nearest}'? " if nearest else ""
            raise InputError(
                f"output '{name}' is unknown; {meant}choose from {list_names(list(kinds), 99)}"
            )
