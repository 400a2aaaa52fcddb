//! How many dead letters wait for a person.

use std::sync::Arc;

use crate::config::Config;
use crate::kafka::{OpenCounts, OpenLetters, consumer_config};

use super::Relay;

impl Relay {
    /// Starts whoever counts them, and shows the count for each destination as soon as all are known.
    pub(super) fn count_open_letters(&mut self, config: &Config) {
        let letters = OpenLetters {
            client: consumer_config(&config.kafka),
            prefix: config.kafka.prefix.clone(),
            complaints: Arc::clone(&self.complaints),
        };
        let doors = self.doors.iter();
        let doors: Vec<_> = doors
            .map(|door| (Arc::clone(&door.id), Arc::clone(&door.name)))
            .collect();
        let metrics = Arc::clone(&self.metrics);
        let show = move |counts: &OpenCounts| {
            for (id, name) in &doors {
                metrics.set_dead_letters_open(name, counts.get(id).copied().unwrap_or(0));
            }
        };
        let counting = letters.run(show, self.stop_serving.clone());
        self.background
            .spawn("the count of open dead letters", counting);
    }
}
