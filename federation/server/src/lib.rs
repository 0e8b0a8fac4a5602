//! The federation process: gRPC, REST, store, certificate authority.
