//! A deterministic world of virtual time for the cores, and its oracles.
