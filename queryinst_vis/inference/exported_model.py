"""Inference with exported models, independent of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from queryinst_vis.checkpoints.weights import config_from_metadata
from queryinst_vis.config import Config, apply_overrides, differences
from queryinst_vis.data.transforms import padded_size
from queryinst_vis.errors import InputError
from queryinst_vis.models.queryinst import QueryInstOutput, gather_rows
from queryinst_vis.structures import StageOutput
from queryinst_vis.utils.images import Size

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Network:
    """A graph of ``exported_graph.LastStage``, ready to run.

    Attributes:
        run: maps the inputs of ``graph_inputs`` to the outputs, in the order of ``output_names``.
        input_shape: ``(B, 3, H, W)`` of ``images``.
        output_names: names of the outputs.
        path: the file, for messages.
        command: the command that exports such files, for messages.
    """

    run: Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]]
    input_shape: Sequence[int]
    output_names: list[str]
    path: Path
    command: str


class ExportedModel:
    """An exported model with the ``SetPredictor`` interface, as ``detect`` requires.

    Args:
        network: the graph.

    Attributes:
        device: device of inputs and outputs: the CPU.
        has_track_head: whether it outputs track-head embeddings.
        height, width: size of the network input in pixels.
        batch: batch size of the graph.
    """

    device = torch.device("cpu")

    def __init__(self, network: Network) -> None:
        self._network = network
        self.has_track_head = "embeddings" in network.output_names
        self.batch, _, self.height, self.width = network.input_shape

    def __call__(self, images: Tensor, image_sizes: list[Size]) -> QueryInstOutput:
        """As ``QueryInst.forward``; ``features`` holds the masks and embeddings of all queries.

        Raises:
            InputError: an image is larger than the graph's input.
        """
        self._check_fits(image_sizes)
        parts = [slice(start, start + self.batch) for start in range(0, len(images), self.batch)]
        runs = [self._run(images[part], image_sizes[part]) for part in parts]
        found = {name: torch.cat([run[name] for run in runs])[: len(images)] for name in runs[0]}
        queries = found["queries"]
        # q* is only read by the heads, which are part of the graph
        last = StageOutput(found["class_logits"], found["boxes"], queries, queries, queries)
        heads = [found[name] for name in ("mask_logits", "embeddings") if name in found]
        return QueryInstOutput([last], heads)

    def mask_logits(
        self,
        stage: int,
        output: QueryInstOutput,
        picks: list[Tensor],
        labels: Tensor | None = None,
    ) -> Tensor:
        """As ``QueryInst.mask_logits``, for the last stage."""
        masks = torch.cat(gather_rows(output.features[0], picks))
        return masks if labels is None else masks[torch.arange(len(labels)), labels]

    def track_embeddings(self, output: QueryInstOutput, picks: list[Tensor]) -> Tensor | None:
        """As ``QueryInst.track_embeddings``."""
        if not self.has_track_head:
            return None
        return torch.cat(gather_rows(output.features[1], picks))

    def _check_fits(self, image_sizes: list[Size]) -> None:
        height, width = padded_size(image_sizes, divisor=1)
        if height > self.height or width > self.width:
            needed_height, needed_width = padded_size(image_sizes)
            raise InputError(
                f"a network input of {width}x{height} does not fit {self._network.path}, which "
                f"was exported for {self.width}x{self.height}: export for this size with "
                f"'queryinst-vis {self._network.command} WEIGHTS --size "
                f"{needed_width}x{needed_height} --output FILE', or lower input.test_long and "
                "input.test_short"
            )

    def _run(self, images: Tensor, image_sizes: list[Size]) -> dict[str, Tensor]:
        """The outputs by name; the batch is padded with blank images."""
        shape = self.batch, 3, self.height, self.width
        outputs = self._network.run(*graph_inputs(images, image_sizes, shape))
        return {
            name: torch.from_numpy(values)
            for name, values in zip(self._network.output_names, outputs, strict=True)
        }


def graph_inputs(
    images: Tensor, image_sizes: list[Size], shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    """Pad images at the right and bottom, and the batch with blank images, to a static shape.

    Args:
        images: ``(N, 3, h, w)`` float32, normalised; N <= B, h <= H, w <= W.
        image_sizes: ``(height, width)`` of each without padding.
        shape: ``(B, 3, H, W)`` of the graph's input.

    Returns:
        ``images`` ``(B, 3, H, W)`` and ``image_sizes`` ``(B, 2)``, float32.
    """
    count, _, height, width = images.shape
    missing = shape[0] - count
    images = F.pad(images, (0, shape[3] - width, 0, shape[2] - height, 0, 0, 0, missing))
    sizes = [*image_sizes, *[shape[2:]] * missing]
    return images.contiguous().numpy(), np.array(sizes, dtype=np.float32)


def read_config(
    metadata: Mapping[str, str],
    file_format: str,
    overrides: list[str],
    fixed: tuple[str, ...],
    where: str,
    command: str,
) -> Config:
    """The config of an exported file, with overrides applied.

    Args:
        metadata: as from ``exported_graph.describe``.
        file_format: required format.
        overrides: dotlist overrides of ``inference``, ``tracking`` and ``input`` keys.
        fixed: prefixes of keys that are fixed by the graph.
        where: name of the file in error messages.
        command: the command that exports such files.

    Raises:
        InputError: not an exported file, invalid metadata, or an override of a fixed key.
    """
    if metadata.get("format") != file_format:
        raise InputError(
            f"{where}: not written by queryinst_vis, export it with 'queryinst-vis {command}'"
        )
    saved = config_from_metadata(metadata, where)
    config = apply_overrides(saved, overrides)
    for key in differences(saved, config):
        if key.startswith(fixed):
            raise InputError(f"override of {key}: fixed by the {where}")
    return config
