//! Sans-IO replication: epochs, revisions, snapshots, tombstones, leases.
