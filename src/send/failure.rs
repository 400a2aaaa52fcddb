//! What went wrong, from what the HTTP client says.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::iter::successors;

use hyper_util::client::legacy::Error;

use crate::delivery::FailureReason;
use crate::descriptors;

use super::connector::ProxyError;
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
pub(super) fn failure(error: &Error, tls: bool) -> Failure {
    if chain(error).any(<dyn StdError>::is::<ProxyError>) {
        return Failure::Proxy;
    }
    let text = causes(error);
    if text.contains("dns error") {
        let unknown = [
            "Name or service not known",
            "No address associated",
            "nodename nor servname",
        ];
        let unknown = unknown.iter().any(|unknown| text.contains(unknown));
        return if unknown {
            Failure::UnknownHost
        } else {
            Failure::Dns
        };
    }
    if is_timeout(error) {
        return Failure::Timeout;
    }
    // Also after the first request has gone out: only then a receiver says that it wants a certificate (RFC 8446, 4.4.2.4).
    let of_tls = |io: &io::Error| {
        io.get_ref()
            .is_some_and(|inner| inner.is::<rustls::Error>())
    };
    if of_io(error).any(of_tls) {
        return Failure::Tls;
    }
    if !error.is_connect() {
        return Failure::Reset;
    }
    // A connection that was made and then failed before the first request, on a URL with TLS, failed in the handshake. What the
    // system refused has the system's error number.
    match of_io(error).next() {
        Some(io) if tls && io.raw_os_error().is_none() => Failure::Tls,
        Some(_) | None => Failure::Connect,
    }
}

/// Whether no connection was made because this process has no file descriptor left for one. The resolver needs some too, and does not
/// always say so.
pub(super) fn is_out_of_descriptors(error: &Error) -> bool {
    error.is_connect()
        && (of_io(error).any(descriptors::are_missing)
            || (causes(error).contains("dns error") && descriptors::are_used_up()))
}

/// What went wrong, in one line: the causes of an error, the nearest first. That it was the client's is said only where nothing else is.
pub(super) fn causes(error: &Error) -> String {
    let mut text = String::new();
    for cause in chain(error).skip(usize::from(error.source().is_some())) {
        let cause = cause.to_string();
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// Whether the other side ended the connection before anything of an answer had come.
pub(super) fn broke_before_answer(error: &Error) -> bool {
    if is_timeout(error) || error.is_connect() {
        return false;
    }
    let broken = [
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::BrokenPipe,
        ErrorKind::UnexpectedEof,
    ];
    match of_io(error).next() {
        Some(io) => broken.contains(&io.kind()),
        None => of_hyper(error).any(hyper::Error::is_incomplete_message),
    }
}

fn is_timeout(error: &Error) -> bool {
    of_io(error).any(|io| io.kind() == ErrorKind::TimedOut)
        || of_hyper(error).any(hyper::Error::is_timeout)
}

/// An error and its causes.
fn chain(error: &Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let first: &(dyn StdError + 'static) = error;
    successors(Some(first), |&error| error.source())
}

fn of_io(error: &Error) -> impl Iterator<Item = &io::Error> {
    chain(error).filter_map(|cause| cause.downcast_ref())
}

fn of_hyper(error: &Error) -> impl Iterator<Item = &hyper::Error> {
    chain(error).filter_map(|cause| cause.downcast_ref())
}
