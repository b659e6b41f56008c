//! UpdateFeatures: what the cluster as a whole does, and in which version.
//!
//! All changes of a request or none are made. Up to version 1 each feature is answered for itself:
//! where one is refused, the others are told that they were not attempted. Later versions have one
//! answer for all.

use sawlog_protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use sawlog_protocol::{ErrorCode, Rope};

use super::RequestContext;
use super::admin::outcome;
use crate::controller::{FeatureUpdate, UpgradeType};

/// Changes levels.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: UpdateFeaturesRequest<'_>) -> Rope {
    let updates: Option<Vec<FeatureUpdate>> =
        request.feature_updates.iter().map(|update| wanted(update, ctx.version)).collect();
    let Some(updates) = updates else {
        return ctx.reply(&UpdateFeaturesResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            error_message: Some("the upgrade type must be 1, 2 or 3"),
            ..Default::default()
        });
    };
    let results = ctx.node.controller.update_features(updates, request.validate_only).await;
    let outcomes: Vec<_> = results.iter().map(outcome).collect();
    ctx.reply(&respond(&request, &outcomes, ctx.version))
}

/// `None` for a kind of change that does not exist. Version 0 only knows whether down is allowed.
fn wanted(update: &FeatureUpdateKey<'_>, version: i16) -> Option<FeatureUpdate> {
    let upgrade = match (version, update.upgrade_type, update.allow_downgrade) {
        (0, _, false) | (1.., 1, _) => UpgradeType::Upgrade,
        (0, _, true) | (1.., 2, _) => UpgradeType::SafeDowngrade,
        (1.., 3, _) => UpgradeType::UnsafeDowngrade,
        _ => return None,
    };
    let (name, level) = (update.feature.to_owned(), update.max_version_level);
    Some(FeatureUpdate { name, level, upgrade })
}

fn respond<'a>(
    request: &UpdateFeaturesRequest<'a>,
    outcomes: &'a [(ErrorCode, Option<String>)],
    version: i16,
) -> UpdateFeaturesResponse<'a> {
    let refused = outcomes.iter().find(|(error_code, _)| error_code.is_error());
    let top = refused.filter(|_| version >= 2);
    let answers = request.feature_updates.iter().zip(outcomes);
    let results = answers.map(|(update, (error_code, message))| UpdatableFeatureResult {
        feature: update.feature,
        error_code: match *error_code {
            ErrorCode::NONE if refused.is_some() => ErrorCode::OPERATION_NOT_ATTEMPTED,
            other => other,
        },
        error_message: message.as_deref(),
    });
    UpdateFeaturesResponse {
        error_code: top.map_or(ErrorCode::NONE, |(error_code, _)| *error_code),
        error_message: top.and_then(|(_, message)| message.as_deref()),
        results: results.collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refusal_is_told_of_all_and_of_each() {
        let update = |feature| FeatureUpdateKey { feature, ..Default::default() };
        let request = UpdateFeaturesRequest {
            feature_updates: vec![update("a"), update("b")],
            ..Default::default()
        };
        let outcomes =
            [(ErrorCode::NONE, None), (ErrorCode::INVALID_UPDATE_VERSION, Some("x".to_owned()))];
        let newest = respond(&request, &outcomes, 2);
        assert_eq!(newest.error_code, ErrorCode::INVALID_UPDATE_VERSION);
        assert_eq!(newest.error_message, Some("x"));
        let older = respond(&request, &outcomes, 1);
        let codes: Vec<_> = older.results.iter().map(|result| result.error_code).collect();
        assert_eq!(older.error_code, ErrorCode::NONE);
        let not_attempted = ErrorCode::OPERATION_NOT_ATTEMPTED;
        assert_eq!(codes, [not_attempted, ErrorCode::INVALID_UPDATE_VERSION]);
    }

    #[test]
    fn the_kind_of_a_change_is_read_as_its_version_has_it() {
        let of = |version, upgrade_type, allow_downgrade| {
            let key = FeatureUpdateKey { upgrade_type, allow_downgrade, ..Default::default() };
            wanted(&key, version).map(|update| update.upgrade)
        };
        assert_eq!(of(0, 1, true), Some(UpgradeType::SafeDowngrade));
        assert_eq!(of(0, 1, false), Some(UpgradeType::Upgrade));
        assert_eq!(of(1, 3, false), Some(UpgradeType::UnsafeDowngrade));
        assert_eq!(of(2, 1, true), Some(UpgradeType::Upgrade));
        assert_eq!(of(2, 0, false), None);
    }
}
