"""What all tests need before they load torch."""

import os

# As `ifs_files.run` does: on a busy machine idle threads that spin make some tests take 20 times as long.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
