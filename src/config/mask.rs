//! Blots out what must not be shown when a line of the file is.
//!
//! Works on the bare text, because a file that is not even TOML has secrets too. Rather too much than too little: what looks like
//! a secret goes, whatever key it stands under. Lengths stay, so that underlines fit.

/// A key with one of these in its name holds a secret.
const TELLING: &[&str] = &[
    "password",
    "passphrase",
    "secret",
    "token",
    "pem",
    "jaas",
    "api-key",
    "api_key",
    "apikey",
];
/// A key that ends in one of these does.
const TELLING_ENDS: &[&str] = &[
    "authorization",
    "cookie",
    "credentials",
    "signature",
    "_key",
    "oauthbearer.config",
    "-key",
];

/// Keys that say where a secret is.
const SOURCES: &[&str] = &["env", "file", "credential"];

/// A key that nobody knows is shown with its line, and "pasword" holds what "password" would. How many typing errors, and in which word.
const NEARLY: &[(usize, &str)] = &[
    (2, "password"),
    (2, "passphrase"),
    (1, "secret"),
    (1, "token"),
];

/// `text` with the path of every URL, and every string under a telling key, as stars.
pub(super) fn mask(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    mask_urls(text, &mut bytes);
    mask_values(text, &mut bytes);
    mask_signing_secrets(text, &mut bytes);
    mask_private_keys(text, &mut bytes);
    // Stars replace whole characters, so what is left is still UTF-8.
    String::from_utf8(bytes).unwrap_or_default()
}

fn blot(bytes: &mut [u8], start: usize, end: usize) {
    for byte in &mut bytes[start..end] {
        if !matches!(byte, b'\n' | b'\r') {
            *byte = b'*';
        }
    }
}

fn mask_urls(text: &str, bytes: &mut [u8]) {
    for (at, mark) in text.match_indices("://") {
        let base = at + mark.len();
        let scheme = text[..at].trim_end_matches(|c: char| c.is_ascii_alphanumeric());
        let quote = scheme
            .chars()
            .next_back()
            .filter(|c| matches!(c, '"' | '\''));
        // A URL that fills its string ends with it, whatever is in it; one in a sentence ends at a space.
        let stops = |c: char| match quote {
            Some(quote) => c == quote || c == '\n',
            None => c.is_whitespace() || matches!(c, '"' | '\''),
        };
        let length = text[base..].find(stops).unwrap_or(text.len() - base);
        mask_address(text, base, base + length, bytes);
    }
}

/// Blots out all but the host of the address between `base` and `end`, scheme already left out.
fn mask_address(text: &str, base: usize, end: usize, bytes: &mut [u8]) {
    let address = &text[base..end];
    let host_end = address.find(['/', '?', '#', '\\']).unwrap_or(address.len());
    if let Some(user_end) = address[..host_end].rfind('@') {
        blot(bytes, base, base + user_end);
    }
    if host_end < address.len() {
        blot(bytes, base + host_end + 1, end);
    }
}

/// These say themselves what they are, wherever they stand.
fn mask_signing_secrets(text: &str, bytes: &mut [u8]) {
    let marks = ["whsec_", "whsk_"].map(|mark| text.match_indices(mark));
    for (at, mark) in marks.into_iter().flatten() {
        let inside = &text[at + mark.len()..];
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '}');
        let length = inside.find(ends).unwrap_or(inside.len());
        blot(bytes, at + mark.len(), at + mark.len() + length);
    }
}

/// So do these (RFC 7468).
fn mask_private_keys(text: &str, bytes: &mut [u8]) {
    for (at, mark) in text.match_indices("PRIVATE KEY-----") {
        let begins = text[..at].rsplit("-----").next().unwrap_or_default();
        if !begins.starts_with("BEGIN ") {
            continue;
        }
        let base = at + mark.len();
        let length = text[base..].find("-----END").unwrap_or(text.len() - base);
        blot(bytes, base, base + length);
    }
}

fn nearly_telling(key: &str) -> bool {
    let near = |part: &str| {
        NEARLY
            .iter()
            .any(|(errors, word)| strsim::damerau_levenshtein(part, word) <= *errors)
    };
    key.split(['.', '_', '-']).any(near)
}

fn mask_values(text: &str, bytes: &mut [u8]) {
    for (at, _) in text.match_indices('=') {
        let key = text[..at].trim_end_matches([' ', '\t', '"', '\'']);
        let begins = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
        let key = key
            .rsplit(begins)
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase();
        let telling = TELLING.iter().any(|word| key.contains(word)) || nearly_telling(&key);
        // A bridge's `api_key` cut short.
        let telling = telling || key == "key";
        let telling = telling || TELLING_ENDS.iter().any(|word| key.ends_with(word));
        if !telling && !key.ends_with("url") {
            continue;
        }
        let value = &text[at + 1..];
        let start = at + 1 + (value.len() - value.trim_start_matches([' ', '\t']).len());
        match string_at(text, start) {
            Some((from, to)) if telling => blot(bytes, from, to),
            // An address without its scheme is an error whose line will be shown.
            Some((from, to)) if !text[from..to].contains("://") => {
                mask_address(text, from, to, bytes)
            }
            Some(_) | None => {}
        }
    }
}

