//! 128-bit ids as Kafka writes them: base64url without padding.

use std::fmt;
use std::str::FromStr;

/// A topic, cluster or directory id.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl Uuid {
    /// "No id" on the wire.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is [`Uuid::ZERO`].
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 22 digits of 6 bits hold 132 bits: the id is followed by four zero bits.
        let bits = u128::from_be_bytes(self.0);
        for digit in 0..22u32 {
            let index =
                if digit < 21 { (bits >> (122 - 6 * digit)) & 63 } else { (bits << 4) & 63 };
            let index = usize::try_from(index).unwrap_or(0);
            write!(f, "{}", char::from(ALPHABET[index]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a 22-digit base64url id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidUuid;

impl fmt::Display for InvalidUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an id: expected 22 base64url digits")
    }
}

impl std::error::Error for InvalidUuid {}

impl FromStr for Uuid {
    type Err = InvalidUuid;

    fn from_str(text: &str) -> Result<Self, InvalidUuid> {
        if text.len() != 22 {
            return Err(InvalidUuid);
        }
        let mut bits = 0u128;
        for (at, byte) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|a| *a == byte).ok_or(InvalidUuid)?;
            let digit = u128::try_from(digit).map_err(|_| InvalidUuid)?;
            if at < 21 {
                bits = (bits << 6) | digit;
            } else if digit & 15 == 0 {
                bits = (bits << 2) | (digit >> 4);
            } else {
                return Err(InvalidUuid);
            }
        }
        Ok(Self(bits.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_kafkas_base64url() {
        // Kafka's Uuid.ONE_UUID and an id printed by its tools.
        let mut one = [0; 16];
        one[15] = 1;
        assert_eq!(Uuid(one).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        let id: Uuid = "MkU3OEVBNTcwNTJENDM2Qg".parse().unwrap();
        assert_eq!(&id.0, b"2E78EA57052D436B");
        assert_eq!(id.to_string(), "MkU3OEVBNTcwNTJENDM2Qg");
    }

    #[test]
    fn wrong_lengths_and_stray_bits_are_refused() {
        assert_eq!("abc".parse::<Uuid>(), Err(InvalidUuid));
        assert_eq!("AAAAAAAAAAAAAAAAAAAAA_".parse::<Uuid>(), Err(InvalidUuid));
        assert_eq!("AAAAAAAAAAAAAAAAAAAA*A".parse::<Uuid>(), Err(InvalidUuid));
    }
}
