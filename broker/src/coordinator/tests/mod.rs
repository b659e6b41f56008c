//! Tests of the core, by its inputs and outputs alone.

mod classic;
mod driver;
mod offsets;
