"""Hard pictures: the converged attractor at any size."""
