"""Help layout and arguments shared by the sub-commands."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TypeAlias

from queryinst_vis.errors import InputError
from queryinst_vis.utils.files import check_not_read

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
Run = Callable[[argparse.Namespace], None]

CONFIG_HELP = "a YAML file, or the name of a bundled config, e.g. coco/queryinst_r50_100q_1x"
_EXPORTED = "an .onnx or .xml file that 'queryinst-vis export-onnx' or 'export-openvino' wrote"
_BY_NAME = "a name listed by 'queryinst-vis weights', or hf://OWNER/NAME[/FILE][@REVISION]"


class OutputFile(type(Path())):  # type: ignore[misc]  # Path itself has subclasses from 3.12 on
    """Type of the arguments that name a file to write; see ``check_outputs``."""


def check_outputs(arguments: argparse.Namespace) -> None:
    """Raise an InputError if an output file is also an input or another output."""
    inputs: list[str | Path] = []
    outputs: list[Path] = []
    for argument in vars(arguments).values():
        for value in argument if isinstance(argument, list) else [argument]:
            if isinstance(value, OutputFile):
                check_not_read(value, *outputs)
                outputs.append(value)
            # a string may be a file, or the name of weights, a class, ...
            elif isinstance(value, Path) or (isinstance(value, str) and os.path.isfile(value)):
                inputs.append(value)
    for output in outputs:
        check_not_read(output, *inputs)


class Parser(argparse.ArgumentParser):
    """Reports invalid arguments like invalid input: one line, exit status 2.

    Attributes:
        complete: called once before parsing, to add arguments that take time to determine.
    """

    complete: Callable[[], None] | None = None

    def parse_known_args(  # type: ignore[override]  # one signature instead of overloads
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """See ``argparse``; calls ``complete`` first."""
        if self.complete is not None:
            complete, self.complete = self.complete, None
            complete()
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise an InputError instead of printing the usage."""
        raise InputError(f"{message}; see '{self.prog} --help'")


def add_command(
    commands: Commands, name: str, run: Run, summary: str, details: str, *examples: str
) -> Parser:
    """Add a sub-command whose help ends with examples."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary}\n{details}",
        epilog="\n  ".join(["example:" if len(examples) == 1 else "examples:", *examples]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    parser.add_argument("--debug", action="store_true", help="also print the traceback of an error")
    return parser


def add_config(parser: argparse.ArgumentParser, weights: bool = False) -> None:
    """CONFIG, optionally WEIGHTS, and any number of key=value."""
    parser.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    if weights:
        add_weights(parser, exported=True)
    add_overrides(parser, "train.max_steps=100")


def add_weights(parser: argparse.ArgumentParser, exported: bool = False) -> None:
    """WEIGHTS, optionally those of an exported model as well."""
    kinds = f"a .safetensors file, {_EXPORTED}, " if exported else "a .safetensors file, "
    parser.add_argument("weights", metavar="WEIGHTS", help=kinds + _BY_NAME)


def add_weights_option(parser: argparse.ArgumentParser, also: str = "") -> None:
    """--weights; ``also`` adds further kinds of values to its help."""
    parser.add_argument(
        "--weights",
        default="people",
        metavar="NAME|FILE",
        help=f"a .safetensors file, {_EXPORTED}, {_BY_NAME}{also} (default: %(default)s)",
    )


def add_choices(parser: argparse._ActionsContainer) -> None:
    """--classes, --conf (--score-threshold) and --iou: which detections are kept."""
    parser.add_argument(
        "--classes",
        type=class_list,
        metavar="A,B",
        help="only these classes, by name or 0-based label (default: all classes of the weights)",
    )
    parser.add_argument(
        "--conf",
        "--score-threshold",
        type=fraction,
        metavar="P",
        help="score threshold, 0..1 (default: that of the weights, or 0.3 if that is a "
        "benchmark value, 0.05 or 0)",
    )
    parser.add_argument(
        "--iou",
        type=fraction,
        metavar="T",
        help="IoU threshold for NMS, 0..1 (default: inference.nms_threshold of the weights)",
    )


def class_list(text: str) -> list[str | int]:
    """Comma-separated class names or labels."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise argparse.ArgumentTypeError("expected class names, such as person,car")
    return [int(word) if word.isdecimal() else word for word in words]


def add_overrides(parser: argparse.ArgumentParser, example: str) -> None:
    """Any number of key=value."""
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # otherwise argparse lists them as required
        metavar="key=value",
        help=f"config keys to change, e.g. {example}",
    )


def add_allow_outside(parser: argparse.ArgumentParser) -> None:
    """--allow-outside."""
    parser.add_argument(
        "--allow-outside",
        action="store_true",
        help="open images outside the image folder if the annotation file refers to them; only "
        "for files that you trust",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """--work-dir, --resume and --seed of a training run."""
    parser.add_argument(
        "--work-dir",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for weights, training state, curves and logs",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the training state in --work-dir"
    )
    parser.add_argument(
        "--seed", type=number, metavar="N", help="random seed (default: that of the config)"
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device."""
    parser.add_argument(
        "--device",
        default="auto",
        metavar="D",
        help="cpu, cuda, cuda:1, mps, ... (default: %(default)s, a GPU if available)",
    )


def add_devices(parser: argparse.ArgumentParser) -> None:
    """--devices and --nodes."""
    parser.add_argument(
        "--devices",
        default="auto",
        metavar="N",
        help="processes on this machine, one per device (default: %(default)s, all GPUs)",
    )
    parser.add_argument(
        "--nodes",
        type=count,
        default=1,
        metavar="N",
        help="number of nodes, with torchrun or SLURM (default: %(default)s)",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers."""
    parser.add_argument(
        "--workers",
        type=count,
        default=1,
        metavar="N",
        help="number of worker processes; worth it if one takes over a minute "
        "(default: %(default)s)",
    )


def number(text: str) -> int:
    """A non-negative integer."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a non-negative integer, got '{text}'")
    return int(text)


def names(text: str) -> list[str]:
    """Comma-separated words."""
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise argparse.ArgumentTypeError(f"expected names separated by commas, got '{text}'")
    return words


def count(text: str) -> int:
    """A positive integer."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a positive integer, got '{text}'")
    return int(text)


def fraction(text: str) -> float:
    """A number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got '{text}'")
    return value


def size(text: str) -> tuple[int, int]:
    """WxH, the width and height of a frame."""
    return two_numbers(text, r"([0-9]+)x([0-9]+)", "WxH such as 256x160")


def two_numbers(text: str, pattern: str, expected: str) -> tuple[int, int]:
    """The numbers in the two groups of a pattern; ``expected`` describes it in error messages."""
    match = re.fullmatch(pattern, text)
    if match is None:
        raise argparse.ArgumentTypeError(f"expected {expected}, got '{text}'")
    return int(match[1]), int(match[2])
