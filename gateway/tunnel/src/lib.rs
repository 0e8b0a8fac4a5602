//! The tunnel as a shell: QUIC endpoints, streams, probes, copying.
