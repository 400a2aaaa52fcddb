//! What went wrong, from what the HTTP client says.

use std::error::Error as _;
use std::io::{Error, ErrorKind};

use crate::delivery::FailureReason;
use crate::descriptors;

use super::outcomes::Failure;

/// The label of a status that is no success.
pub(super) fn reason(status: u16) -> Option<FailureReason> {
    Some(match status {
        401 => FailureReason::Http401,
        403 => FailureReason::Http403,
        404 => FailureReason::Http404,
        408 => FailureReason::Http408,
        410 => FailureReason::Http410,
        429 => FailureReason::Http429,
        400..=499 => FailureReason::Http4xx,
        500.. => FailureReason::Http5xx,
        300..=399 => FailureReason::Http3xx,
        0..=299 => return None,
    })
}

/// Which of the ways to fail without an answer this is.
pub(super) fn failure(error: &reqwest::Error, tls: bool) -> Failure {
    let chain = causes(error);
    if chain.contains("dns error") {
        let unknown = [
            "Name or service not known",
            "No address associated",
            "nodename nor servname",
        ];
        let unknown = unknown.iter().any(|text| chain.contains(text));
        return if unknown {
            Failure::UnknownHost
        } else {
            Failure::Dns
        };
    }
    if error.is_timeout() {
        return Failure::Timeout;
    }
    if !error.is_connect() {
        return Failure::Reset;
    }
    // A connection that was made and then failed before the first request, on a URL with TLS, failed in the handshake. What the
    // system refused has the system's error number.
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<Error>() {
            let handshake = tls && io.raw_os_error().is_none() && io.kind() != ErrorKind::TimedOut;
            return if handshake {
                Failure::Tls
            } else {
                Failure::Connect
            };
        }
        source = cause.source();
    }
    Failure::Connect
}

/// Whether no connection was made because this process has no file descriptor left for one. The resolver needs some too, and does not
/// always say so.
pub(super) fn is_out_of_descriptors(error: &reqwest::Error) -> bool {
    if !error.is_connect() {
        return false;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if cause
            .downcast_ref::<Error>()
            .is_some_and(descriptors::are_missing)
        {
            return true;
        }
        source = cause.source();
    }
    causes(error).contains("dns error") && descriptors::are_used_up()
}

/// An error and its causes, in one line.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Whether the other side ended the connection before anything of an answer had come.
pub(super) fn broke_before_answer(error: &reqwest::Error) -> bool {
    if error.is_timeout() || error.is_connect() || !error.is_request() {
        return false;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<Error>() {
            return matches!(
                io.kind(),
                ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
            );
        }
        // The client's own error for this has no type that can be asked.
        if cause
            .to_string()
            .starts_with("connection closed before message completed")
        {
            return true;
        }
        source = cause.source();
    }
    false
}
