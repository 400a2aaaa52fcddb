//! By which names the address may be asked.
//!
//! A page in somebody's browser may ask under a name of its own that leads here, and would read the answer; it cannot ask under an address.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::Access;

/// Answers only who asks by an address, as localhost, or by a name of the file.
pub(super) async fn known_host(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    if is_addressed_well(&request, &access.allowed_hosts()) {
        return next.run(request).await;
    }
    let text = "ask by the address, as localhost, or by a name that [admin] allowed_hosts has\n";
    (StatusCode::FORBIDDEN, text).into_response()
}

/// One `Host`, and where the request line names one too, both.
fn is_addressed_well(request: &Request, allowed: &[String]) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let in_line = request.uri().authority();
    host.to_str().is_ok_and(|host| is_known(host, allowed))
        && in_line.is_none_or(|authority| is_known(authority.as_str(), allowed))
}

fn is_known(host: &str, allowed: &[String]) -> bool {
    let Ok(authority) = host.parse::<Authority>() else {
        return false;
    };
    let name = authority.host();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let named = |known: &str| name.eq_ignore_ascii_case(known);
    !host.contains('@')
        && (named("localhost")
            || bare.parse::<IpAddr>().is_ok()
            || allowed.iter().any(|known| named(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_localhost_and_names_of_the_file_are_known() {
        let allowed = ["postrider.example".to_owned()];
        for host in [
            "127.0.0.1:8474",
            "localhost",
            "LOCALHOST:1",
            "[::1]:8474",
            "[::1]",
            "10.0.0.1",
            "Postrider.Example:8474",
        ] {
            assert!(is_known(host, &allowed), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8474",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            "a.postrider.example",
            "localhost@evil.example",
            "evil.example@localhost",
        ] {
            assert!(!is_known(host, &allowed), "{host}");
        }
    }

    #[test]
    fn a_request_is_addressed_to_one_host() {
        let ask = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            is_addressed_well(&request.body(axum::body::Body::empty()).unwrap(), &[])
        };
        assert!(ask("/", &["localhost"]));
        assert!(ask("http://127.0.0.1/", &["localhost"]));
        assert!(!ask("/", &[]));
        assert!(!ask("/", &["localhost", "localhost"]));
        assert!(!ask("http://evil.example/", &["localhost"]));
        assert!(!ask("http://localhost/", &["evil.example"]));
    }
}
