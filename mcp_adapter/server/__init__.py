"""The reference server: its app, settings, command line and telemetry."""
