"""Runs the command line from a clone, for the scripts in tools/ and demo/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from queryinst_vis.cli import main

OTHER_NAMES = {"track_video": "track", "zip_results": "zip"}


def run(script: str) -> None:
    """Run the command of a script, given by its file name (``tools/eval_video.py``: eval-video)."""
    name = Path(script).stem
    command = OTHER_NAMES.get(name, name.replace("_", "-"))
    sys.exit(main([command, *sys.argv[1:]]))
