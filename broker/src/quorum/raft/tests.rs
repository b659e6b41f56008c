//! Facts about the files of a node, and about several real nodes in one process.

mod cluster;
mod disk;
mod lives;
mod messages;
