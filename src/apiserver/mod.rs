//! The embedded Kubernetes-compatible API.
