//! Starts, ends, loads and watches real processes.
