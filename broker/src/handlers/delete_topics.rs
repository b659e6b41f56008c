//! DeleteTopics: each topic on its own, by name, or by id from version 6.

use sawlog_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse,
};
use sawlog_protocol::{ErrorCode, Rope, Uuid};

use super::RequestContext;
use super::admin::outcome;
use crate::controller::{AdminError, DeleteTopic};

/// The first version that knows "deletion is disabled".
const KNOWS_DISABLED: i16 = 3;

/// Deletes topics.
pub(crate) async fn handle(ctx: &RequestContext<'_>, request: DeleteTopicsRequest<'_>) -> Rope {
    let asked = asked(&request);
    let valid = asked.iter().filter_map(|one| one.wanted.clone().ok()).collect();
    let mut results = ctx.node.controller.delete_topics(valid).await.into_iter();
    let answers: Vec<Answer> = asked
        .into_iter()
        .map(|one| {
            let result = one.wanted.clone().and_then(|_| results.next().unwrap_or_else(stopped));
            answer(one, result, ctx.version)
        })
        .collect();
    ctx.reply(&DeleteTopicsResponse {
        responses: answers.iter().map(Answer::encode).collect(),
        ..Default::default()
    })
}

fn stopped<T>() -> Result<T, AdminError> {
    Err(AdminError::Storage("the controller has stopped".to_owned()))
}

/// One topic of the request.
#[derive(Debug)]
struct Asked {
    name: Option<String>,
    id: Uuid,
    wanted: Result<DeleteTopic, AdminError>,
}

fn asked(request: &DeleteTopicsRequest<'_>) -> Vec<Asked> {
    let by_name = request.topic_names.iter().map(|name| (Some(*name), Uuid::ZERO));
    let states = request.topics.iter().map(|state| (state.name, state.topic_id));
    by_name
        .chain(states)
        .map(|(name, id)| {
            let wanted = match name {
                Some(name) if id.is_zero() => Ok(DeleteTopic::Name(name.to_owned())),
                None if !id.is_zero() => Ok(DeleteTopic::Id(id)),
                _ => Err(AdminError::InvalidRequest(
                    "a topic to delete is named by its name or by its id, not by both or neither"
                        .to_owned(),
                )),
            };
            Asked { name: name.map(str::to_owned), id, wanted }
        })
        .collect()
}

/// What became of one topic, holding the text its reply borrows.
#[derive(Debug)]
struct Answer {
    name: Option<String>,
    id: Uuid,
    error_code: ErrorCode,
    message: Option<String>,
}

fn answer(asked: Asked, result: Result<(String, Uuid), AdminError>, version: i16) -> Answer {
    let (mut error_code, message) = outcome(&result);
    if error_code == ErrorCode::TOPIC_DELETION_DISABLED && version < KNOWS_DISABLED {
        error_code = ErrorCode::INVALID_REQUEST;
    }
    match result {
        Ok((name, id)) => Answer { name: Some(name), id, error_code, message },
        Err(_) => Answer { name: asked.name, id: asked.id, error_code, message },
    }
}

impl Answer {
    fn encode(&self) -> DeletableTopicResult<'_> {
        DeletableTopicResult {
            name: self.name.as_deref(),
            topic_id: self.id,
            error_code: self.error_code,
            error_message: self.message.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use sawlog_protocol::messages::delete_topics::DeleteTopicState;

    use super::*;

    #[test]
    fn a_topic_is_named_in_exactly_one_way() {
        let id = Uuid([1; 16]);
        let topics = vec![
            DeleteTopicState { name: Some("a"), topic_id: Uuid::ZERO },
            DeleteTopicState { name: None, topic_id: id },
            DeleteTopicState { name: Some("a"), topic_id: id },
            DeleteTopicState { name: None, topic_id: Uuid::ZERO },
        ];
        let asked = asked(&DeleteTopicsRequest { topics, ..Default::default() });
        assert_eq!(asked[0].wanted, Ok(DeleteTopic::Name("a".to_owned())));
        assert_eq!(asked[1].wanted, Ok(DeleteTopic::Id(id)));
        assert!(asked[2].wanted.is_err() && asked[3].wanted.is_err());
    }

    #[test]
    fn old_clients_hear_invalid_request_where_deletion_is_disabled() {
        let one = || Asked {
            name: Some("t".to_owned()),
            id: Uuid::ZERO,
            wanted: Ok(DeleteTopic::Name("t".to_owned())),
        };
        let code = |version| answer(one(), Err(AdminError::DeletionDisabled), version).error_code;
        assert_eq!(code(2), ErrorCode::INVALID_REQUEST);
        assert_eq!(code(3), ErrorCode::TOPIC_DELETION_DISABLED);
    }

    #[test]
    fn a_topic_deleted_by_id_is_answered_with_its_name() {
        let id = Uuid([1; 16]);
        let asked = Asked { name: None, id, wanted: Ok(DeleteTopic::Id(id)) };
        let answer = answer(asked, Ok(("t".to_owned(), id)), 6);
        let encoded = answer.encode();
        assert_eq!((encoded.name, encoded.topic_id), (Some("t"), id));
        assert_eq!(encoded.error_code, ErrorCode::NONE);
    }
}
