"""Sessions, principals, events and reasons: pure values, no I/O, no clock."""
