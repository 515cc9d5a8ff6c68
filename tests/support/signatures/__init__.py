"""Signatures with known verdicts, made by systematic mutation in the way of C2SP/wycheproof.

Made by the formulas of the RFCs, from private keys that are the same in every run. Each module has
the cases of one kind of algorithm.
"""
