"""Fuzzing of inputs and killing of commands, see ``__main__.py``.

The number of threads is set to 1 before any library is imported, since only the forking thread
survives in a fork.
"""

import os

for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")
