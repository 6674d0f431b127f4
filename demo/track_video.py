"""``queryinst-vis track``, from a clone without installation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))

from _run import run

if __name__ == "__main__":
    run(__file__)
