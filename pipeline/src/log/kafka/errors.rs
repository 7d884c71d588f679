//! From librdkafka's codes to what the caller will do, and the last thing a broker complained about.

use std::sync::Mutex;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::log::LogError;

/// What clients of one cluster last complained about: a request that merely timed out is explained by it.
#[derive(Debug, Default)]
pub(super) struct Health {
    last: Mutex<Option<(Code, String)>>,
}

impl Health {
    /// Remembers a complaint about the connection; others (librdkafka calls the end of a partition an error) have their
    /// own ways. One about credentials isn't forgotten for a lesser one.
    pub(super) fn complained(&self, code: Code, reason: &str) {
        if !is_credentials(code) && !is_connection(code) {
            return;
        }
        let mut last = lock(&self.last);
        let worse = last.as_ref().is_some_and(|(before, _)| is_credentials(*before));
        if !worse || is_credentials(code) {
            *last = Some((code, reason.to_owned()));
        }
    }

    /// An answer came: what was complained about before is over.
    pub(super) fn answered(&self) {
        *lock(&self.last) = None;
    }

    /// `what` failed with `error`.
    pub(super) fn explain(&self, what: &str, error: &KafkaError) -> LogError {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        if let KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) = error {
            return LogError::Refused {
                reason: format!("{what}: {error}"),
                hint: "correct the Kafka settings; names and values are librdkafka's".to_owned(),
            };
        }
        self.explain_code(what, code)
    }

    /// `what` failed with `code`.
    pub(super) fn explain_code(&self, what: &str, code: Code) -> LogError {
        let last = lock(&self.last).clone();
        if let Some((before, reason)) = &last
            && is_credentials(*before)
        {
            return refused(what, *before, reason);
        }
        if hint(code).is_some() {
            return refused(what, code, &code.to_string());
        }
        let before = last.map(|(_, reason)| format!("; before that: {reason}")).unwrap_or_default();
        LogError::Unavailable { reason: format!("{what}: {code}{before}") }
    }
}

/// A mutex whose data stays whole whatever its holders did.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn refused(what: &str, code: Code, reason: &str) -> LogError {
    LogError::Refused {
        reason: format!("{what}: {reason}"),
        hint: hint(code).unwrap_or("see the broker's log").to_owned(),
    }
}

fn is_connection(code: Code) -> bool {
    matches!(code, Code::AllBrokersDown | Code::BrokerTransportFailure | Code::Resolve | Code::OperationTimedOut)
}

fn is_credentials(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SSL
    )
}

/// The way out where waiting doesn't help.
fn hint(code: Code) -> Option<&'static str> {
    Some(match code {
        _ if is_credentials(code) => {
            "check user name, password, mechanism and certificates, and which port the cluster's listener has"
        }
        Code::TopicAuthorizationFailed => "let this user read, write, create and describe the topic (kafka-acls)",
        Code::GroupAuthorizationFailed => "let this user read the group (kafka-acls)",
        Code::ClusterAuthorizationFailed => {
            "let this user create topics and write idempotently on the cluster (kafka-acls)"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::UnsupportedForMessageFormat => {
            "the brokers are too old: Apache Kafka 2.5 or newer is needed"
        }
        Code::InvalidReplicationFactor => "there are fewer brokers than copies asked for: lower the replication",
        Code::InvalidPartitions
        | Code::InvalidTopic
        | Code::InvalidConfig
        | Code::InvalidArgument
        | Code::InvalidRequest => "correct the topic's name, partitions or settings",
        Code::PolicyViolation => "the cluster's policy forbids it: ask its owner",
        Code::InvalidSessionTimeout => {
            "keep the session between the brokers' group.min and group.max.session.timeout.ms"
        }
        Code::InconsistentGroupProtocol => {
            "another member of the group uses another assignor: Muster's members need a group of their own"
        }
        Code::InvalidGroupId => "correct the group's name",
        _ => return None,
    })
}

/// The member that asked is no longer in the group, or its generation is over.
pub(super) fn is_stale_member(code: Code) -> bool {
    matches!(
        code,
        Code::IllegalGeneration
            | Code::UnknownMemberId
            | Code::RebalanceInProgress
            | Code::FencedInstanceId
            | Code::AssignmentLost
            | Code::FencedMemberEpoch
            | Code::StaleMemberEpoch
    )
}

/// The topic, or the partition, isn't there.
pub(super) fn is_unknown_topic(code: Code) -> bool {
    matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId)
}

/// The place to read from isn't in the partition, or isn't what it was.
pub(super) fn is_out_of_range(code: Code) -> bool {
    matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation)
}

/// Reading can't go on: a person must act first.
pub(super) fn is_final(code: Code) -> bool {
    is_credentials(code) || code == Code::TopicAuthorizationFailed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_is_explained_by_a_refused_login() {
        let health = Health::default();
        health.complained(Code::Authentication, "broker: SASL authentication failed");
        health.complained(Code::AllBrokersDown, "1/1 brokers are down");
        let error = health.explain_code("metadata of all topics", Code::OperationTimedOut);
        assert!(matches!(error, LogError::Refused { .. }), "{error}");
    }

    #[test]
    fn a_broker_that_is_away_is_waited_for() {
        let health = Health::default();
        health.complained(Code::AllBrokersDown, "1/1 brokers are down");
        let error = health.explain_code("metadata of all topics", Code::OperationTimedOut);
        let LogError::Unavailable { reason } = error else { panic!("{error}") };
        assert!(reason.contains("1/1 brokers are down"), "{reason}");
    }
}
