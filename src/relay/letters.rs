//! How many dead letters wait for a person.

use std::sync::Arc;

use crate::config::Config;
use crate::kafka::{OpenCounts, OpenLetters, consumer_config};

use super::Relay;
use super::operators::FrontDesk;

impl Relay {
    /// Starts whoever counts them, and shows the count for each destination as soon as all are known.
    pub(super) fn count_open_letters(&mut self, config: &Config, desk: Arc<FrontDesk>) {
        let letters = OpenLetters {
            client: consumer_config(&config.kafka),
            prefix: config.kafka.prefix.clone(),
            complaints: Arc::clone(&self.complaints),
        };
        let metrics = Arc::clone(&self.metrics);
        let show = move |counts: &OpenCounts| {
            for door in desk.doors.all() {
                let count = counts.get(&door.id).copied().unwrap_or(0);
                metrics.set_dead_letters_open(&door.name, count);
            }
        };
        let counting = letters.run(show, self.stop_serving.clone());
        self.background
            .spawn("the count of open dead letters", counting);
    }
}
