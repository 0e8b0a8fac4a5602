//! The process on a VM or a server.
