"""Exported models at work: what an ONNX file computes, by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from queryinst_vis.checkpoints.weights import config_from_metadata
from queryinst_vis.config import Config, apply_overrides, differences
from queryinst_vis.data.transforms import padded_size
from queryinst_vis.errors import InputError
from queryinst_vis.inference.onnx_export import FORMAT, INPUTS, require_packages
from queryinst_vis.models.queryinst import QueryInstOutput, gather_rows
from queryinst_vis.structures import StageOutput
from queryinst_vis.utils.tensor_files import check_readable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
FIXED = ("model.", "inference.precision", "inference.compile")
EXPORT = "queryinst-vis export-onnx WEIGHTS --size {}x{} --output FILE"

Size = tuple[int, int]


def load_onnx_model(
    path: str | Path,
    device: str | torch.device = "auto",
    overrides: list[str] | None = None,
) -> tuple[OnnxModel, Config]:
    """Open an exported model, and read its config.

    Args:
        path: a file that ``export_onnx`` wrote.
        device: ``"auto"`` takes the GPU where onnxruntime-gpu finds one; ``"cpu"``, with as many
            threads as PyTorch has; ``"cuda"``.
        overrides: dotlist changes of the inference, tracking and input keys; what the graph
            computes is fixed.

    Raises:
        InputError: the file is missing, broken or of another project; an override of the graph;
            a device that onnxruntime does not have; or onnxruntime is not installed.
    """
    require_packages("onnxruntime")
    path = Path(path)
    session = _open(path, _choose_providers(str(device)))
    saved = _read_config(session, path)
    config = apply_overrides(saved, overrides or [])
    for key in differences(saved, config):
        if key.startswith(FIXED):
            raise InputError(f"override of {key}: fixed by the ONNX file {path}")
    return OnnxModel(session, path), config


class OnnxModel:
    """An exported model, with as much of the interface of ``QueryInst`` as ``detect`` needs.

    Args:
        session: of the file.
        path: of the file, for messages.

    Attributes:
        device: of its inputs and outputs: the CPU.
        has_track_head: whether it gives embeddings of a track head.
        height, width: of the network input, in pixels.
        batch: images of one run.
    """

    device = torch.device("cpu")

    def __init__(self, session: InferenceSession, path: Path) -> None:
        self._session, self._path = session, path
        self._outputs = [output.name for output in session.get_outputs()]
        self.has_track_head = "embeddings" in self._outputs
        self.batch, _, self.height, self.width = session.get_inputs()[0].shape

    def __call__(self, images: Tensor, image_sizes: list[Size]) -> QueryInstOutput:
        """As ``QueryInst.forward``; ``features`` holds the masks and embeddings of all queries.

        Raises:
            InputError: a network input is larger than the model's.
        """
        self._check_fits(image_sizes)
        parts = [slice(start, start + self.batch) for start in range(0, len(images), self.batch)]
        runs = [self._run(images[part], image_sizes[part]) for part in parts]
        found = {name: torch.cat([run[name] for run in runs])[: len(images)] for name in runs[0]}
        queries = found["queries"]
        # nothing reads q*: it is for the heads, which ran
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
            needed = padded_size(image_sizes)
            raise InputError(
                f"a network input of {width}x{height} does not fit {self._path}, which was "
                f"exported for {self.width}x{self.height}: export for this size with "
                f"'{EXPORT.format(*needed[::-1])}', or lower input.test_long and input.test_short"
            )

    def _run(self, images: Tensor, image_sizes: list[Size]) -> dict[str, Tensor]:
        """The outputs by name, for a whole batch; missing images are padded with blank ones."""
        count, _, height, width = images.shape
        missing = self.batch - count
        images = F.pad(images, (0, self.width - width, 0, self.height - height, 0, 0, 0, missing))
        sizes = [*image_sizes, *[(self.height, self.width)] * missing]
        inputs = (images.contiguous().numpy(), np.array(sizes, dtype=np.float32))
        outputs = self._session.run(self._outputs, dict(zip(INPUTS, inputs, strict=True)))
        return {
            name: torch.from_numpy(values)
            for name, values in zip(self._outputs, outputs, strict=True)
        }


def _choose_providers(device: str) -> list[str]:
    """The execution providers that may run a graph, in order of preference."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    names = [name for name, provider in PROVIDERS.items() if provider in available]
    if device not in ("auto", *names):
        raise InputError(
            f"device '{device}': this onnxruntime has {', '.join(names)}; CUDA takes the package "
            "onnxruntime-gpu in the place of onnxruntime"
        )
    # a GPU leaves single operators to the CPU
    return [PROVIDERS[name] for name in names if device != "cpu" or name == "cpu"]


def _open(path: Path, providers: list[str]) -> InferenceSession:
    import onnxruntime

    check_readable(path, "ONNX file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # threads that spin while they wait take cores from decoding, tracking and PyTorch
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; warnings are about nodes of the graph
    try:
        return onnxruntime.InferenceSession(path, options, providers)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise InputError(
            f"ONNX file {path}: broken, or not for onnxruntime {onnxruntime.__version__} ({error})"
        ) from error


def _read_config(session: InferenceSession, path: Path) -> Config:
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get("format") != FORMAT:
        raise InputError(
            f"ONNX file {path}: not written by queryinst_vis, export it with "
            "'queryinst-vis export-onnx'"
        )
    return config_from_metadata(metadata, f"ONNX file {path}")
