#![no_main]

use sawlog_protocol_fuzz::{batches, write_seeds_if_asked};

libfuzzer_sys::fuzz_target!(
    init: write_seeds_if_asked(batches::seeds),
    |input: &[u8]| batches::check(input)
);
