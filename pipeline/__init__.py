"""From videos to behaviour; see README.md."""

import os

# OpenMP reads it when torch is loaded. Threads that wait otherwise spin, and hold the cores that other programs want:
# with two threads on two busy cores a training step of a pose-only model took 3.3 s instead of 0.13 s, and 16 times the
# processor time. A value that the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
