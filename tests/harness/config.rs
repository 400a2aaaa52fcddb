//! Writes configuration files: the least that runs, and whatever lines a test adds.

use std::fmt::Write;

/// A configuration file in the making. The admin port is not in it: every instance has its own.
#[derive(Debug, Clone)]
pub struct Config {
    brokers: String,
    prefix: String,
    start_at: String,
    topics: Vec<String>,
    kafka: Vec<String>,
    properties: Vec<String>,
    limits: Vec<String>,
    notification: Option<String>,
    destinations: Vec<Destination>,
    more: String,
}

/// A webhook in a configuration file.
#[derive(Debug, Clone)]
pub struct Destination {
    name: String,
    url: String,
    topics: Option<Vec<String>>,
    lane: Vec<String>,
    webhook: Vec<String>,
}

impl Config {
    /// For this Kafka, with this prefix for groups and owned topics: `earliest`, a session of 6 s, a drain of 10 s.
    pub fn new(brokers: &str, prefix: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            prefix: prefix.to_owned(),
            start_at: "earliest".to_owned(),
            topics: vec![],
            kafka: vec![],
            properties: vec![],
            limits: vec![],
            notification: None,
            destinations: vec![],
            more: String::new(),
        }
        .property("session.timeout.ms", "6000")
        .property("heartbeat.interval.ms", "1000")
        .limits(r#"drain = "10s""#)
    }

    /// The topics that every destination reads unless it names its own.
    pub fn topics(mut self, topics: &[&str]) -> Self {
        self.topics = topics.iter().map(|&t| t.to_owned()).collect();
        self
    }

    /// Adds a destination, and a rule of the same name that gives it everything in its topics.
    pub fn destination(mut self, destination: Destination) -> Self {
        self.destinations.push(destination);
        self
    }

    /// The same for each of these.
    pub fn destinations(self, destinations: impl Iterator<Item = Destination>) -> Self {
        destinations.fold(self, Self::destination)
    }

    /// Another `start_at`.
    pub fn start_at(mut self, start_at: &str) -> Self {
        start_at.clone_into(&mut self.start_at);
        self
    }

    /// Adds a line to `[kafka]`, such as `commit_interval = "100ms"`.
    pub fn kafka(mut self, line: &str) -> Self {
        self.kafka.push(line.to_owned());
        self
    }

    /// With `group_protocol = "consumer"`, where sessions and heartbeats are the broker's.
    pub fn consumer_protocol(mut self) -> Self {
        let brokers = |line: &String| {
            line.starts_with("session.timeout") || line.starts_with("heartbeat.interval")
        };
        self.properties.retain(|line| !brokers(line));
        self.kafka(r#"group_protocol = "consumer""#)
    }

    /// Sets a property of librdkafka; the last one of a name counts.
    pub fn property(self, name: &str, value: &str) -> Self {
        self.property_toml(name, &format!("\"{value}\""))
    }

    /// The same with the value as TOML, such as `{ env = "PASSWORD" }`.
    pub fn property_toml(mut self, name: &str, value: &str) -> Self {
        self.properties
            .retain(|line| !line.starts_with(&format!("{name} =")));
        self.properties.push(format!("{name} = {value}"));
        self
    }

    /// Sets a line of `[limits]`; the last one of a key counts.
    pub fn limits(mut self, line: &str) -> Self {
        let key = line.split('=').next().unwrap_or(line).to_owned();
        self.limits.retain(|l| !l.starts_with(&key));
        self.limits.push(line.to_owned());
        self
    }

    /// Replaces the body of `[notification]`.
    pub fn notification(mut self, lines: &str) -> Self {
        self.notification = Some(lines.to_owned());
        self
    }

    /// Adds whole sections at the end.
    pub fn more(mut self, text: &str) -> Self {
        self.more.push_str(text);
        self.more.push('\n');
        self
    }

    /// The prefix.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The consumer group of a destination.
    pub fn group(&self, destination: &str) -> String {
        format!("{}.{destination}", self.prefix)
    }

    /// The topic of dead letters.
    pub fn dead_letters(&self) -> String {
        format!("{}.dead-letters", self.prefix)
    }

    /// The file, for an instance whose admin server listens on this port.
    pub fn text(&self, admin_port: u16) -> String {
        let notification = self.notification.as_deref().unwrap_or(
            r#"type = [{ topic = true }, { field = "/type" }, { field = "/resource" }]"#,
        );
        let mut text = format!(
            "[kafka]\nbrokers = [\"{}\"]\nprefix = \"{}\"\nstart_at = \"{}\"\n{}\n\
             [kafka.properties]\n{}\n[limits]\n{}\n[notification]\n{notification}\n\n",
            self.brokers,
            self.prefix,
            self.start_at,
            lines(&self.kafka),
            lines(&self.properties),
            lines(&self.limits),
        );
        for destination in &self.destinations {
            destination.write(&mut text, &self.topics);
        }
        text.push_str(&self.more);
        let admin = format!("[admin]\nlisten = \"127.0.0.1:{admin_port}\"\nsocket = \"p.sock\"");
        writeln!(text, "{admin}").expect("a string takes all");
        text
    }
}

impl Destination {
    /// A webhook of that name at that URL.
    pub fn new(name: &str, url: &str) -> Self {
        let (name, url) = (name.to_owned(), url.to_owned());
        Self {
            name,
            url,
            topics: None,
            lane: vec![],
            webhook: vec![],
        }
    }

    /// Topics of its own.
    pub fn topics(mut self, topics: &[&str]) -> Self {
        self.topics = Some(topics.iter().map(|&t| t.to_owned()).collect());
        self
    }

    /// Adds a line to `[destinations.NAME]`, such as `concurrency = 4`.
    pub fn lane(mut self, line: &str) -> Self {
        self.lane.push(line.to_owned());
        self
    }

    /// Adds a line to `[destinations.NAME.webhook]`, such as `timeouts = { total = "1s" }`.
    pub fn webhook(mut self, line: &str) -> Self {
        self.webhook.push(line.to_owned());
        self
    }

    fn write(&self, text: &mut String, topics: &[String]) {
        let topics = self.topics.as_deref().unwrap_or(topics);
        let name = &self.name;
        let section = format!(
            "[destinations.{name}]\n{}\n[destinations.{name}.webhook]\nurl = \"{}\"\n{}\n\
             [[rules]]\nname = \"{name}\"\ntopics = {topics:?}\ndeliver_to = [\"{name}\"]\n\n",
            lines(&self.lane),
            self.url,
            lines(&self.webhook),
        );
        text.push_str(&section);
    }
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}
