"""Post-training int8 quantization of the parts of the network that tolerate it."""

from __future__ import annotations

import re
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

import numpy as np
import torch

from queryinst_vis.inference.exported_graph import quiet

if TYPE_CHECKING:
    from openvino import Model, Node

INT8 = re.compile(r"backbone\.|neck\.|mask_heads\.\d+\.(convs|flow|upsample|predictor)\b")
"""Modules that are quantized, which is almost all of the arithmetic. Box coordinates, attention,
dynamic convolutions and embeddings need more than 8 bits."""
FINEST_STRIDE = 4
"""Backbone layers with input of a smaller stride stay in float32: the ranges of their few channels
differ too much. See the measurements in ``docs/openvino.md``."""

_NOT_COMPUTED = ("Constant", "Parameter", "Result")


def quantize(
    model: Model, places: dict[str, str], samples: list[tuple[np.ndarray, np.ndarray]]
) -> Model:
    """Quantize the modules selected by ``INT8`` and ``FINEST_STRIDE``.

    Args:
        model: converted model; modified in place.
        places: module names by operation name, as from ``module_names``.
        samples: inputs of the graph that determine the ranges of activations.
    """
    import nncf

    height = samples[0][0].shape[2]
    floats = [
        operation.get_friendly_name()
        for operation in model.get_ordered_ops()
        if operation.get_type_name() not in _NOT_COMPUTED
        and _stays_float(operation, places, height)
    ]
    with redirect_stdout(sys.stderr), quiet("nncf"):  # progress bars and notes
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            subset_size=len(samples),
            preset=nncf.QuantizationPreset.MIXED,
            # not validated, since NNCF does not list all operations of the graph
            ignored_scope=nncf.IgnoredScope(names=floats, validate=False),
        )


def module_names(graph: torch.fx.GraphModule) -> dict[str, str]:
    """Module names within the model of a ``LastStage``, by node of its traced graph."""
    names = {}
    for node in graph.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack:
            names[node.name] = list(stack.values())[-1][0].removeprefix("model.")
    return names


def _stays_float(operation: Node, places: dict[str, str], height: int) -> bool:
    """Whether an operation stays in float, for a network input of this height in pixels."""
    # OpenVINO names operations after nodes: "linear_3/.../MatMul"
    module = places.get(operation.get_friendly_name().partition("/")[0], "")
    if not INT8.match(module):
        return True
    if not module.startswith("backbone."):
        return False
    shape = operation.input_value(0).get_partial_shape()
    is_map = shape.rank.is_static and shape.rank.get_length() == 4 and shape[2].is_static
    return is_map and shape[2].get_length() > height / FINEST_STRIDE