/// The inside of the TOML string that begins at `start`; when it never ends, the rest of its line, or of the file. What is no string is
/// taken to the end of its line, but for a table that says where a secret is.
fn string_at(text: &str, start: usize) -> Option<(usize, usize)> {
    let rest = &text[start..];
    let quotes = ["\"\"\"", "'''", "\"", "'"];
    let Some(quote) = quotes.into_iter().find(|quote| rest.starts_with(quote)) else {
        let inside = rest.strip_prefix('{').map(str::trim_start);
        let names_source =
            inside.is_some_and(|rest| SOURCES.iter().any(|name| rest.starts_with(name)));
        let line = rest.find(['\n', '\r', '#']).unwrap_or(rest.len());
        let names_source = names_source || lists_sources(&rest[..line]);
        return (!names_source).then_some((start, start + line));
    };
    let inside = start + quote.len();
    let limit = if quote.len() == 3 {
        None
    } else {
        text[inside..].find('\n')
    };
    let limit = limit.map_or(text.len(), |newline| inside + newline);
    let mut at = inside;
    while at < limit {
        if text[at..].starts_with(quote) {
            return Some((inside, at));
        }
        let mut characters = text[at..].chars();
        if characters.next() == Some('\\') && quote.starts_with('"') {
            characters.next();
        }
        at = text.len() - characters.as_str().len();
    }
    Some((inside, limit))
}

/// Whether a line is a list of tables that say where secrets are, every string in it behind a key that holds none: a path that is wrong is
/// to be seen.
fn lists_sources(line: &str) -> bool {
    if !line.starts_with('[') || line.contains(['\'', '\\']) {
        return false;
    }
    let mut parts = line.split('"');
    let harmless = |before: &str| {
        let before = before.trim_end().strip_suffix('=').map(str::trim_end);
        let key = before.and_then(|before| before.rsplit([' ', '\t', '{', ',']).next());
        let mut harmless = SOURCES.iter().chain(&["not_after"]);
        key.is_some_and(|key| harmless.any(|known| *known == key))
    };
    let mut strings = 0;
    while let Some(before) = parts.next() {
        if parts.next().is_none() {
            // What is no string may still be meant for one.
            return strings > 0 && before.chars().all(|c| " \t]},".contains(c));
        }
        if !harmless(before) {
            return false;
        }
        strings += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_hosts_stay() {
        let cases = [
            (
                "url = \"https://h.example/T0/x?y\"",
                "url = \"https://h.example/******\"",
            ),
            (
                "url = \"hooks.example/T0/x\"",
                "url = \"hooks.example/****\"",
            ),
            (
                "url = \"https://h/a, 'b\", c = 1",
                "url = \"https://h/*****\", c = 1",
            ),
            ("# see https://h/doc, then", "# see https://h/**** then"),
            ("url = \"http://u:p@h:1/\"", "url = \"http://***@h:1/\""),
            (
                "sasl.password = 'hunter2' # x",
                "sasl.password = '*******' # x",
            ),
            (
                "\"ssl.key.pem\" = \"\"\"a\nb\"\"\"\nc = 1",
                "\"ssl.key.pem\" = \"\"\"*\n*\"\"\"\nc = 1",
            ),
            (
                "authorization = \"Bearer \\\" é\"",
                "authorization = \"************\"",
            ),
            (
                "x = '-----BEGIN EC PRIVATE KEY-----\nMIG\n-----END EC PRIVATE KEY-----'",
                "x = '-----BEGIN EC PRIVATE KEY-----\n***\n-----END EC PRIVATE KEY-----'",
            ),
            ("password = \"open\nnext = 1", "password = \"****\nnext = 1"),
            ("password = 1234\n", "password = ****\n"),
            ("sasl.pasword = \"a\"", "sasl.pasword = \"*\""),
            ("db_passwd = \"a\"", "db_passwd = \"*\""),
            ("client.secert = \"a\"", "client.secert = \"*\""),
            ("broken = \"a\"", "broken = \"a\""),
            ("p.password = [\"a\"]", "p.password = *****"),
            ("token = { value = \"a\" }", "token = ***************"),
            ("password = { env = \"X\" }", "password = { env = \"X\" }"),
            (
                "secrets = [{ file = \"a.key\", not_after = \"2026\" }, { env = \"B\" }]",
                "secrets = [{ file = \"a.key\", not_after = \"2026\" }, { env = \"B\" }]",
            ),
            (
                "secrets = [{ profile = \"a\" }]",
                "secrets = *******************",
            ),
            (
                "secrets = [{ file = \"a\" }, \"b\"]",
                "secrets = *********************",
            ),
            (
                "secrets = [{ file = \"a\" }, b]",
                "secrets = *******************",
            ),
            ("with = { key = \"a\" }", "with = { key = \"*\" }"),
            ("prefix = \"postrider\"", "prefix = \"postrider\""),
            ("  \"whsec_aGFsbG8=\",", "  \"whsec_********\","),
            ("  'whsk_aGFsbG8=' # x", "  'whsk_********' # x"),
        ];
        for (text, masked) in cases {
            assert_eq!(mask(text), masked);
            assert_eq!(mask(text).len(), text.len());
        }
    }
}
