//! What a consumer subscribes to, read from the metadata its leader would read.

use std::sync::Arc;

use bytes::Buf as _;

/// The topics of a subscription in the consumer protocol's form; None if it has another form.
///
/// Version and topics come first in every version; what follows does not matter here.
pub(super) fn topics_of(subscription: &[u8]) -> Option<Vec<Arc<str>>> {
    let mut rest = subscription;
    let version = rest.try_get_i16().ok()?;
    let count = usize::try_from(rest.try_get_i32().ok()?).ok()?;
    // Each name takes two bytes at least: a count cannot claim more than there is.
    if version < 0 || count > rest.len() / 2 {
        return None;
    }
    (0..count).map(|_| take_string(&mut rest)).collect()
}

fn take_string(rest: &mut &[u8]) -> Option<Arc<str>> {
    let length = usize::try_from(rest.try_get_i16().ok()?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(std::str::from_utf8(text).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(version: i16, topics: &[&str]) -> Vec<u8> {
        let mut bytes = version.to_be_bytes().to_vec();
        bytes.extend(i32::try_from(topics.len()).unwrap().to_be_bytes());
        for topic in topics {
            bytes.extend(i16::try_from(topic.len()).unwrap().to_be_bytes());
            bytes.extend(topic.as_bytes());
        }
        bytes.extend([0xff; 9]);
        bytes
    }

    #[test]
    fn topics_are_read_whatever_follows() {
        for version in [0, 1, 3, 17] {
            let topics = topics_of(&subscription(version, &["a", "orders"])).unwrap();
            assert_eq!(topics, [Arc::from("a"), Arc::from("orders")]);
        }
    }

    #[test]
    fn other_bytes_are_no_subscription() {
        let whole = subscription(0, &["a", "orders"]);
        for length in 0..whole.len() - 9 {
            assert_eq!(topics_of(&whole[..length]), None, "cut at {length}");
        }
        assert_eq!(topics_of(&subscription(-1, &["a"])), None);
        assert_eq!(topics_of(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0]), None);
        assert_eq!(topics_of(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None);
    }
}
