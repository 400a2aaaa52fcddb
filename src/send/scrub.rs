//! Takes out of an answer what this destination's requests hold: receivers like to repeat what they were sent, and a dead letter is for many
//! eyes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};

use super::options::WebhookOptions;
use super::proxy::ProxyOptions;

/// What stands where something was taken out.
const MARK: &[u8] = b"[secret]";
/// What is shorter is no secret, and would take pieces out of words.
const SHORTEST: usize = 4;
/// A path that is shorter is in too many words.
const PATH_SHORTEST: usize = 5;
/// A part of a path that is shorter is no token.
const TOKEN_SHORTEST: usize = 8;
/// Headers that every receiver may show to anybody.
const PLAIN: &[&str] = &[
    "accept",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "content-type",
    "user-agent",
];
/// A rendered header whose name has one of these in it may hold what the file says in its template.
const TELLING: &[&str] = &[
    "auth",
    "token",
    "secret",
    "key",
    "cookie",
    "password",
    "signature",
];

/// What must not be seen, the longest first: one may be a part of another.
#[derive(Clone, Default)]
pub(super) struct Scrub(Vec<Vec<u8>>);

impl std::fmt::Debug for Scrub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scrub")
    }
}

impl Scrub {
    /// Everything that the file says about a destination and that is for its receiver alone.
    pub(super) fn new(options: &WebhookOptions) -> Self {
        let mut scrub = Self::default();
        for (name, value) in &options.headers {
            if !PLAIN.contains(&name.as_str()) {
                scrub.header(value.as_bytes());
            }
        }
        for secret in options.signing.iter().flat_map(|signing| &signing.secrets) {
            for form in secret.hidden() {
                scrub.hide(&form);
            }
        }
        if let Some((name, password)) = options.proxy.iter().find_map(ProxyOptions::login) {
            scrub.hide(password.as_bytes());
            scrub.hide(format!("{name}:{password}").as_bytes());
        }
        scrub.url(options);
        scrub.sorted()
    }

    /// The same and what one request has beyond `fixed`, by templates; nothing when it has nothing.
    pub(super) fn with_request(&self, request: &HeaderMap, fixed: &HeaderMap) -> Option<Self> {
        let telling = |name: &HeaderName| {
            let name = name.as_str();
            !name.starts_with("webhook-") && TELLING.iter().any(|part| name.contains(part))
        };
        let rendered = request
            .iter()
            .filter(|(name, value)| telling(name) && fixed.get(*name) != Some(value));
        let mut scrub = None;
        for (_, value) in rendered {
            let scrub = scrub.get_or_insert_with(|| self.clone());
            scrub.header(value.as_bytes());
        }
        scrub.map(Self::sorted)
    }

    /// The first `limit` bytes of an answer without any of it. Of one that broke off, the end may be the beginning of a secret.
    pub(super) fn first(&self, body: &Bytes, limit: usize, broken: bool) -> Bytes {
        let mut clean = Vec::with_capacity(body.len().min(limit));
        let mut rest = &body[..];
        while clean.len() < limit && !rest.is_empty() {
            let found = self.0.iter().find(|secret| rest.starts_with(secret));
            let begun = |secret: &&Vec<u8>| rest.len() >= SHORTEST && secret.starts_with(rest);
            if let Some(secret) = found {
                clean.extend_from_slice(MARK);
                rest = &rest[secret.len()..];
            } else if broken && self.0.iter().any(|secret| begun(&secret)) {
                clean.extend_from_slice(MARK);
                rest = &[];
            } else {
                clean.push(rest[0]);
                rest = &rest[1..];
            }
        }
        clean.truncate(limit);
        clean.into()
    }

    /// A header's value, and what stands in it behind a scheme: `Bearer`, `Basic`.
    fn header(&mut self, value: &[u8]) {
        self.hide(value);
        let Some(space) = value.iter().position(|byte| *byte == b' ') else {
            return;
        };
        let (scheme, behind) = (&value[..space], value[space..].trim_ascii());
        self.hide(behind);
        if !scheme.eq_ignore_ascii_case(b"basic") {
            return;
        }
        let encoded = behind.strip_suffix(b"==").unwrap_or(behind);
        let encoded = encoded.strip_suffix(b"=").unwrap_or(encoded);
        if let Ok(pair) = STANDARD_NO_PAD.decode(encoded) {
            self.hide(&pair);
            if let Some(colon) = pair.iter().position(|byte| *byte == b':') {
                self.hide(&pair[colon + 1..]);
            }
        }
    }

    /// An address is a secret behind its host, as a whole and in those parts that look like tokens.
    fn url(&mut self, options: &WebhookOptions) {
        let url = options.url.as_url();
        let path = url.path();
        if path.len() >= PATH_SHORTEST {
            self.hide(path.as_bytes());
        }
        let is_word = |part: &str| {
            part.bytes()
                .all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_' | b'.'))
        };
        for part in path.split('/') {
            if part.len() >= TOKEN_SHORTEST && !is_word(part) {
                self.hide(part.as_bytes());
            }
        }
        self.hide(url.query().unwrap_or_default().as_bytes());
        for (_, value) in url.query_pairs() {
            self.hide(value.as_bytes());
        }
        self.hide(url.password().unwrap_or_default().as_bytes());
    }

