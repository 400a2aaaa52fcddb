//! librdkafka's settings that the file may not touch, because a promise hangs on them.

use super::options::GroupProtocol;

/// A setting that is not the file's to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// Why.
    pub reason: &'static str,
    /// What to do instead.
    pub instead: &'static str,
}

const COMMITS: Reserved = Reserved {
    reason: "an offset is committed only when every record below it is settled",
    instead: "take it out; how often positions are committed is `commit_interval` in [kafka]",
};
const WRITES: Reserved = Reserved {
    reason: "a dead letter counts as written only when every in-sync replica has it, once",
    instead: "take it out; the producer always runs idempotent with acks=all",
};
const GROUPS: Reserved = Reserved {
    reason: "each destination reads as a group of its own, <prefix>.<destination id>",
    instead: "take it out; name the groups by `prefix` in [kafka] and `id` of the destination",
};
const BROKERS: Reserved = Reserved {
    reason: "the brokers are named in one place",
    instead: "take it out; name them in `brokers` in [kafka]",
};
const PLUGINS: Reserved = Reserved {
    reason: "foreign code inside the client could change or withhold records",
    instead: "take it out",
};

/// Name and reason, by librdkafka's names; aliases and the old topic-level names have entries of their own.
const RESERVED: &[(&str, Reserved)] = &[
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("group.id", GROUPS),
    (
        "group.instance.id",
        Reserved {
            reason: "static membership can end in a fatal error when an assignment is lost",
            instead: "take it out",
        },
    ),
    (
        "group.protocol",
        Reserved {
            reason: "other settings depend on it",
            instead: "take it out; say it with `group_protocol` in [kafka]",
        },
    ),
    ("group.protocol.type", ASSIGNMENT),
    ("group.remote.assignor", ASSIGNMENT),
    ("partition.assignment.strategy", ASSIGNMENT),
    ("enable.auto.commit", COMMITS),
    ("auto.commit.enable", COMMITS),
    ("auto.commit.interval.ms", COMMITS),
    ("enable.auto.offset.store", COMMITS),
    ("offset.store.method", COMMITS),
    ("offset.store.path", COMMITS),
    ("offset.store.sync.interval.ms", COMMITS),
    (
        "auto.offset.reset",
        Reserved {
            reason: "it would step over records without counting them",
            instead: "take it out; say it with `start_at` and `on_records_lost` in [kafka]",
        },
    ),
    (
        "isolation.level",
        Reserved {
            reason: "records of aborted transactions must never be delivered",
            instead: "take it out; it is always read_committed",
        },
    ),
    (
        "enable.partition.eof",
        Reserved {
            reason: "the end of a partition is needed to commit behind its last record",
            instead: "take it out; it is always on",
        },
    ),
    (
        "allow.auto.create.topics",
        Reserved {
            reason: "a mistyped topic would be created, empty, instead of reported",
            instead: "take it out; topics of our own are made by `owned_topics` in [kafka]",
        },
    ),
    (
        "topic.blacklist",
        Reserved {
            reason: "a topic that a rule names would be silently invisible",
            instead: "take it out, and take the topic out of the rules",
        },
    ),
    ("acks", WRITES),
    ("request.required.acks", WRITES),
    ("enable.idempotence", WRITES),
    ("enable.gapless.guarantee", WRITES),
    ("max.in.flight", WRITES),
    ("max.in.flight.requests.per.connection", WRITES),
    ("retries", WRITES),
    ("message.send.max.retries", WRITES),
    ("queuing.strategy", WRITES),
    ("delivery.report.only.error", WRITES),
    (
        "transactional.id",
        Reserved {
            reason: "one id shared by several instances would fence them off each other",
            instead: "take it out",
        },
    ),
    (
        "transaction.timeout.ms",
        Reserved {
            reason: "the producer runs without transactions",
            instead: "take it out",
        },
    ),
    (
        "message.max.bytes",
        Reserved {
            reason: "a dead letter must be able to hold any record that could be read",
            instead: "take it out; the limit is the topic's own `max.message.bytes`",
        },
    ),
    ("plugin.library.paths", PLUGINS),
    ("interceptors", PLUGINS),
    (
        "test.mock.num.brokers",
        Reserved {
            reason: "the client would talk to a cluster inside itself instead of to yours",
            instead: "take it out; `postrider demo` has such a cluster",
        },
    ),
];

const ASSIGNMENT: Reserved = Reserved {
    reason: "what a lane gives back at a rebalance rests on cooperative assignment",
    instead: "take it out",
};

/// Besides, where the brokers decide who reads what.
const BY_BROKERS: &[(&str, Reserved)] = &[
    (
        "session.timeout.ms",
        Reserved {
            reason: "with `group_protocol = \"consumer\"` the brokers decide it",
            instead: "take it out; it is the brokers' `group.consumer.session.timeout.ms`",
        },
    ),
    (
        "heartbeat.interval.ms",
        Reserved {
            reason: "with `group_protocol = \"consumer\"` the brokers decide it",
            instead: "take it out; it is the brokers' `group.consumer.heartbeat.interval.ms`",
        },
    ),
];

/// Why `name` is not the file's to choose; `None` when it is.
#[must_use]
pub fn reserved(name: &str, protocol: GroupProtocol) -> Option<Reserved> {
    let besides = match protocol {
        GroupProtocol::Classic => &[],
        GroupProtocol::Consumer => BY_BROKERS,
    };
    RESERVED
        .iter()
        .chain(besides)
        .find(|(known, _)| *known == name)
        .map(|(_, reserved)| *reserved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn security_is_the_files_and_commits_are_not() {
        let classic = |name| reserved(name, GroupProtocol::Classic);
        assert_eq!(classic("security.protocol"), None);
        assert_eq!(classic("session.timeout.ms"), None);
        assert_eq!(classic("enable.auto.commit"), Some(COMMITS));
        assert!(reserved("session.timeout.ms", GroupProtocol::Consumer).is_some());
    }
}
