//! A mail address with or without a name before it: `GraphSpace <noreply@graphspace.example>`.

use minijinja::value::Value;

/// Whether a mail could be sent to `text`, or come from it: `ADDRESS` or `NAME <ADDRESS>`.
#[must_use]
pub fn is_mail_address(text: &str) -> bool {
    Mailbox::parse(text).is_some()
}

/// One sender or recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mailbox {
    name: Option<String>,
    email: String,
}

impl Mailbox {
    /// Reads `NAME <ADDRESS>` or `ADDRESS`; `None` when no mail could be sent there. What an address may be beyond that, the mail service knows.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (name, email) = match text
            .strip_suffix('>')
            .and_then(|rest| rest.rsplit_once('<'))
        {
            Some((name, email)) => (name.trim().trim_matches('"').trim(), email.trim()),
            None => ("", text),
        };
        let (local, domain) = email.rsplit_once('@')?;
        let strange = |c: char| c.is_whitespace() || c.is_control() || "<>,;:\\\"()[]@".contains(c);
        let valid = !local.is_empty() && !domain.is_empty() && !local.contains(strange);
        let valid = valid && !domain.contains(strange) && !name.contains(|c: char| c.is_control());
        valid.then(|| Self {
            name: (!name.is_empty()).then(|| name.to_owned()),
            email: email.to_owned(),
        })
    }

    /// Whether both are the same address. Capitals make no difference to any mail service.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.email.eq_ignore_ascii_case(&other.email)
    }

    /// As a template sees it: `email`, and `name` when there is one.
    pub(super) fn view(&self) -> Value {
        let name = self.name.clone().map(|name| ("name", Value::from(name)));
        let email = [("email", Value::from(self.email.clone()))];
        Value::from_pairs(email.into_iter().chain(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let parsed = |text| Mailbox::parse(text).map(|m| (m.name.unwrap_or_default(), m.email));
        let both = |name: &str, email: &str| Some((name.to_owned(), email.to_owned()));
        assert_eq!(parsed(" a@b.example "), both("", "a@b.example"));
        assert_eq!(parsed("A B <a+x@b>"), both("A B", "a+x@b"));
        assert_eq!(parsed("\"B, A\" <a@b>"), both("B, A", "a@b"));
        for text in [
            "",
            "a",
            "@b",
            "a@",
            "a@b@c",
            "a b@c",
            "a@b, c@d",
            "A <a@b",
            "A\nB <a@b>",
            "<>",
        ] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
    }
}
