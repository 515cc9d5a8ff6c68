"""ResolveSession: the decision table on a store, a verifier and a broker; its cache."""
