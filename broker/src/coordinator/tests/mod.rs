//! Tests of the core, by its inputs and outputs alone.

mod classic;
pub(super) mod driver;
mod model;
mod offsets;
