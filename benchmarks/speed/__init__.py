"""Speed against peers and against the floor, the time of the bare matrix products."""
