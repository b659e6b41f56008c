#![no_main]

use sawlog_protocol::wire::Side;
use sawlog_protocol_fuzz::{messages, write_seeds_if_asked};

libfuzzer_sys::fuzz_target!(
    init: write_seeds_if_asked(|| messages::seeds(Side::Response)),
    |input: &[u8]| messages::check(Side::Response, input)
);
