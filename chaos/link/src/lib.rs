//! A link between two gateways as a user-space UDP relay.
