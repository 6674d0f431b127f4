"""What the queue of ``review`` is worth: identities set right by the number of looks it takes.

    python benchmarks/review_queue.py --out work/review_queue.json

The looks are those of the oracle of ``review_oracle.py``. ``perfect`` is what
``evaluation.identities.regroup`` makes of the same regions. Beside it the same queue in random
order, by ten seeds. Videos come from QUERYINST_VIS_DATA/data, and their tracks, by the weights
``people``, stay in ``--cache``.
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

from queryinst_vis.evaluation.tracking_metrics import TrackingCounts
from queryinst_vis.utils.files import write_json_atomically

LOOKS = (0, 5, 10, 20, 40)
SEEDS = 10


def curve(clip: Clip, seed: int | None, start: TrackingCounts) -> list[tuple[int, TrackingCounts]]:
    """Confirmed suggestions and counts after each number of ``LOOKS``.

    Args:
        clip: what is reviewed.
        seed: shuffles the queue; None: the best first.
        start: counts of the tracks as they were found.
    """
    looks = list(review(clip, max(LOOKS), seed))
    reached = [looks[min(number, len(looks) - 1)] for number in LOOKS]
    counts = {0: start}  # by the number of confirmed suggestions: the others change no track
    for look in reached:
        if look.confirmed not in counts:
            counts[look.confirmed] = counts_of(clip.gt, detections_of(clip, look.state))
    return [(look.confirmed, counts[look.confirmed]) for look in reached]


def score(names: list[str], cache: Path, seeds: int) -> dict[str, Any]:
    """The figures of each clip, and of the SBI clips together."""
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
        table[name]["confirmed"] = [right for right, _ in ranked]
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
        random_ones = [[metrics(counts)[key] for counts in run] for run in shuffled]
        gain = best[key] - values[0]
        row[key] = {
            "ranked": values,
            "share": [(value - values[0]) / gain if gain > 0.005 else None for value in values],
            "shuffled": [mean(column) for column in zip(*random_ones, strict=True)],
            "deviation": [stdev(column) for column in zip(*random_ones, strict=True)],
            "perfect": best[key],
        }
    return row


def show(table: dict[str, Any], console: Console) -> None:
    """A table a metric."""
    for key in ("IDF1", "HOTA"):
        shown = Table(
            "clip", *(f"{looks}" for looks in LOOKS), "perfect", title=f"{key}, % (share)"
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
        "--seeds", type=int, default=SEEDS, metavar="N", help="random orders, two or more"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write all figures")
    arguments = parser.parse_args()
    found = score(arguments.clips, arguments.cache, arguments.seeds)
    show(found, Console())
    if arguments.out:
        write_json_atomically(arguments.out, found)


if __name__ == "__main__":
    main()
