"""How much hardware so many users take, from figures that were measured. See docs/sizing.md."""
