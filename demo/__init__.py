"""The demo: the whole thing on one machine, with buckets to look at."""
