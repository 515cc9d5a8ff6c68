"""Generated messages that are no part of the contract."""
