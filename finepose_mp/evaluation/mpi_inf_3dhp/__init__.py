"""MPI-INF-3DHP's protocol: its arithmetic, the same with loops to measure it by, what is scored, and how it is told."""
