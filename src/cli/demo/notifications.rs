//! What the demo produces: notifications as GraphSpace writes them, with the oddities that GraphSpace really writes.

use serde_json::{Value, json};

/// The topics, as GraphSpace names them.
pub(super) const TOPICS: [&str; 3] = ["owner", "group", "watching"];

/// How many notifications there are.
const COUNT: usize = 360;
/// The owner of this graph joined by link and has no address.
const WITHOUT_ADDRESS: usize = 21;
/// This value is not JSON.
const NOT_JSON: usize = 41;
/// This value is null.
const NULL: usize = 54;

const GRAPHS: [&str; 5] = ["wnt", "egfr1", "hedgehog", "notch", "tgf-beta"];
const OWNER_TYPES: [&str; 6] = ["upload", "create", "upload", "update", "upload", "delete"];
const GROUP_TYPES: [&str; 6] = ["share", "add", "share", "unshare", "share", "remove"];

/// One record to produce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notification {
    pub(super) topic: &'static str,
    /// `None` is a null value.
    pub(super) value: Option<String>,
}

/// All of them, in order; the same in every run.
pub(super) fn all() -> Vec<Notification> {
    (0..COUNT).map(notification).collect()
}

fn notification(number: usize) -> Notification {
    let [owner, group, watching] = TOPICS;
    let topic = match number % 20 {
        1 | 3 | 5 | 7 | 9 | 11 | 13 | 15 | 17 | 19 => owner,
        0 | 10 => watching,
        _ => group,
    };
    let value = match number {
        NULL => None,
        NOT_JSON => Some("Traceback (most recent call last): ...".to_owned()),
        _ if topic == group => Some(of_group(number).to_string()),
        _ => Some(of_graph(number).to_string()),
    };
    Notification { topic, value }
}

/// What `owner` and `watching` carry.
fn of_graph(number: usize) -> Value {
    let email = match number {
        WITHOUT_ADDRESS => Value::Null,
        _ => json!(format!("user{}@example.com", number % 7)),
    };
    let kind = match number {
        WITHOUT_ADDRESS => "upload",
        _ => OWNER_TYPES[number / 2 % OWNER_TYPES.len()],
    };
    let resource = if number.is_multiple_of(5) {
        "layout"
    } else {
        "graph"
    };
    let graph = GRAPHS[number % GRAPHS.len()];
    json!({
        "owner_email": email,
        "message": format!("{resource} {graph}: {kind}."),
        "resource": resource,
        "resource_id": id(number),
        "type": kind,
    })
}

/// What `group` carries: one group or several, a list that may be empty, an owner or none.
fn of_group(number: usize) -> Value {
    let kind = GROUP_TYPES[number / 2 % GROUP_TYPES.len()];
    let member = matches!(kind, "add" | "remove");
    let resource = if member { "group_member" } else { "graph" };
    let graph = GRAPHS[number % GRAPHS.len()];
    let mut value = json!({
        "message": format!("{resource} {graph}: {kind}."),
        "resource": resource,
        "resource_id": id(number),
        "type": kind,
    });
    match number % 3 {
        0 => value["group_ids"] = json!([3, 5]),
        1 => value["group_id"] = id(number / 3),
        _ => value["group_ids"] = json!([]),
    }
    if !number.is_multiple_of(4) {
        value["owner_email"] = json!(format!("user{}@example.com", number % 7));
    }
    value
}

/// GraphSpace writes the same id as a number here and as text there.
fn id(number: usize) -> Value {
    if number.is_multiple_of(2) {
        json!(number)
    } else {
        json!(number.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_oddity_is_there_once_and_where_it_is_looked_for() {
        let all = all();
        let parsed = |n: &Notification| {
            n.value
                .as_deref()
                .map(serde_json::from_str::<Value>)
                .and_then(Result::ok)
        };
        assert_eq!(
            all[NULL],
            Notification {
                topic: "group",
                value: None
            }
        );
        assert_eq!(all.iter().filter(|n| n.value.is_none()).count(), 1);
        assert_eq!(all[NOT_JSON].topic, "owner");
        assert_eq!(all.iter().filter(|n| parsed(n).is_none()).count(), 2);
        let nobody = |n: &&Notification| {
            parsed(n).is_some_and(|v| v.get("owner_email").is_some_and(Value::is_null))
        };
        assert_eq!(
            all.iter().filter(nobody).collect::<Vec<_>>(),
            [&all[WITHOUT_ADDRESS]]
        );
        assert_eq!(all[WITHOUT_ADDRESS].topic, "owner");
        for topic in TOPICS {
            assert!(
                all.iter().filter(|n| n.topic == topic).count() >= 30,
                "{topic}"
            );
        }
    }
}
