//! Shared by the shells: drain, signals, health, telemetry, files, clock.
