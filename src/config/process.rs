//! `[admin]` and `[log]`: what concerns the process as a whole.

use std::net::SocketAddr;
use std::path::PathBuf;

use tracing::Level;

use super::reader::{Reader, Value};
use super::refusal::Refusal;
use super::secret::{Secret, string_or_secret};
use crate::admin::{AdminOptions, AdminToken};
use crate::logging::{LogFormat, LogOptions};

/// What fits into a socket's address on Linux.
const SOCKET_BYTES_MAX: usize = 107;
/// The longest name of DNS.
const HOST_BYTES_MAX: usize = 253;

/// `[admin]`.
pub(super) fn admin(root: &Reader<'_>) -> AdminOptions {
    let mut options = AdminOptions::default();
    root.section("admin", |reader| {
        options.listen = reader.read("listen", options.listen, listen);
        if let Some(value) = reader.take("socket") {
            options.socket = socket(&value).unwrap_or_default();
        }
        if let Some(value) = reader.take("token") {
            options.token = token(&value);
            if options.token.is_some() && !options.listen.ip().is_loopback() {
                let hint = "whoever is on the way can read it, and use it then: listen on 127.0.0.1 alone, or\n\
                            put a proxy with TLS before it";
                value.warning("is sent over the network as it is", hint);
            }
        }
        options.allowed_hosts = reader.read("allowed_hosts", Vec::new(), allowed_hosts);
    });
    options
}

/// An empty text: none. A relative path begins at the folder of the file, as those of secrets do.
fn socket(value: &Value<'_>) -> Option<Option<PathBuf>> {
    let text = value.text_as("a path in quotes", "write a path, or \"\" for no socket")?;
    if text.is_empty() {
        return Some(None);
    }
    let folder = value.origin().parent();
    let path = folder.map_or_else(|| PathBuf::from(&text), |folder| folder.join(&text));
    if path.as_os_str().len() > SOCKET_BYTES_MAX || text.contains('\0') {
        let hint =
            format!("a socket's path, with its folder, has at most {SOCKET_BYTES_MAX} bytes");
        value.error("cannot be the path of a socket", hint);
        return None;
    }
    Some(Some(path))
}

fn token(value: &Value<'_>) -> Option<AdminToken> {
    let token = AdminToken::new(&string_or_secret(value).map(Secret::expose)?);
    let refusal = |error: crate::admin::AdminTokenError| {
        Refusal::new(error.to_string(), "make one: openssl rand -hex 32")
    };
    value.accept(token.map_err(refusal))
}

/// Names alone: a port says nothing about who asks, and addresses are known anyway.
fn allowed_hosts(value: &Value<'_>) -> Option<Vec<String>> {
    let mut hosts = Vec::new();
    for (entry, text) in value.texts("[\"postrider.example\"]")? {
        let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if text.chars().all(of_name) && text.len() <= HOST_BYTES_MAX {
            hosts.push(text);
        } else {
            let hint =
                "write a name without a scheme, a port and a path, like \"postrider.example\"";
            entry.error("is not the name of a host", hint);
        }
    }
    Some(hosts)
}

fn listen(value: &Value<'_>) -> Option<SocketAddr> {
    let text = value.text()?;
    let Ok(address) = text.parse::<SocketAddr>() else {
        let port = text
            .rsplit(':')
            .next()
            .filter(|port| port.parse::<u16>().is_ok());
        let hint = format!(
            "write an IP address and a port, like \"127.0.0.1:{}\"",
            port.unwrap_or("8474")
        );
        value.error("is not an address to listen on", hint);
        return None;
    };
    if !address.ip().is_loopback() {
        let hint = "whoever reaches it reads the metrics and the names of topics and destinations;\n\
                    127.0.0.1 is reached from this machine alone";
        value.warning("can be reached from other machines", hint);
    }
    Some(address)
}

/// `[log]`.
pub(super) fn log(root: &Reader<'_>) -> LogOptions {
    let mut options = LogOptions::default();
    root.section("log", |reader| {
        let formats = [
            ("auto", LogFormat::Auto),
            ("text", LogFormat::Text),
            ("json", LogFormat::Json),
        ];
        options.format = reader.read("format", options.format, |value| {
            value.one_of(&formats, &["journald"])
        });
        let levels = [
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("info", Level::INFO),
            ("debug", Level::DEBUG),
            ("trace", Level::TRACE),
        ];
        options.level = reader.read("level", options.level, |value| value.one_of(&levels, &[]));
    });
    options
}
