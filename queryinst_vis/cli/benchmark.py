"""``queryinst-vis benchmark``."""

from __future__ import annotations

import argparse

from queryinst_vis.cli.arguments import (
    Commands,
    OutputFile,
    add_command,
    add_device,
    add_overrides,
    count,
    number,
    size,
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "benchmark",
        _run,
        "Measure speed: network alone, with post-processing, and end to end from video to video.",
        "Prints the median and spread of each, FLOPs, and the fraction of the peak throughput\n"
        "that this machine reaches in the same run. All queries are post-processed, whatever\n"
        "their score; inference.score_threshold=0.3 measures what 'track' does.",
        "queryinst-vis benchmark youtube_vis/queryinst_vis_r50_2021 --threads 2",
        "queryinst-vis benchmark CONFIG inference.precision=bf16-mixed inference.compile=true",
        "queryinst-vis benchmark people --video street.mp4 inference.score_threshold=0.3",
        "queryinst-vis benchmark work/vis/best.safetensors --size 1280x720 --json out/speed.json",
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a config file or name (random weights), a .safetensors file, or a name listed by "
        "'queryinst-vis weights'",
    )
    add_overrides(parser, "inference.precision=bf16-mixed")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--size",
        type=size,
        default=(640, 360),
        metavar="WxH",
        help="size of the synthetic input clip (default: 640x360)",
    )
    source.add_argument(
        "--video", metavar="SOURCE", help="use this video or folder of frames as input instead"
    )
    parser.add_argument(
        "--frames",
        type=count,
        default=20,
        metavar="N",
        help="number of frames to measure after a warm-up (default: %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=count,
        default=1,
        metavar="N",
        help="batch size (default: %(default)s)",
    )
    parser.add_argument(
        "--threads", type=count, metavar="N", help="number of PyTorch threads (default: PyTorch's)"
    )
    add_device(parser)
    parser.add_argument(
        "--seed",
        type=number,
        default=0,
        metavar="N",
        help="random seed for weights and clip (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        type=OutputFile,
        metavar="FILE",
        help="also write all measurements as JSON; with an AP added, 'plot-speed' can plot it",
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
