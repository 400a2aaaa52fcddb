//! How much waits inside librdkafka before a lane takes it: a part of what the lane has of the process's memory.

use rdkafka::ClientConfig;

use super::options::Properties;

/// From this share on more would make nothing faster: queue and answer of each client are as large as they need to be.
const ENOUGH: usize = 32 << 20;
/// What a queue and an answer hold at least. A record that is larger comes alone.
const LEAST: usize = 64 << 10;
/// The bounds with enough: of the topics' client, and of the ladder's, from where next to nothing comes.
const TOPICS: Bounds = Bounds {
    queue: 8 << 20,
    answer: 4 << 20,
};
const LADDER: Bounds = Bounds {
    queue: 2 << 20,
    answer: 1 << 20,
};
/// What a lane with the smallest share has inside librdkafka.
pub const QUEUED_BYTES_MIN: usize = 4 * LEAST;

/// In bytes: a client holds a full queue, and an answer that was asked for before it was full.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    queue: usize,
    answer: usize,
}

impl Bounds {
    fn of_share(self, share: usize) -> Self {
        let part = |bytes: usize| {
            let part = bytes as f64 * (share as f64 / ENOUGH as f64).min(1.0);
            (part as usize).max(LEAST)
        };
        Self {
            queue: part(self.queue),
            answer: part(self.answer),
        }
    }

    /// Where the file has its own, those hold.
    fn set(self, config: &mut ClientConfig, properties: &Properties) {
        let bounds = [
            ("queued.max.messages.kbytes", self.queue >> 10),
            ("fetch.max.bytes", self.answer),
        ];
        for (name, value) in bounds {
            if !properties.0.contains_key(name) {
                config.set(name, value.to_string());
            }
        }
        // A damaged record is to be noticed, and not delivered as it is.
        config.set("check.crcs", "true");
        // The producer's; librdkafka refuses answers that are smaller than it.
        config.set("message.max.bytes", "1000");
    }
}

/// Bounds what waits in the client of a lane's topics; `share` is what the lane has of the process's memory, in bytes.
pub(super) fn bound_topics(config: &mut ClientConfig, properties: &Properties, share: usize) {
    TOPICS.of_share(share).set(config, properties);
}

/// The same for the client of its ladder.
pub(super) fn bound_ladder(config: &mut ClientConfig, properties: &Properties, share: usize) {
    LADDER.of_share(share).set(config, properties);
}

/// How many bytes a client with these settings may hold.
pub(super) fn queued_bytes(config: &ClientConfig) -> usize {
    let number = |name| config.get(name).and_then(|text| text.parse::<usize>().ok());
    let queue = number("queued.max.messages.kbytes").map(|kib| kib.saturating_mul(1024));
    let answer = number("fetch.max.bytes");
    queue
        .unwrap_or(TOPICS.queue)
        .saturating_add(answer.unwrap_or(TOPICS.answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(share: usize, own: &[(&str, &str)]) -> [usize; 2] {
        let own = own
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let properties = Properties(own.collect());
        let of = |bound: fn(&mut ClientConfig, &Properties, usize)| {
            let mut config = ClientConfig::from_iter(properties.0.clone());
            bound(&mut config, &properties, share);
            queued_bytes(&config)
        };
        [of(bound_topics), of(bound_ladder)]
    }

    #[test]
    fn what_waits_in_librdkafka_is_a_part_of_the_lanes_share() {
        for share in [1 << 20, 8 << 20, 32 << 20, 256 << 20] {
            let [topics, ladder] = queued(share, &[]);
            assert!((topics + ladder) * 2 <= share, "{share}: {topics} {ladder}");
        }
        assert_eq!(queued(1 << 30, &[]), [12 << 20, 3 << 20]);
        assert_eq!(queued(0, &[]).iter().sum::<usize>(), QUEUED_BYTES_MIN);
    }

    #[test]
    fn what_the_file_says_of_librdkafka_holds_and_is_counted() {
        let own = [("queued.max.messages.kbytes", "65536")];
        assert_eq!(queued(32 << 20, &own), [68 << 20, 65 << 20]);
    }
}
