"""Evaluate the ranking of suggestions: IDF1 and HOTA by the number of suggestions reviewed.

    python benchmarks/review_queue.py --out work/review_queue.json

The reviewer is the oracle of ``review_oracle.py``. The baseline reviews the same suggestions in
random order; the upper bound, ``perfect``, has the same regions with the ground-truth identities
(``evaluation.identities.regroup``). Videos are read from QUERYINST_VIS_DATA/data; their tracks, by
the weights ``people``, are stored in ``--cache``.
"""

from __future__ import annotations

import argparse
from functools import reduce
from operator import add
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from review_oracle import SCORED, Clip, counts_of, detections_of, metrics, open_clip, review
from rich.console import Console
from rich.table import Table

from queryinst_vis.errors import run_script
from queryinst_vis.evaluation.tracking_metrics import TrackingCounts
from queryinst_vis.utils.files import write_json_atomically

STEPS = (0, 5, 10, 20, 40)
"""Numbers of suggestions reviewed."""

SEEDS = 10


def curve(clip: Clip, seed: int | None, start: TrackingCounts) -> list[tuple[int, TrackingCounts]]:
    """Number of accepted suggestions and tracking counts after each number of ``STEPS``.

    Args:
        clip: the clip.
        seed: seed of a random order; None: by rank.
        start: counts of the uncorrected tracks.
    """
    states = list(review(clip, max(STEPS), seed))
    reached = [states[min(number, len(states) - 1)] for number in STEPS]
    counts = {0: start}  # by the number of accepted suggestions: dismissals change no track
    for step in reached:
        if step.confirmed not in counts:
            counts[step.confirmed] = counts_of(clip.gt, detections_of(clip, step.state))
    return [(step.confirmed, counts[step.confirmed]) for step in reached]


def score(names: list[str], cache: Path, seeds: int) -> dict[str, Any]:
    """The results of each clip, and of all SBI clips together."""
    table = {}
    pooled: dict[str, list[TrackingCounts]] = {}
    for name in names:
        clip = open_clip(name, cache)
        start = counts_of(clip.gt, detections_of(clip, clip.session.state))
        ranked = curve(clip, None, start)
        shuffled = [curve(clip, seed, start) for seed in range(seeds)]
        perfect = counts_of(clip.gt, clip.perfect)
        table[name] = _row(
            [counts for _, counts in ranked],
            [[counts for _, counts in run] for run in shuffled],
            perfect,
        )
        table[name]["confirmed"] = [confirmed for confirmed, _ in ranked]
        clip.session.close()
        if SCORED.get(name, ("", {}))[0] == "sbi_people":
            own = {"perfect": [perfect], "ranked": [counts for _, counts in ranked]}
            own |= {f"seed {k}": [counts for _, counts in run] for k, run in enumerate(shuffled)}
            for key, counts in own.items():
                before = pooled.get(key)
                pooled[key] = (
                    [reduce(add, pair) for pair in zip(before, counts, strict=True)]
                    if before
                    else counts
                )
    if pooled:
        runs = [pooled[f"seed {k}"] for k in range(seeds)]
        table["SBI, all clips"] = _row(pooled["ranked"], runs, pooled["perfect"][0])
    return table


def _row(
    ranked: list[TrackingCounts], shuffled: list[list[TrackingCounts]], perfect: TrackingCounts
) -> dict[str, Any]:
    best, row = metrics(perfect), {}
    for key in best:
        values = [metrics(counts)[key] for counts in ranked]
        columns = list(
            zip(*([metrics(each)[key] for each in run] for run in shuffled), strict=True)
        )
        gain = best[key] - values[0]
        row[key] = {
            "ranked": values,
            "share": [(value - values[0]) / gain if gain > 0.005 else None for value in values],
            "shuffled": [mean(column) for column in columns],
            "deviation": [stdev(column) for column in columns],
            "perfect": best[key],
        }
    return row


def show(table: dict[str, Any], console: Console) -> None:
    """Print a table per metric."""
    for key in ("IDF1", "HOTA"):
        shown = Table(
            "clip",
            *(f"{steps}" for steps in STEPS),
            "perfect",
            title=f"{key}, % (share of the possible gain)",
        )
        for name, row in table.items():
            values = row[key]
            cells = [
                f"{value:.1f}" + ("" if part is None else f" ({part:.0%})")
                for value, part in zip(values["ranked"], values["share"], strict=True)
            ]
            shown.add_row(name, *cells, f"{values['perfect']:.1f}")
            cells = [
                f"{value:.1f} ±{spread:.1f}"
                for value, spread in zip(values["shuffled"], values["deviation"], strict=True)
            ]
            shown.add_row("  shuffled", *cells, "")
        console.print(shown)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", nargs="+", metavar="NAME", default=list(SCORED))
    parser.add_argument("--cache", type=Path, default=Path("work/review_queue"), metavar="DIR")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, metavar="N", help="number of random orders, at least 2"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all results")
    arguments = parser.parse_args()
    found = score(arguments.clips, arguments.cache, arguments.seeds)
    show(found, Console())
    if arguments.out:
        write_json_atomically(arguments.out, found)


if __name__ == "__main__":
    run_script(main)
