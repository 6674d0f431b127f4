"""Track, review, fine-tune, track again: the effect of 20 reviewed suggestions and a training.

    python benchmarks/review_circle.py --work work/review_circle --steps 40

The last quarter of MOTS 0005, on which the weights ``people`` were not trained, is cut in half. The
oracle of ``review_oracle.py`` reviews the tracks of the first half, which are exported with all
frames. ``people`` is fine-tuned on them and evaluated on the second half before and after. This
demonstrates the pipeline; one short run with one seed says little about the benefit of training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from review_oracle import Clip, compare, counts_of, data, metrics, open_clip, review, track_set

from queryinst_vis.data.convert import convert_mots
from queryinst_vis.data.convert.own_data import read_own_data
from queryinst_vis.errors import run_script
from queryinst_vis.inference.track import track_video
from queryinst_vis.review.export import export
from queryinst_vis.training.finetune import finetune
from queryinst_vis.utils.files import read_json, write_json_atomically

REVIEW_STEPS = 20


def export_reviewed(work: Path) -> int:
    """Review the tracks of the first half, and export them to ``work/set``.

    Returns:
        Number of accepted suggestions.
    """
    annotations, frames = work / "0005_reviewed.json", work / "frames"
    convert_mots(data() / "mots", annotations, sequences=["0005"], start=0.75, end=0.875)
    frames.mkdir()
    for name in read_json(annotations, "annotations")["videos"][0]["file_names"]:
        (frames / Path(name).name).symlink_to(data() / "mots" / "images" / name)
    track_video(frames, work / "0005_reviewed", save=("jsonl",))
    clip: Clip = open_clip("0005_reviewed", work)
    with clip.session as session:
        for step in review(clip, REVIEW_STEPS, None):
            if step.accepted is not None:
                session.apply(step.accepted)
        print(export(session, work / "set", "youtube-vis", "all"))
    return step.confirmed


def scores(weights: str, work: Path, name: str) -> dict[str, float]:
    """HOTA and IDF1 of weights on the second half, in percent."""
    images, annotations = data() / "mots", work / "unseen.json"
    if not annotations.exists():
        convert_mots(images, annotations, sequences=["0005"], start=0.875)
    track_set(annotations, images / "images", work / name, weights)
    gt, _ = compare(annotations, work / name)
    return metrics(counts_of(gt, gt.detections))


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--work", type=Path, required=True, metavar="DIR", help="output folder, new"
    )
    parser.add_argument(
        "--steps", type=int, default=40, metavar="N", help="number of training steps"
    )
    arguments = parser.parse_args()
    work = arguments.work
    work.mkdir(parents=True)
    found = {"accepted": export_reviewed(work), "before": scores("people", work, "before")}
    finetune(
        "people",
        read_own_data(work / "set" / "annotations.json", work / "set" / "frames"),
        work / "training",
        [f"train.max_steps={arguments.steps}"],
        held_out=0.0,
    )
    found["after"] = scores(str(work / "training" / "final.safetensors"), work, "after")
    print(found)
    write_json_atomically(work / "scores.json", found)


if __name__ == "__main__":
    run_script(main)
