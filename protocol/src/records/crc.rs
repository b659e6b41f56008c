//! CRC-32C, the checksum of record batches.
//!
//! The only place that calls the checksum crate, so that changing it is a change of one line.

/// CRC-32C (Castagnoli, "iSCSI") of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_value_is_the_one_of_crc_32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }
}
