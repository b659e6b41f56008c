//! Facts about the files of a node, and about several real nodes in one process.

mod alone;
mod cluster;
mod disk;
mod lives;
mod messages;
mod voters;
