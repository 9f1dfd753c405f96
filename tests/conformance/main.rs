//! The same scenarios on the embedded cluster and, where `KUBEBUILDER_ASSETS` names etcd and kube-apiserver, on a real
//! API server; driven by RPCs and by the very patches that kubectl and its plugin send. Properties are checked for every write.

#[path = "../support/kubernetes.rs"]
mod kubernetes;

mod drive;
mod frugality;
mod history;
mod interference;
mod scenarios;
mod world;
