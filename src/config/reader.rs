//! Reads the tree of the file by hand, one key at a time. Unlike serde it does not stop: what is wrong is written down, and the
//! reading goes on, so that one run shows every problem.

use std::cell::RefCell;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::context::Context;
use super::contract;
use super::guesses::guess;
use super::problem::Severity;
use super::refusal::{listed, nearest};
pub(super) use super::value::Value;

/// Where a value stands: `destinations.shop.webhook`, and the same as the contract writes it: `destinations.*.webhook`.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    pub(super) path: String,
    pub(super) pattern: String,
}

impl Place {
    fn join(base: &str, key: &str) -> String {
        if base.is_empty() {
            key.to_owned()
        } else {
            format!("{base}.{key}")
        }
    }

    pub(super) fn key(&self, key: &str) -> Self {
        Self {
            path: Self::join(&self.path, key),
            pattern: Self::join(&self.pattern, key),
        }
    }

    pub(super) fn name(&self, name: &str) -> Self {
        Self {
            path: Self::join(&self.path, name),
            pattern: Self::join(&self.pattern, "*"),
        }
    }

    pub(super) fn entry(&self, index: usize) -> Self {
        Self {
            path: format!("{}[{index}]", self.path),
            pattern: format!("{}[]", self.pattern),
        }
    }
}

/// One table, read key by key. Ends with [`Reader::finish`], or with [`Reader::entries`] where the keys are the user's own.
pub(super) struct Reader<'a> {
    pub(super) context: &'a Context<'a>,
    place: Place,
    table: &'a DeTable<'a>,
    /// The section's header, or the inline table.
    span: Range<usize>,
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        context: &'a Context<'a>,
        place: Place,
        table: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Self {
        Self {
            context,
            place,
            table,
            span,
            asked: RefCell::default(),
        }
    }

    /// The value of `key`, if it is there. From here on the key is known.
    pub(super) fn take(&self, key: &'static str) -> Option<Value<'a>> {
        self.asked.borrow_mut().push(key);
        let place = self.place.key(key);
        self.context.know(&place.pattern);
        let (name, node) = self.table.get_key_value(key)?;
        Some(Value::new(self.context, place, key, name.span(), node))
    }

    /// The value of `key`; a problem when it is not there.
    pub(super) fn require(&self, key: &'static str, hint: &str) -> Option<Value<'a>> {
        let value = self.take(key);
        if value.is_none() && !self.mistyped(key) {
            let path = self.place.key(key).path;
            self.error_at_header(&path, format!("{} has no `{key}`", self.header()), hint);
        }
        value
    }

    /// Whether a key that belongs nowhere was probably meant to be `key`; the answer to that one says so.
    pub(super) fn mistyped(&self, key: &'static str) -> bool {
        let unknown = |name: &str| contract::keys(&self.place.pattern).all(|known| known != name);
        let mut keys = self.table.keys().map(|name| &**name.get_ref());
        keys.any(|name| unknown(name) && nearest(name, [key]).is_some())
    }

    /// The value of `key` read by `read`; `default` when it is not there or not readable.
    pub(super) fn read<T>(
        &self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> T {
        self.take(key).as_ref().and_then(read).unwrap_or(default)
    }

    /// The table under `key`, given to `read`; nothing when it is not there.
    pub(super) fn section(&self, key: &'static str, read: impl FnOnce(&Reader<'a>)) {
        if let Some(reader) = self.take(key).and_then(|value| value.table()) {
            read(&reader);
            reader.finish();
        }
    }

    /// Every value of a table whose keys are the user's own.
    pub(super) fn entries(&self) -> impl Iterator<Item = Value<'a>> {
        self.table.iter().map(|(name, node)| {
            let key: &'a str = name.get_ref();
            Value::new(self.context, self.place.name(key), key, name.span(), node)
        })
    }

    /// Reports what is wrong with the table as a whole.
    pub(super) fn error_at_header(&self, key: &str, message: impl Into<String>, hint: &str) {
        let span = (!self.place.path.is_empty()).then(|| self.span.clone());
        self.context
            .report(Severity::Error, span, key, message, hint);
    }

    /// Reports what is risky about the table as a whole.
    pub(super) fn warn_at_header(&self, key: &str, message: &str, hint: &str) {
        let span = (!self.place.path.is_empty()).then(|| self.span.clone());
        self.context
            .report(Severity::Warning, span, key, message, hint);
    }

    /// Where the table stands.
    pub(super) fn path(&self) -> &str {
        &self.place.path
    }

    /// Whether `key` is there, without asking for it.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Whether it has no key at all.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Whether every key that is there was asked for.
    pub(super) fn all_asked(&self) -> bool {
        let asked = self.asked.borrow();
        self.table
            .keys()
            .all(|name| asked.contains(&&**name.get_ref()))
    }

    /// The table as the file writes it: `[kafka]`.
    pub(super) fn header(&self) -> String {
        match self.place.pattern.as_str() {
            "" => "the file".to_owned(),
            "rules[]" => "[[rules]]".to_owned(),
            pattern => match pattern.strip_suffix("[]") {
                Some(list) if list.contains('*') => {
                    let path = &self.place.path;
                    format!(
                        "an entry of `{}`",
                        path.rsplit_once('[').map_or(&**path, |(list, _)| list)
                    )
                }
                Some(list) => format!("an entry of `{list}`"),
                None => format!("[{}]", self.place.path),
            },
        }
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(&self) {
        let asked = self.asked.borrow();
        for (name, node) in self.table {
            let key: &str = name.get_ref();
            if !asked.contains(&key) {
                let place = self.place.key(key);
                let (message, hint) = self.unknown(key, &asked, node);
                self.context.report(
                    Severity::Error,
                    Some(name.span()),
                    &place.path,
                    message,
                    hint,
                );
            }
        }
    }

    fn unknown(
        &self,
        key: &str,
        asked: &[&'static str],
        node: &Spanned<DeValue<'_>>,
    ) -> (String, String) {
        let Place { path, pattern } = &self.place;
        if contract::keys(pattern).any(|name| name == key) {
            let hint = "take it out; a later version will know it";
            return (
                format!("`{key}` is not supported in this version"),
                hint.to_owned(),
            );
        }
        let message = if path.is_empty() {
            let tables = |list: &DeArray<'_>| list.iter().any(|entry| entry.get_ref().is_table());
            let section =
                node.get_ref().is_table() || node.get_ref().as_array().is_some_and(tables);
            let what = if section { "section" } else { "key" };
            format!("unknown {what} `{key}`")
        } else {
            format!("unknown key `{key}` in {}", self.header())
        };
        if let Some(hint) = guess(key, pattern) {
            return (message, hint.to_owned());
        }
        let near = nearest(key, asked.iter().copied());
        let homes = contract::homes(key, pattern);
        let hint = match (near, homes.first()) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(home)) => belongs(key, home, path),
            (None, None) => match nearest(key, contract::keys(pattern)) {
                Some(later) => {
                    format!(
                        "did you mean `{later}`? It is not supported in this version; take it out"
                    )
                }
                None => match contract::below(key, pattern) {
                    Some((near, home)) => {
                        let home = contract::header(home, path);
                        format!("did you mean `{near}`? It belongs to {home}")
                    }
                    None => format!("what can stand here: {}", listed(asked.iter().copied())),
                },
            },
        };
        (message, hint)
    }
}

fn belongs(key: &str, home: &str, path: &str) -> String {
    if home.is_empty() {
        return format!("`{key}` is a section of its own: [{key}]");
    }
    format!("`{key}` belongs to {}", contract::header(home, path))
}
