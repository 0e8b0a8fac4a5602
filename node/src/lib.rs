//! What gateways and agents have in common.
