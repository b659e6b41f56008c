//! Replication as a whole: cores of several brokers, a controller, and what goes wrong between them.

mod world;
