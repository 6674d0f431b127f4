"""The command line as ``python -m queryinst_vis``."""

import sys

from queryinst_vis.cli import main

if __name__ == "__main__":
    sys.exit(main())
