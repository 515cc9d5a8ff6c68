"""The demo: all parts on one machine, with buckets to list."""
