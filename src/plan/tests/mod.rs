//! Scenarios over the pure plan: a world of values in which plans are carried out and pods come up, with the properties of
//! design.md checked after every single write.

mod adversity;
mod anti_affinity;
mod availability;
mod blue_green;
mod canary_services;
mod deadline;
mod duration;
mod environment;
mod explain;
mod inherited;
mod injected;
mod kept_versions;
mod live_pods;
mod plugin;
mod properties;
mod rollback_window;
mod scenarios;
mod takeover;
mod workload;
mod world;
