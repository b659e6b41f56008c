//! Which replicas are copied no faster than a rate, as Kafka's reassignment tool names them.

use super::property::list_items;
use super::value::FromText;

/// Replicas, by partition and broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ThrottledReplicas {
    /// None.
    #[default]
    None,
    /// All of the topic.
    All,
    /// These: partition, broker.
    These(Vec<(i32, i32)>),
}

impl ThrottledReplicas {
    /// Whether the replica of `partition` on `broker` is one of them.
    #[must_use]
    pub fn contains(&self, partition: i32, broker: i32) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::These(replicas) => replicas.contains(&(partition, broker)),
        }
    }
}

impl FromText for ThrottledReplicas {
    fn from_text(text: &str) -> Option<Self> {
        if list_items(text).any(|item| item == "*") {
            return Some(Self::All);
        }
        let replicas: Option<Vec<_>> = list_items(text).map(replica).collect();
        replicas.map(|all| if all.is_empty() { Self::None } else { Self::These(all) })
    }
}

/// `partition:broker`, two numbers.
fn replica(item: &str) -> Option<(i32, i32)> {
    let (partition, broker) = item.split_once(':')?;
    let number = |text: &str| text.trim().parse().ok().filter(|number: &i32| *number >= 0);
    Some((number(partition)?, number(broker)?))
}

/// An item of such a list.
pub(super) fn check_throttled_replica(item: &str) -> Result<(), String> {
    if item == "*" || replica(item).is_some() {
        return Ok(());
    }
    Err("expected partition:broker, such as 0:1, or * for all replicas".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_are_named_as_kafkas_tool_names_them() {
        let read = |text| ThrottledReplicas::from_text(text).unwrap();
        assert_eq!(read(""), ThrottledReplicas::None);
        assert_eq!(read("*"), ThrottledReplicas::All);
        let some = read("0:101,1:102");
        assert!(some.contains(0, 101) && some.contains(1, 102) && !some.contains(0, 102));
        assert!(ThrottledReplicas::All.contains(7, 7) && !ThrottledReplicas::None.contains(7, 7));
        for wrong in ["0", "0:", ":1", "a:1", "0:1:2", "-1:2", "none"] {
            assert!(check_throttled_replica(wrong).is_err(), "{wrong}");
            assert_eq!(ThrottledReplicas::from_text(wrong), None, "{wrong}");
        }
    }
}
