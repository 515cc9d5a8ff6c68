"""Fuzzing of the code that reads untrusted input first."""
