"""authsvc: who is asking, on which session, and with what they may work."""

__version__ = "0.1.0"
