"""Which callers may call, how much, and the audit of what they did."""
