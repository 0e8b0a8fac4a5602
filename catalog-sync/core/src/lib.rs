//! Sans-IO intake of service sources: ownership, conflicts, debounce, bounds.
