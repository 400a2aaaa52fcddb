//! Who may do what on the address: whoever has the token may change things, and a person's browser may look under known names alone.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::api::{OrderReport, OrderResult};
use super::options::AdminOptions;

/// Less could be guessed.
const TOKEN_BYTES_MIN: usize = 16;

/// What must be said to change something over HTTP. Only its hash is kept, so that nothing can show it, and any two take equally long to compare.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken([u8; 32]);

/// Why a text is no token. Says nothing of the text itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AdminTokenError {
    /// It could be guessed.
    #[error("has {0} characters; a token needs 16, or it could be guessed")]
    Short(usize),
    /// A header cannot carry it.
    #[error("has a space, or a character that is not ASCII")]
    Characters,
}

impl AdminToken {
    /// The token of this text.
    ///
    /// # Errors
    /// When it is too short, or cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, AdminTokenError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AdminTokenError::Characters);
        }
        if text.len() < TOKEN_BYTES_MIN {
            return Err(AdminTokenError::Short(text.len()));
        }
        Ok(Self::of(text.as_bytes()))
    }

    fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// What a reload may change while the address is served.
#[derive(Debug)]
pub struct Access(RwLock<Rights>);

#[derive(Debug)]
struct Rights {
    token: Option<AdminToken>,
    allowed_hosts: Arc<[String]>,
}

impl Access {
    /// As the file says.
    #[must_use]
    pub fn new(options: &AdminOptions) -> Self {
        Self(RwLock::new(Rights::of(options)))
    }

    /// As another file says, from the next request on.
    pub fn change(&self, options: &AdminOptions) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Rights::of(options);
    }

    pub(super) fn allowed_hosts(&self) -> Arc<[String]> {
        let rights = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&rights.allowed_hosts)
    }

    fn judge(&self, headers: &HeaderMap) -> Judgement {
        let rights = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(token) = &rights.token else {
            return Judgement::NoToken;
        };
        let mut said = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(said), None) = (said.next(), said.next()) else {
            return Judgement::Unsaid;
        };
        let said = said.as_bytes();
        let (scheme, said) = said.split_at(said.len().min(b"Bearer ".len()));
        if !scheme.eq_ignore_ascii_case(b"Bearer ") {
            return Judgement::Unsaid;
        }
        let AdminToken(said) = AdminToken::of(said.trim_ascii());
        match verify_slices_are_equal(&said, &token.0) {
            Ok(()) => Judgement::Right,
            Err(_) => Judgement::Wrong,
        }
    }
}

impl Rights {
    fn of(options: &AdminOptions) -> Self {
        Self {
            token: options.token.clone(),
            allowed_hosts: options.allowed_hosts.clone().into(),
        }
    }
}

/// What a request says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Right,
    Wrong,
    Unsaid,
    /// The file has none.
    NoToken,
}

/// Lets through who says the token.
pub(super) async fn with_token(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    let (status, challenge, text) = match access.judge(request.headers()) {
        Judgement::Right => return next.run(request).await,
        Judgement::Wrong => (
            StatusCode::UNAUTHORIZED,
            Some("Bearer realm=\"postrider\", error=\"invalid_token\""),
            "this is not the token of [admin] token",
        ),
        Judgement::Unsaid => (
            StatusCode::UNAUTHORIZED,
            Some("Bearer realm=\"postrider\""),
            "say the token of [admin] token, in the header Authorization: Bearer TOKEN",
        ),
        Judgement::NoToken => (
            StatusCode::FORBIDDEN,
            None,
            "nothing can be changed over HTTP unless the file sets [admin] token; the socket needs none: [admin] socket",
        ),
    };
    let report = OrderReport {
        result: OrderResult::Refused,
        text: text.to_owned(),
    };
    let mut response = (status, Json(report)).into_response();
    if let Some(challenge) = challenge {
        let challenge = HeaderValue::from_static(challenge);
        let headers = response.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn judge(access: &Access, said: &[&str]) -> Judgement {
        let values = said.iter().map(|text| text.parse().unwrap());
        let headers = values.map(|value| (header::AUTHORIZATION, value));
        access.judge(&headers.collect())
    }

    #[test]
    fn only_the_token_lets_through() {
        let mut options = AdminOptions::default();
        let access = Access::new(&options);
        let right = format!("Bearer {TOKEN}");
        assert_eq!(judge(&access, &[&right]), Judgement::NoToken);
        assert_eq!(judge(&access, &["Bearer "]), Judgement::NoToken);
        options.token = Some(AdminToken::new(TOKEN).unwrap());
        access.change(&options);
        for said in [&right, &format!("bearer  {TOKEN} ")] {
            assert_eq!(judge(&access, &[said]), Judgement::Right, "{said}");
        }
        for said in [
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcde",
            "Bearer x",
        ] {
            assert_eq!(judge(&access, &[said]), Judgement::Wrong, "{said}");
        }
        for said in ["", "Bearer", "Basic OnRva2Vu", TOKEN] {
            assert_eq!(judge(&access, &[said]), Judgement::Unsaid, "{said}");
        }
        assert_eq!(judge(&access, &[]), Judgement::Unsaid);
        assert_eq!(judge(&access, &[&right, &right]), Judgement::Unsaid);
    }

    #[test]
    fn what_is_no_token_is_refused_and_none_is_shown() {
        for (text, error) in [
            ("", AdminTokenError::Short(0)),
            ("0123456789abcde", AdminTokenError::Short(15)),
            ("0123456789 abcdef", AdminTokenError::Characters),
            ("0123456789abcdeü", AdminTokenError::Characters),
        ] {
            assert_eq!(AdminToken::new(text), Err(error), "{text}");
        }
        let shown = format!("{:?}", AdminToken::new(TOKEN));
        assert_eq!(shown, "Ok(AdminToken)");
    }
}
