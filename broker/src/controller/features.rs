//! What the cluster as a whole does, and in which version: ranges this version knows, and changes of
//! levels.

use crate::metadata::{Image, Record};

use super::AdminError;
use super::request::{FeatureUpdate, UpgradeType};

/// A feature and the versions this node can do it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Kafka's name.
    pub name: &'static str,
    /// The least level.
    pub min: u16,
    /// The newest level.
    pub max: u16,
    /// The level of a cluster where nobody has chosen one.
    pub initial: u16,
}

/// Groups of the consumer protocol (KIP-848): 0 refuses them.
pub const GROUP_VERSION: Feature = Feature { name: "group.version", min: 0, max: 1, initial: 1 };

/// All of them.
pub const FEATURES: [Feature; 1] = [GROUP_VERSION];

/// The level of `feature` in force.
#[must_use]
pub fn level(image: &Image, feature: &Feature) -> u16 {
    image.feature_level(feature.name).unwrap_or(feature.initial)
}

/// The record that makes the change; none where the level is that already.
///
/// # Errors
/// The level cannot be reached from the present one in the way asked for.
pub(super) fn check(image: &Image, update: &FeatureUpdate) -> Result<Option<Record>, AdminError> {
    let refused = |why: String| Err(AdminError::FeatureUpdate(format!("{}: {why}", update.name)));
    let Some(feature) = FEATURES.iter().find(|feature| feature.name == update.name) else {
        return refused("this version of Sawlog has no such feature".to_owned());
    };
    let Feature { min, max, .. } = *feature;
    let wanted = u16::try_from(update.level).ok().filter(|level| (min..=max).contains(level));
    let Some(wanted) = wanted else {
        return refused(format!("level {} is not possible, it has {min} to {max}", update.level));
    };
    let now = level(image, feature);
    match update.upgrade {
        UpgradeType::Upgrade if wanted < now => {
            refused(format!("the level is {now}: to go down to {wanted}, ask for a downgrade"))
        }
        UpgradeType::SafeDowngrade | UpgradeType::UnsafeDowngrade if wanted > now => {
            refused(format!("the level is {now}: {wanted} is not a downgrade"))
        }
        _ if wanted == now => Ok(None),
        _ => Ok(Some(Record::FeatureLevel { name: feature.name.to_owned(), level: wanted })),
    }
}
