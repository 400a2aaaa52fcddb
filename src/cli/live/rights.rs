//! Which rights a daemon needs, and the commands that grant those that are missing.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Config, DestinationConfig};
use crate::kafka::{Held, Resource, Right};

use super::finding::{Findings, State};

/// Something that rights are needed on.
pub(super) struct Need {
    pub(super) of: Resource,
    pub(super) names: BTreeSet<String>,
    /// What nothing works without.
    pub(super) must: &'static [Right],
    /// What is only for looking after things.
    pub(super) should: &'static [Right],
}

/// What is needed on topics that rules name, on topics of our own that are there, and on groups.
pub(super) fn needs(
    config: &Config,
    destinations: &[&DestinationConfig],
    topics: BTreeSet<String>,
    owned: BTreeSet<String>,
) -> [Need; 3] {
    let prefix = &config.kafka.prefix;
    let mut ids: Vec<&str> = destinations.iter().map(|d| &*d.id).collect();
    if config.rule_file().needs_audit() {
        ids.push(crate::kafka::AUDIT);
    }
    let groups = ids.iter().map(|id| format!("{prefix}.{id}")).collect();
    [
        Need {
            of: Resource::Topic,
            names: topics,
            must: &[Right::Read],
            should: &[Right::DescribeConfigs],
        },
        Need {
            of: Resource::Topic,
            names: owned,
            must: &[Right::Read, Right::Write],
            should: &[Right::DescribeConfigs],
        },
        Need {
            of: Resource::Group,
            names: groups,
            must: &[Right::Read],
            should: &[],
        },
    ]
}

impl Need {
    fn kind(&self) -> &'static str {
        match self.of {
            Resource::Topic => "topic",
            Resource::Group => "group",
        }
    }

    /// Judges what we hold; a command for each thing that lacks something.
    pub(super) fn judge(
        &self,
        held: &BTreeMap<String, Held>,
        granting: &Granting,
        findings: &mut Findings,
    ) {
        let mut fine = Vec::new();
        for name in &self.names {
            let about = format!("{} {name}", self.kind());
            let nothing = Held::Unknown("the broker does not tell".to_owned());
            match held.get(name).unwrap_or(&nothing) {
                Held::Rights(rights) => {
                    let lacks = |wanted: &[Right]| -> Vec<Right> {
                        let lacks = wanted.iter().filter(|right| !rights.contains(right));
                        lacks.copied().collect()
                    };
                    let (must, should) = (lacks(self.must), lacks(self.should));
                    if must.is_empty() && should.is_empty() {
                        fine.push(name.as_str());
                        continue;
                    }
                    let (state, why) = if must.is_empty() {
                        let why = "without it nobody notices settings that would lose records";
                        (State::Warning, why)
                    } else {
                        (State::Wrong, "grant it, as shown below")
                    };
                    let missing = [must, should].concat();
                    let text = format!("the right {} is missing: {why}", words(&missing));
                    findings.add(state, about, text);
                    findings.grant.push(granting.command(self, name, &missing));
                }
                // A group that has no members yet may be unknown; whether it may be joined is told when it is.
                Held::Missing if self.of == Resource::Group => {
                    let text =
                        "is new, and the broker tells no rights on a group before it is there";
                    findings.add(State::Ok, about, text);
                }
                Held::Missing => {
                    let text = "there is no such topic; make it, or mend `topics` in [[rules]]: \
                                until it is there, nothing is read";
                    findings.add(State::Wrong, about, text);
                }
                Held::Nothing => {
                    let missing = [self.must, self.should].concat();
                    let text = format!(
                        "the rights {} are missing: grant them, as shown below",
                        words(&missing)
                    );
                    findings.add(State::Wrong, about, text);
                    findings.grant.push(granting.command(self, name, &missing));
                }
                Held::Unknown(reason) => {
                    let text = format!("our rights are not known: {reason}");
                    findings.add(State::Warning, about, text);
                }
            }
        }
        if !fine.is_empty() {
            let text = format!("{} granted: {}", words(self.must), fine.join(", "));
            findings.add(State::Ok, format!("rights on {}s", self.kind()), text);
        }
    }
}

/// What stands in every command.
pub(super) struct Granting {
    brokers: String,
    principal: String,
}

impl Granting {
    pub(super) fn new(config: &Config) -> Self {
        let properties = &config.kafka.properties.0;
        let user = ["sasl.username", "sasl.kerberos.principal"]
            .iter()
            .find_map(|name| properties.get(*name));
        Self {
            brokers: config.kafka.brokers.join(","),
            principal: user.map_or_else(|| "NAME".to_owned(), Clone::clone),
        }
    }

    fn command(&self, need: &Need, name: &str, missing: &[Right]) -> String {
        let Self { brokers, principal } = self;
        let operations: String = missing
            .iter()
            .map(|right| format!(" --operation {}", right.name()))
            .collect();
        format!(
            "kafka-acls.sh --bootstrap-server {brokers} --add --allow-principal User:{principal}{operations} --{} {name}",
            need.kind()
        )
    }
}

fn words(rights: &[Right]) -> String {
    let names: Vec<&str> = rights.iter().map(|right| right.name()).collect();
    names.join(" and ")
}
