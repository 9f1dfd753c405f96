//! Controllers that stand in for a cluster.
