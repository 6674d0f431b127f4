"""``queryinst-vis benchmark``."""

from __future__ import annotations

import argparse
from pathlib import Path

from queryinst_vis.cli.arguments import (
    Commands,
    add_command,
    add_device,
    add_overrides,
    count,
    size,
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "benchmark",
        _run,
        "Time a model: network alone, with post-processing, and from video to video.",
        "Prints median and spread of each, floating-point operations, and the share of the peak\n"
        "that this machine reaches in the same run. Every query is kept and pasted, whatever its\n"
        "score; inference.score_threshold=0.3 is what 'track' does.",
        "queryinst-vis benchmark youtube_vis/queryinst_vis_r50_2021 --threads 2",
        "queryinst-vis benchmark CONFIG inference.precision=bf16-mixed inference.compile=true",
        "queryinst-vis benchmark people --video street.mp4 inference.score_threshold=0.3",
        "queryinst-vis benchmark work/vis/best.safetensors --size 1280x720 --json out/speed.json",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a config, YAML file or name (random weights), a .safetensors file, or a name that "
        "'queryinst-vis weights' lists",
    )
    add_overrides(parser, "inference.precision=bf16-mixed")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--size",
        type=size,
        default=(640, 360),
        metavar="WxH",
        help="of the clip that is rendered to run on (default: 640x360)",
    )
    source.add_argument(
        "--video", metavar="SOURCE", help="run on this video or folder of frames instead"
    )
    parser.add_argument(
        "--frames",
        type=count,
        default=20,
        metavar="N",
        help="frames to time after a warm-up (default: %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=count,
        default=1,
        metavar="N",
        help="frames that the network sees at a time (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=count, metavar="N", help="threads of PyTorch (default: its own choice)"
    )
    add_device(parser)
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of random weights and of the rendered clip (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="also write everything, every single time included; with an AP added, 'plot-speed' "
        "draws it",
    )


def _run(arguments: argparse.Namespace) -> None:
    from queryinst_vis.benchmark.report import print_report
    from queryinst_vis.benchmark.speed import Settings, benchmark
    from queryinst_vis.utils.allocator import keep_freed_memory
    from queryinst_vis.utils.files import write_json_atomically

    keep_freed_memory()
    settings = Settings(
        size=arguments.size,
        frames=arguments.frames,
        batch=arguments.batch,
        threads=arguments.threads,
        device=arguments.device,
        video=arguments.video,
        seed=arguments.seed,
    )
    result = benchmark(arguments.model, settings, arguments.overrides)
    print_report(result)
    if arguments.json:
        write_json_atomically(arguments.json, result)
        print(f"wrote {arguments.json}")
