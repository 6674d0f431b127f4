"""Screenshots of the three kinds of report for the documentation.

Renders a synthetic set, evaluates and fine-tunes the bundled weights ``shapes`` on it, tracks the
given video, writes a report of each, and takes screenshots with the system's Chromium::

    python benchmarks/report_pictures.py --video street.mp4 --out docs/images

Needs the packages for development and a Chromium on the PATH; takes some minutes on a CPU.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from queryinst_vis.cli import main

WIDTH, HEIGHT = 1000, 1250  # pixels of a picture


def run(*words: object) -> None:
    """Run a command of the CLI; exit with its status if it fails."""
    status = main([str(word) for word in words])
    if status:
        sys.exit(status)


def write_reports(folder: Path, video: Path) -> dict[str, Path]:
    """Write the reports; return their paths by kind."""
    data, images = folder / "set", folder / "set" / "frames"
    options = ("--preset", "bench", "--videos", 6, "--frames", 24, "--seed", 1)
    run("convert-dataset", "synthetic", data, *options)
    ground_truth, results = data / "youtube_vis.json", folder / "results.json"
    keys = (f"data.test.annotations={ground_truth}", f"data.test.images={images}")
    run("test-video", "shapes", "shapes", *keys, "--out", results)
    reports = {kind: folder / f"{kind}.html" for kind in ("evaluation", "training", "tracked")}
    run("report", ground_truth, results, "--images", images, "--out", reports["evaluation"])
    work_dir = folder / "shapes"
    options = (
        "--work-dir",
        work_dir,
        "train.max_steps=12",
        "train.eval_every=6",
        "train.samples=4",
    )
    run("finetune", "shapes", data / "coco.json", "--images", images, *options)
    run("report", work_dir, "--out", reports["training"])
    run("track", video, "--end", 3, "--save", "report", "--out", folder / "tracked")
    (tracked,) = (folder / "tracked").glob("*.html")
    return reports | {"tracked": tracked}


def take_pictures(reports: dict[str, Path], out: Path) -> None:
    """Save the top of each report as JPEG."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        sys.exit("no Chromium on the PATH")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for kind, path in reports.items():
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.goto(path.as_uri())
            page.wait_for_timeout(2000)  # wait for charts and the first frames of videos
            picture = out / f"report_{kind}.jpg"
            page.screenshot(path=picture, type="jpeg", quality=75)
            print(f"wrote {picture}")
        browser.close()


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--video", type=Path, required=True, help="video to track")
    parser.add_argument("--out", type=Path, default=Path("docs/images"), help="folder")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        take_pictures(write_reports(Path(temporary), arguments.video.resolve()), arguments.out)
