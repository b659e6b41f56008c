//! Tests of the core, by its inputs and outputs alone.

mod classic;
mod consumer;
pub(super) mod driver;
mod migration;
mod mixed;
mod model;
mod offsets;
mod seeded;
