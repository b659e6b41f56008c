//! Zigzag varints, the integers inside a record batch.
//!
//! Messages use unsigned varints and have their own reader; only records use the zigzag form. Reads
//! advance the slice they are given. A value of more bits than its type is refused, not cut.

/// Reads a 32-bit zigzag varint of at most 5 bytes. `None`: cut off, or too long.
#[inline]
pub(super) fn read_varint(input: &mut &[u8]) -> Option<i32> {
    // Almost every varint of a small record has one byte or two: lengths from 64 bytes on and
    // offsets from the 65th record on take two.
    let (value, rest) = match **input {
        [first, ref rest @ ..] if first < 0x80 => (u64::from(first), rest),
        [first, second, ref rest @ ..] if second < 0x80 => (two_bytes(first, second), rest),
        _ => read_unsigned(input, 5)?,
    };
    *input = rest;
    u32::try_from(value).ok().map(unzigzag)
}

/// Reads a 64-bit zigzag varint of at most 10 bytes. `None`: cut off, or too long.
#[inline]
pub(super) fn read_varlong(input: &mut &[u8]) -> Option<i64> {
    let (value, rest) = match **input {
        [first, ref rest @ ..] if first < 0x80 => (u64::from(first), rest),
        [first, second, ref rest @ ..] if second < 0x80 => (two_bytes(first, second), rest),
        _ => read_unsigned(input, 10)?,
    };
    *input = rest;
    Some(unzigzag_long(value))
}

fn two_bytes(first: u8, second: u8) -> u64 {
    u64::from(first & 0x7f) | u64::from(second) << 7
}

/// The loop for any length. Takes and returns the slice by value: behind a pointer it would keep
/// the callers' cursors in memory.
#[inline(never)]
fn read_unsigned(input: &[u8], max_bytes: usize) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (index, &byte) in input.iter().take(max_bytes).enumerate() {
        let shift = 7 * index;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds one bit of the value.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte < 0x80 {
            return Some((value, input.get(index + 1..)?));
        }
    }
    None
}

/// Appends a 32-bit zigzag varint.
pub(super) fn write_varint(output: &mut Vec<u8>, value: i32) {
    write_unsigned(output, u64::from(zigzag(value)));
}

/// Appends a 64-bit zigzag varint.
pub(super) fn write_varlong(output: &mut Vec<u8>, value: i64) {
    write_unsigned(output, zigzag_long(value));
}

/// Bytes that [`write_varint`] writes.
pub(super) fn varint_len(value: i32) -> usize {
    unsigned_len(u64::from(zigzag(value)))
}

/// Bytes that [`write_varlong`] writes.
pub(super) fn varlong_len(value: i64) -> usize {
    unsigned_len(zigzag_long(value))
}

fn write_unsigned(output: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        output.push(low_byte(value) | 0x80);
        value >>= 7;
    }
    output.push(low_byte(value));
}

fn unsigned_len(value: u64) -> usize {
    // Bits in use, at least one, in groups of seven.
    let bits = u64::BITS - (value | 1).leading_zeros();
    usize::try_from(bits.div_ceil(7)).unwrap_or(10)
}

fn low_byte(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

fn zigzag_long(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn unzigzag_long(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn zigzag_has_the_documented_bytes() {
        let cases: [(i64, &[u8]); 6] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (64, &[0x80, 0x01]),
            (-65, &[0x81, 0x01]),
        ];
        for (value, bytes) in cases {
            let mut output = Vec::new();
            write_varlong(&mut output, value);
            assert_eq!(output, bytes);
        }
    }

    #[test]
    fn too_many_bits_and_cut_off_varints_are_refused() {
        assert_eq!(read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(i32::MIN));
        assert_eq!(read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
        assert_eq!(read_varint(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]), None);
        assert_eq!(read_varint(&mut &[0x80][..]), None);
        assert_eq!(read_varint(&mut &[][..]), None);
        let mut longest = [0xff; 10];
        longest[9] = 0x01;
        assert_eq!(read_varlong(&mut &longest[..]), Some(i64::MIN));
        longest[9] = 0x02;
        assert_eq!(read_varlong(&mut &longest[..]), None);
    }

    proptest! {
        #[test]
        fn reading_inverts_writing(value: i64, small: i32) {
            let mut output = Vec::new();
            write_varlong(&mut output, value);
            prop_assert_eq!(output.len(), varlong_len(value));
            write_varint(&mut output, small);
            prop_assert_eq!(output.len(), varlong_len(value) + varint_len(small));
            let mut input = output.as_slice();
            prop_assert_eq!(read_varlong(&mut input), Some(value));
            prop_assert_eq!(read_varint(&mut input), Some(small));
            prop_assert!(input.is_empty());
        }
    }
}
