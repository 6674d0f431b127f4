"""The sub-commands: their arguments, and the library call behind each.

Libraries are imported inside the functions that use them, so that ``--help`` answers at once.
"""

from __future__ import annotations

from queryinst_vis.cli import (
    benchmark,
    convert,
    data,
    datasets,
    diagnose,
    evaluate,
    export_onnx,
    interchange,
    plots,
    submission,
    test,
    track,
    tracking,
    train,
    weights,
)
from queryinst_vis.cli.arguments import Commands


def add_all(commands: Commands) -> None:
    """Add every sub-command, in the order in which a newcomer meets them."""
    for module in (
        track,
        train,
        test,
        evaluate,
        tracking,
        diagnose,
        datasets,
        interchange,
        data,
        submission,
        convert,
        weights,
        export_onnx,
        benchmark,
        plots,
    ):
        module.add(commands)
