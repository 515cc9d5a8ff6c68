"""What several tests share: a clock, tokens, and real servers."""
