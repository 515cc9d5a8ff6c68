"""Sections of the report, each a module with ``async def run(options) -> Section``."""
