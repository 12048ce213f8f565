//! A group of real replicas, the clusters that it watches, and those who watch the group.

mod api_server;
mod client;
mod environment;
mod folder;
mod group;
mod judge;
mod ports;
mod recorder;
mod replica;
mod stage;
mod usage;
mod wait;
mod world;

pub(crate) use api_server::{ApiServer, Authority, EMPTY_LIST, Reply, Script, empty_cluster};
pub(crate) use client::{Client, masked_update};
pub(crate) use environment::from_environment;
pub(crate) use folder::copy_folder;
pub(crate) use group::{Group, Options, expect_no_way_back, member_ids, progress_of};
pub(crate) use judge::Gaps;
pub(crate) use ports::free_ports;
pub(crate) use recorder::{Record, Recorder};
pub(crate) use replica::Replica;
pub(crate) use stage::{CONFIGMAPS, EVENTS, Stage, StageOptions};
pub(crate) use usage::Usage;
pub(crate) use wait::{PATIENCE, eventually, holds};
pub(crate) use world::{World, WorldOptions, described, registered};
