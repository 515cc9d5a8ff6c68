"""Fuzzing: what strangers can send, at whatever reads it first."""
