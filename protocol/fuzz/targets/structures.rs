#![no_main]

use sawlog_protocol_fuzz::{structures, write_seeds_if_asked};

libfuzzer_sys::fuzz_target!(
    init: write_seeds_if_asked(structures::seeds),
    |input: &[u8]| structures::check(input)
);
