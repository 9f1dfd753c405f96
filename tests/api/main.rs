//! The API as its clients see it: a tonic client against the services over an embedded cluster.
//!
//! Most of it runs within the process and in virtual time; `serving` speaks over TCP. No worker runs: what a controller would
//! have written, each test writes itself, except in `moving`, where a whole control plane does.


mod apply;
mod apply_refused;
mod bad_input;
mod create;
mod delete;
mod expect;
mod limits;
mod not_yet;
mod promote;
mod reads;
mod request_ids;
mod trees;
mod update;
mod verbs;
mod watches;
mod world;
