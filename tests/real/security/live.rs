//! `postrider check --live` in front of TLS: an authority that is not trusted is said, of Kafka and of a receiver.

use crate::check_live::check;
use crate::harness::config::{Config, Destination};
use crate::harness::receiver::Receiver;

use super::guarded::Guarded;

#[test]
fn check_live_says_whose_certificate_is_not_trusted() {
    let guarded = Guarded::shared();
    guarded.broker.create_topic("live-tls", 1, &[]);
    let receiver = Receiver::ok();
    // The broker's own door is a server with a certificate like any other.
    let untrusted = format!("https://{}/", guarded.ssl);
    let config = |ca: &std::path::Path| {
        Config::new(&guarded.ssl, "live-tls-relay")
            .topics(&["live-tls"])
            .destination(Destination::new("hook", &receiver.url()))
            .property("security.protocol", "SSL")
            .property("ssl.ca.location", &ca.display().to_string())
    };
    let said = check(&config(&guarded.ca), &[]);
    assert_eq!(said.code, 0, "{}", said.all);
    said.finds("kafka", "ok");

    let said = check(&config(&guarded.other_ca), &[]);
    assert_eq!(said.code, 69, "{}", said.all);
    let refused = said.finds("kafka", "unreachable");
    assert!(refused.contains("certificate"), "{refused}");

    let config = config(&guarded.ca).destination(Destination::new("tls", &untrusted));
    let said = check(&config, &[]);
    assert_eq!(said.code, 69, "{}", said.all);
    let refused = said.finds("destination tls", "unreachable");
    assert!(refused.contains("TLS fails"), "{refused}");
}
