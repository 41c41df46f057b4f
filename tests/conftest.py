"""What all tests need before they load torch."""

import os

# As `files.command.run_script` does: on a busy machine idle threads that spin make some tests take
# 20 times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores among themselves
    os.environ.setdefault("OMP_NUM_THREADS", "1")