    /// Bytes in every form in which they are usually repeated.
    fn hide(&mut self, secret: &[u8]) {
        if secret.len() < SHORTEST {
            return;
        }
        let hex = secret.iter().map(|byte| format!("{byte:02x}"));
        let percent = secret.iter().map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(*byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        });
        let mut forms = vec![
            secret.to_vec(),
            STANDARD_NO_PAD.encode(secret).into_bytes(),
            URL_SAFE_NO_PAD.encode(secret).into_bytes(),
            hex.collect::<String>().into_bytes(),
            percent.collect::<String>().into_bytes(),
        ];
        if let Ok(text) = std::str::from_utf8(secret) {
            let json = serde_json::to_string(text).unwrap_or_default();
            let between_quotes = json.get(1..json.len().saturating_sub(1));
            forms.push(between_quotes.unwrap_or_default().as_bytes().to_vec());
            forms.push(text.replace('/', "\\/").into_bytes());
        }
        self.0.append(&mut forms);
    }

    fn sorted(mut self) -> Self {
        self.0.retain(|secret| secret.len() >= SHORTEST);
        self.0.sort_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        self.0.dedup();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::super::SigningOptions;
    use super::super::headers::header;
    use super::super::sign::{SigningScheme, SigningSecret};
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    /// RFC 8032's private key of test 3, and the same with its public key behind it.
    const SEED: &str = "xaqN9D+fg3vtt0QvMdy3sWbThTUHbwlLhc46LgtEWPc";
    const PAIR: &str =
        "xaqN9D+fg3vtt0QvMdy3sWbThTUHbwlLhc46LgtEWPf8Uc2OYhiho42kftACMPBYCBbtE7ozA6xd65EVSJCAJQ";

    fn scrub() -> Scrub {
        let url = "https://hooks.example.com/services/T0123ABCD/notify?token=q/w+e%2Br&v=1";
        let mut options = WebhookOptions::new(url.parse().unwrap());
        for (name, value) in [
            ("authorization", "Bearer s3cr3t-\"token\""),
            // anna:pa55word
            ("x-basic", "Basic YW5uYTpwYTU1d29yZA=="),
            ("content-type", "application/json"),
            ("x-version", "1"),
        ] {
            options.headers.extend([header(name, value).unwrap()]);
        }
        let secrets = [format!("whsec_{KEY}"), format!("whsk_{SEED}=")];
        let secrets = secrets.iter().map(|text| {
            let scheme = SigningScheme::of(text).unwrap();
            SigningSecret::new(text, scheme, None).unwrap()
        });
        options.signing = Some(SigningOptions {
            secrets: secrets.collect(),
        });
        Scrub::new(&options)
    }

    fn clean(text: &str) -> String {
        let body = Bytes::copy_from_slice(text.as_bytes());
        let clean = scrub().first(&body, 1000, false);
        String::from_utf8(clean.to_vec()).unwrap()
    }

    #[test]
    fn what_the_file_holds_is_taken_out_in_every_form() {
        for text in [
            "Bearer s3cr3t-\"token\"",
            "s3cr3t-\"token\"",
            "s3cr3t-\\\"token\\\"",
            "s3cr3t-%22token%22",
            &STANDARD_NO_PAD.encode("s3cr3t-\"token\""),
            "pa55word",
            "anna:pa55word",
            "YW5uYTpwYTU1d29yZA",
            KEY,
            SEED,
            PAIR,
            "000102030405060708090a0b0c0d0e0f1011121314151617",
            "/services/T0123ABCD/notify",
            "T0123ABCD",
            "token=q/w+e%2Br&v=1",
            "q/w e+r",
        ] {
            let said = clean(&format!("you sent <{text}>!"));
            assert_eq!(said, "you sent <[secret]>!", "{text}");
        }
        let raw: Vec<u8> = (0..24).collect();
        assert_eq!(&scrub().first(&raw.into(), 99, false)[..], MARK);
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "application/json v1 notify services",
            "anna",
            "{\"error\": \"token expired\"}",
        ] {
            assert_eq!(clean(text), text);
        }
    }

    #[test]
    fn no_cut_leaves_a_piece() {
        let body = Bytes::from_static(b"12345678pa55word behind");
        for limit in 0..body.len() {
            let first = scrub().first(&body, limit, false);
            let text = String::from_utf8(first.to_vec()).unwrap();
            assert!(text.len() <= limit && !text.contains("pa5"), "{text}");
        }
        let broken = Bytes::from_static(b"it was pa55wo");
        assert_eq!(&scrub().first(&broken, 99, true)[..], b"it was [secret]");
    }

    #[test]
    fn what_a_template_made_is_taken_out_where_its_name_tells() {
        let mut headers = HeaderMap::new();
        headers.extend([
            header("x-api-key", "k-99999").unwrap(),
            header("x-shop", "north").unwrap(),
        ]);
        let body = Bytes::from_static(b"north k-99999 pa55word");
        let with = |fixed| scrub().with_request(&headers, &fixed);
        let clean = with(HeaderMap::new()).unwrap().first(&body, 99, false);
        assert_eq!(&clean[..], b"north [secret] [secret]");
        assert!(with(headers.clone()).is_none(), "known already");
    }

    #[test]
    fn nobody_sees_it_by_accident() {
        assert_eq!(format!("{:?}", scrub()), "Scrub");
    }
}
