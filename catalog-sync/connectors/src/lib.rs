//! Where services come from: files, agents on hosts; and health checks.
