"""Decisions as pure functions: plain data in, a plan out. One policy, one file.

No I/O, clock, log or randomness here: ``now`` and identifiers are arguments."""
