//! How families are made and registered.

use std::collections::HashMap;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

/// Makes and registers families, each under the program's prefix.
pub(super) struct Families<'a> {
    pub(super) registry: &'a Registry,
    pub(super) histograms: &'a Registry,
}

impl Families<'_> {
    pub(super) fn add<T: prometheus::core::Collector + Clone + 'static>(
        &self,
        family: Result<T, prometheus::Error>,
    ) -> Result<T, prometheus::Error> {
        let family = family?;
        self.registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    pub(super) fn plain_counter(
        &self,
        name: &str,
        help: &str,
    ) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::with_opts(opts(name, help)))
    }

    pub(super) fn plain_gauge(
        &self,
        name: &str,
        help: &str,
    ) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(opts(name, help)))
    }

    pub(super) fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(opts(name, help), labels))
    }

    pub(super) fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(opts(name, help), labels))
    }

    pub(super) fn seconds(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<GaugeVec, prometheus::Error> {
        self.add(GaugeVec::new(opts(name, help), labels))
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec());
        let family = HistogramVec::new(options, &["destination"])?;
        self.histograms.register(Box::new(family.clone()))?;
        Ok(family)
    }
}

/// Takes out the series of a destination.
pub(super) fn forget<T: MetricVecBuilder>(family: &MetricVec<T>, destination: &str) {
    for shown in family.collect() {
        for series in shown.get_metric() {
            let labels = series.get_label().iter();
            let labels: HashMap<&str, &str> =
                labels.map(|pair| (pair.name(), pair.value())).collect();
            if labels.get("destination") == Some(&destination)
                && let Err(error) = family.remove(&labels)
            {
                tracing::debug!(%error, "a series was gone already");
            }
        }
    }
}

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("postrider_{name}"), help)
}
