"""One thread for every test and the processes that it starts.

Sums depend on the number of threads in their last bits, and exact resume is tested across
processes; the tensors of the tests are too small to gain from more.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported anywhere
