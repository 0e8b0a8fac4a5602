//! Topology files: schema, checks, plan.
