"""Spoilt inputs and killed commands, see ``__main__.py``.

One thread for every library: this is set before any of them is imported, because a fork keeps only
the thread that forked.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
