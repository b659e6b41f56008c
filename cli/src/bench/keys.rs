//! Keys of a load: none, all alike, or a few that come often and many that come rarely.

/// Which keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum KeysOption {
    /// No key: partitions in turn.
    None,
    /// Each of this many as often as the others.
    Uniform(u64),
    /// The k-th most frequent of `count` comes as often as 1/k^`exponent` says.
    Zipf {
        /// 0 is uniform; 1.1 is usual.
        exponent: f64,
        /// How many different keys.
        count: u64,
    },
}

/// Keys of a distribution whose number is not given.
const COUNT: u64 = 100_000;

/// Most keys: the table of a Zipf distribution has eight bytes for each.
const COUNT_MAX: u64 = 10_000_000;

/// Parses `none`, `uniform:COUNT`, `zipf:EXPONENT` or `zipf:EXPONENT:COUNT`.
pub(super) fn parse(text: &str) -> Result<KeysOption, String> {
    let wrong = || {
        format!(
            "\"{text}\" is no distribution: expected none, uniform:COUNT, zipf:EXPONENT or \
             zipf:EXPONENT:COUNT, such as zipf:1.1"
        )
    };
    let count = |text: Option<&str>| match text {
        None => Ok(COUNT),
        Some(text) => {
            let count = text.parse::<u64>().ok().filter(|count| (1..=COUNT_MAX).contains(count));
            count.ok_or_else(wrong)
        }
    };
    let mut parts = text.split(':');
    let (name, first, second) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() {
        return Err(wrong());
    }
    match (name, first, second) {
        (Some("none"), None, None) => Ok(KeysOption::None),
        (Some("uniform"), first, None) => Ok(KeysOption::Uniform(count(first)?)),
        (Some("zipf"), Some(exponent), second) => {
            let exponent = exponent.parse::<f64>().ok().filter(|e| (0.0..=10.0).contains(e));
            Ok(KeysOption::Zipf { exponent: exponent.ok_or_else(wrong)?, count: count(second)? })
        }
        _ => Err(wrong()),
    }
}

/// Draws keys; the same ones in every run.
#[derive(Debug)]
pub(super) struct Keys {
    kind: KeysOption,
    /// Of a Zipf distribution, for each key the share of it and all before it.
    shares: Vec<f64>,
    state: u64,
}

impl Keys {
    pub(super) fn new(kind: KeysOption) -> Self {
        let shares = match kind {
            KeysOption::Zipf { exponent, count } => shares(exponent, count),
            KeysOption::None | KeysOption::Uniform(_) => Vec::new(),
        };
        Self { kind, shares, state: 0x5a17_10c0_ffee }
    }

    /// The next key.
    pub(super) fn draw(&mut self) -> Option<Vec<u8>> {
        let number = match self.kind {
            KeysOption::None => return None,
            KeysOption::Uniform(count) => self.random() % count,
            KeysOption::Zipf { .. } => {
                let point = unit(self.random());
                let at = self.shares.partition_point(|share| *share < point);
                u64::try_from(at.min(self.shares.len().saturating_sub(1))).unwrap_or(0)
            }
        };
        Some(format!("key-{number}").into_bytes())
    }

    /// SplitMix64: good enough to spread load, and needs nothing.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// In [0, 1), by the upper 32 bits: finer than the share of any key that is ever drawn.
fn unit(random: u64) -> f64 {
    let upper = u32::try_from(random >> 32).unwrap_or(u32::MAX);
    f64::from(upper) / (f64::from(u32::MAX) + 1.0)
}

fn shares(exponent: f64, count: u64) -> Vec<f64> {
    let mut sum = 0.0;
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let mut shares: Vec<f64> = (1..=count)
        .map(|rank| {
            sum += f64::from(rank).powf(-exponent);
            sum
        })
        .collect();
    for share in &mut shares {
        *share /= sum;
    }
    shares
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn drawn(option: &str, times: usize) -> HashMap<Vec<u8>, usize> {
        let mut keys = Keys::new(parse(option).unwrap());
        let mut counts = HashMap::new();
        for _ in 0..times {
            *counts.entry(keys.draw().unwrap()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn uniform_keys_come_equally_often() {
        let counts = drawn("uniform:10", 10_000);
        assert_eq!(counts.len(), 10);
        assert!(counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_second_zipf_key_comes_half_as_often_as_the_first() {
        let counts = drawn("zipf:1:1000", 100_000);
        let (first, second) = (counts[&b"key-0"[..]], counts[&b"key-1"[..]]);
        // The first of 1000 has 1/7.485 of all.
        assert!((12_800..13_900).contains(&first), "{first}");
        assert!((6_300..7_100).contains(&second), "{second}");
        assert!(counts.len() <= 1000);
    }

    #[test]
    fn distributions_are_parsed() {
        assert_eq!(parse("none"), Ok(KeysOption::None));
        assert_eq!(parse("zipf:1.1"), Ok(KeysOption::Zipf { exponent: 1.1, count: COUNT }));
        for wrong in ["", "zipf", "zipf:x", "zipf:-1", "uniform:0", "none:1", "zipf:1:2:3", "NaN"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("zipf:NaN").is_err());
        assert_eq!(Keys::new(KeysOption::None).draw(), None);
    }
}
