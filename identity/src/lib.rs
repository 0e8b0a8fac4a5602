//! SPIFFE certificates, verifiers, bundles, invites and tokens.
