//! Templates: one text that is made anew for each record. Strict about what is missing, bounded in steps and in output.
//!
//! There are no includes, no inheritance and no macros: a template is as long as it looks.

mod numbers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, StringInput, Value};
use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, State, UndefinedBehavior, escape_formatter, filters,
};
use thiserror::Error as ThisError;

pub(super) use numbers::context;

/// The longest text that a template may make.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// What one rendering may spend: a step costs one, and so do 64 bytes that are made on the way, or 4 bytes of JSON.
const FUEL: u64 = 500_000;
const JSON_BYTES_PER_FUEL: u64 = 4;
/// What is said when a null would be printed.
const NULL: &str =
    "is null, which has no text; write `| tojson` or `| default(\"\", true)` behind it";
/// Nothing but the template itself is in its environment.
const NAME: &str = "template";

/// One template, compiled. `Debug` shows nothing of it: what the file put into it may be a secret.
#[derive(Clone)]
pub struct Template {
    environment: Arc<Environment<'static>>,
    source: Arc<str>,
    names: Arc<BTreeSet<String>>,
}

/// What the text of a template becomes part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// Values are put in as they are.
    Nothing,
    /// Values are put in as HTML text.
    Html,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
pub enum TemplateError {
    /// It cannot be read.
    #[error("is no template: {0}")]
    Syntax(String),
    /// It names something that no record has.
    #[error("names `{0}`, which a template does not know")]
    Name(String),
    /// It uses a filter, a test or a function that does not exist.
    #[error("uses something that does not exist: {0}")]
    Function(String),
}

/// Why a template makes nothing from this record. Says nothing of what the record holds.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[error("{0}")]
pub struct RenderError(pub(super) String);

impl Template {
    /// Compiles `source`, which may use `names` and what minijinja brings.
    ///
    /// # Errors
    /// When it is no template, or could not be rendered from any record.
    pub fn new(source: &str, escapes: Escape, names: &[&str]) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_debug(false);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|error| TemplateError::Syntax(described(&error)))?);
        environment.remove_global("debug");
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(move |_| match escapes {
            Escape::Nothing => AutoEscape::None,
            Escape::Html => AutoEscape::Html,
        });
        environment.set_formatter(|output, state, value| {
            // `null` would be put in as the word "none", into an address even.
            if value.is_none() {
                return Err(Error::new(ErrorKind::InvalidOperation, NULL));
            }
            match numbers::text(state, value) {
                Some(text) => output.write_str(&text).map_err(Error::from),
                None => escape_formatter(output, state, value),
            }
        });
        // These take what is missing for an empty text.
        environment.remove_filter("indent");
        environment.remove_filter("pprint");
        environment.add_filter("escape", escape);
        environment.add_filter("e", escape);
        environment.add_filter("tojson", tojson);
        environment.add_filter("string", string);
        environment.add_filter("join", join);
        let added = environment.add_template_owned(NAME, source.to_owned());
        added.map_err(|error| TemplateError::Syntax(described(&error)))?;
        let mut used: BTreeSet<String> = environment
            .get_template(NAME)
            .map(|template| template.undeclared_variables(false).into_iter().collect())
            .unwrap_or_default();
        let globals: BTreeSet<String> = environment.globals().map(|(n, _)| n.to_owned()).collect();
        used.retain(|name| !globals.contains(name));
        if let Some(unknown) = used.iter().find(|name| !names.contains(&name.as_str())) {
            return Err(TemplateError::Name(unknown.clone()));
        }
        let template = Self {
            environment: Arc::new(environment),
            source: Arc::from(source),
            names: Arc::new(used),
        };
        template.try_functions(names)?;
        Ok(template)
    }

    /// Whether `text` has anything in it that a template would replace.
    #[must_use]
    pub fn is_in(text: &str) -> bool {
        ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
    }

    /// Whether it names `name`.
    #[must_use]
    pub fn uses(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The text for `context`.
    ///
    /// # Errors
    /// When something that it needs is missing, or a bound is reached.
    pub fn render(&self, context: &Value) -> Result<String, RenderError> {
        let mut output = Bounded::default();
        self.render_to(context, &mut output).map_err(|error| {
            RenderError(if output.full {
                format!("makes more than {OUTPUT_BYTES_MAX} bytes")
            } else {
                self.explain(&error)
            })
        })?;
        String::from_utf8(output.bytes).map_err(|_| RenderError("makes no text".to_owned()))
    }

    /// The text for these names and texts.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn render_pairs(&self, pairs: &BTreeMap<&str, String>) -> Result<String, RenderError> {
        let pairs = pairs.iter().map(|(name, text)| (*name, text.clone()));
        self.render(&Value::from_pairs(pairs))
    }

    fn render_to(&self, context: &Value, output: &mut Bounded) -> Result<(), Error> {
        let template = self.environment.get_template(NAME)?;
        template.render_captured_to(context.clone(), output)?;
        Ok(())
    }

    /// A filter that does not exist is found only when it is called, so the template is tried once on nothing.
    fn try_functions(&self, names: &[&str]) -> Result<(), TemplateError> {
        let mut environment = (*self.environment).clone();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        let trial = Self {
            environment: Arc::new(environment),
            ..self.clone()
        };
        let context = Value::from_pairs(names.iter().map(|name| (*name, Value::UNDEFINED)));
        match trial.render_to(&context, &mut Bounded::default()) {
            Err(error) if is_unknown(error.kind()) => {
                let detail = error.detail().unwrap_or_default();
                Err(TemplateError::Function(match detail {
                    "" => error.kind().to_string(),
                    detail => detail.to_owned(),
                }))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What went wrong, and where; of the template itself only names are shown.
    fn explain(&self, error: &Error) -> String {
        let is_shown = |c: char| c.is_alphanumeric() || "_.[]| ".contains(c);
        // A range may begin in the middle of a path, or at the filter.
        let part = error.range().and_then(|range| {
            let before = self.source.get(..range.start)?;
            let begin = before.trim_end_matches(is_shown).len();
            self.source.get(begin..range.end).map(str::trim)
        });
        let part = part.filter(|part| part.len() <= 100 && part.chars().all(is_shown));
        let what = if error.kind() == ErrorKind::UndefinedError {
            "is missing".to_owned()
        } else if error.kind() == ErrorKind::OutOfFuel {
            "takes more steps than it may".to_owned()
        } else if error.detail() == Some(NULL) {
            NULL.to_owned()
        } else {
            format!("meets an error ({})", error.kind())
        };
        let line = error.line().unwrap_or(1);
        match part {
            Some(part) => format!("`{part}` {what} (line {line})"),
            None => format!("an expression {what} (line {line})"),
        }
    }
}

/// minijinja's own makes an empty text of what is missing.
fn escape(state: &mut State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    filters::escape(state, value)
}

/// minijinja's own makes a null of what is missing.
fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<Value>,
    args: Kwargs,
) -> Result<Value, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let indent = match indent {
        Some(indent) => Some(indent),
        None => args.get("indent")?,
    };
    args.assert_all_used()?;
    let spaces = indent.as_ref().map(spaces).transpose()?.flatten();
    let json = match numbers::json(state, value, spaces)? {
        Some(json) => Value::from_safe_string(json),
        None => filters::tojson(value, indent, args)?,
    };
    let bytes = json.as_str().map_or(0, str::len);
    state.consume_fuel(bytes as u64 / JSON_BYTES_PER_FUEL)?;
    Ok(json)
}

/// How far JSON is indented: by so many spaces, or by two where it is just `true`.
fn spaces(indent: &Value) -> Result<Option<usize>, Error> {
    match bool::try_from(indent.clone()) {
        Ok(flag) => Ok(flag.then_some(2)),
        Err(_) => usize::try_from(indent.clone()).map(Some),
    }
}

/// minijinja's own, with numbers as they were written.
fn string(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    filters::string(state, &numbers::as_texts(state, value)?)
}

/// minijinja's own, with numbers as they were written.
fn join(
    state: &mut State<'_, '_>,
    value: &Value,
    joiner: Option<StringInput<'_>>,
    attribute: Option<&str>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let value = numbers::as_texts(state, value)?;
    filters::join(state, &value, joiner, attribute, kwargs)
}

fn is_unknown(kind: ErrorKind) -> bool {
    use ErrorKind::{UnknownFilter, UnknownFunction, UnknownTest};
    kind == UnknownFilter || kind == UnknownFunction || kind == UnknownTest
}

fn described(error: &Error) -> String {
    let line = error.line().unwrap_or(1);
    match error.detail() {
        Some(detail) => format!("{detail} (in line {line} of it)"),
        None => format!("{} (in line {line} of it)", error.kind()),
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Template")
    }
}

/// Takes so much and no more.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > OUTPUT_BYTES_MAX {
            self.full = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::{DuplicateKeys, Json};
    use super::*;

    fn template(source: &str) -> Result<Template, TemplateError> {
        Template::new(source, Escape::Nothing, &["value", "topic"])
    }

    fn render(source: &str, value: serde_json::Value) -> Result<String, String> {
        render_text(source, &value.to_string())
    }

    fn render_text(source: &str, value: &str) -> Result<String, String> {
        let value = Json::parse(value.as_bytes(), DuplicateKeys::Last)
            .map_err(|fault| fault.to_string())?;
        let mut context = numbers::context("value", &value);
        context.push(("topic", "owner".into()));
        let context = Value::from_pairs(context);
        let template = template(source).map_err(|error| error.to_string())?;
        template.render(&context).map_err(|error| error.to_string())
    }

    #[test]
    fn values_go_in_as_they_are() {
        let value = serde_json::json!({"m": "a \"b\" <é>\n", "n": [1, 2.5], "none": null});
        let rendered = |source| render(source, value.clone()).unwrap();
        assert_eq!(
            rendered("{{ value.m }}|{{ topic }}\n"),
            "a \"b\" <é>\n|owner\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&rendered("{\"a\": {{ value | tojson }}}")).unwrap();
        assert_eq!(json["a"], value);
        assert_eq!(
            rendered("{% for n in value.n %}{{ n }};{% endfor %}"),
            "1;2.5;"
        );
        assert_eq!(rendered("{{ value.none | tojson }}"), "null");
        assert_eq!(rendered("{{ value.none | default('-', true) }}"), "-");
        assert_eq!(rendered("{{ value.gone | default('-') }}"), "-");
    }

    #[test]
    fn numbers_go_in_as_they_came() {
        for number in [
            "327267367867168100001",
            "-170141183460469231731687303715884105729",
            "12345678901234567.89",
            "0.10000000000000001",
            "18446744073709551616",
            "18446744073709551615",
            "19.90",
            "19.9",
            "1e5",
            "1E+400",
            "-1e-400",
            "-0",
            "0.00001",
            "1.0",
            "7",
        ] {
            let value = format!(r#"{{"n": {number}, "list": [{number}, 19.90, 0.5]}}"#);
            let rendered = |source| render_text(source, &value).unwrap();
            assert_eq!(rendered("{{ value.n }}"), number);
            assert_eq!(rendered("{{ value.n | tojson }}"), number);
            assert_eq!(rendered("{{ value.n | string }}"), number);
            let list = format!("{number}, 19.90, 0.5");
            assert_eq!(rendered("{{ value.list | join(', ') }}"), list);
            assert_eq!(
                rendered("{{ value | tojson }}"),
                format!(r#"{{"list": [{list}], "n": {number}}}"#)
            );
            assert_eq!(
                rendered("{% for n in value.list %}{{ n }};{% endfor %}"),
                format!("{number};19.90;0.5;")
            );
        }
    }

    #[test]
    fn numbers_that_keep_their_text_are_computed_with() {
        let value = r#"{"price": 19.90, "old": 19.9, "big": 12345678901234567.89, "near": 12345678901234567.88}"#;
        let rendered = |source| render_text(source, value).unwrap();
        assert_eq!(rendered("{{ value.price }} {{ value.old }}"), "19.90 19.9");
        assert_eq!(
            rendered("{{ value.big }} {{ value.near }}"),
            "12345678901234567.89 12345678901234567.88"
        );
        let price = |source| render_text(source, r#"{"price": 19.90}"#).unwrap();
        assert_eq!(
            price("{{ value.price * 2 }} {{ value.price == 19.9 }}"),
            "39.8 True"
        );
        assert_eq!(
            rendered("{{ value.big > 1000 and value.price < 20 }}"),
            "True"
        );
        assert_eq!(rendered("{{ value.price | round(1) }}"), "19.9");
        assert_eq!(rendered("{{ value.big | int }}"), "12345678901234568");
        let integer = r#"{"n": 327267367867168100001}"#;
        let next = render_text("{{ value.n + 1 }}", integer).unwrap();
        assert_eq!(next, "327267367867168100002");
    }

    #[test]
    fn json_is_laid_out_alike_whether_a_number_keeps_its_text_or_not() {
        let value = |number: &str| {
            format!(r#"{{"a": [], "b": {{}}, "c": [{number}, "<x>", null, {{"d": true}}]}}"#)
        };
        for filter in [
            "tojson",
            "tojson(2)",
            "tojson(indent=true)",
            "tojson(false)",
        ] {
            let source = format!("{{{{ value | {filter} }}}}");
            let plain = render_text(&source, &value("1.5")).unwrap();
            let kept = render_text(&source, &value("1.50")).unwrap();
            assert_eq!(kept, plain.replace("1.5", "1.50"), "{filter}");
        }
    }

    #[test]
    fn a_thousand_numbers_that_a_float_does_not_tell_apart() {
        let numbers: Vec<String> = (0..1000)
            .map(|n| format!("1700000000.000000{n:03}"))
            .collect();
        let list = numbers.join(", ");
        let value = format!(r#"{{"list": [{list}]}}"#);
        let rendered = render_text("{{ value.list | tojson }}", &value).unwrap();
        assert_eq!(rendered, format!("[{list}]"));
        let rendered = render_text("{{ value.list | join(', ') }}", &value).unwrap();
        assert_eq!(rendered, list);
    }

    #[test]
    fn html_is_escaped_where_it_is_asked_for() {
        let template = Template::new("<b>{{ topic }}</b>", Escape::Html, &["topic"]).unwrap();
        let context = Value::from_pairs([("topic", "<script>")]);
        assert_eq!(template.render(&context).unwrap(), "<b>&lt;script&gt;</b>");
    }

    #[test]
    fn what_is_missing_is_an_error_that_shows_no_content() {
        let value = serde_json::json!({"a": {"password": "hunter2"}, "none": null});
        let error = |source| render(source, value.clone()).unwrap_err();
        assert_eq!(error("\n{{ value.b }}"), "`value.b` is missing (line 2)");
        assert_eq!(error("{{ value.b.c }}"), "`value.b.c` is missing (line 1)");
        assert!(error("{{ value.none }}").starts_with("`value.none` is null"));
        assert_eq!(
            error("{{ value.b | tojson }}"),
            "`value.b | tojson` is missing (line 1)"
        );
        let mut lenient = Vec::new();
        for filter in [
            "upper",
            "lower",
            "title",
            "capitalize",
            "trim",
            "replace('a', 'b')",
            "join",
            "join(',')",
            "length",
            "first",
            "last",
            "list",
            "string",
            "int",
            "float",
            "bool",
            "abs",
            "round",
            "escape",
            "safe",
            "sort",
            "unique",
            "items | list",
            "dictsort",
            "indent(2)",
            "split",
            "lines",
            "reverse",
            "map('upper') | list",
            "select | list",
            "batch(2) | list",
            "format",
            "min",
            "max",
            "sum",
            "pprint",
        ] {
            if render(&format!("{{{{ value.b | {filter} }}}}"), value.clone()).is_ok() {
                lenient.push(filter);
            }
        }
        assert!(lenient.is_empty(), "{lenient:?}");
        for source in [
            "{{ value.a.password | int }}",
            "{{ value.a.password + 1 }}",
            "{{ 'hunter2' + 1 }}",
        ] {
            assert!(!error(source).contains("hunter2"), "{}", error(source));
        }
    }

    #[test]
    fn steps_and_output_are_bounded() {
        let error = |source| render(source, serde_json::json!({"s": "xxxxxxxxxx"})).unwrap_err();
        let steps =
            "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
        assert!(
            error(steps).contains("takes more steps"),
            "{}",
            error(steps)
        );
        let output = "{% for a in range(1000) %}{{ value.s * 200 }}{% endfor %}";
        assert_eq!(error(output), "makes more than 1048576 bytes");
        let memory = "{{ (value.s * 100000000) | length }}";
        assert!(
            error(memory).contains("takes more steps"),
            "{}",
            error(memory)
        );
        let json =
            "{% for a in range(10000) %}{% set x = ((value.s * 1000) | tojson) %}{% endfor %}";
        assert!(error(json).contains("takes more steps"), "{}", error(json));
        let nested = "{{ value.s * 1000000000000 }}";
        assert!(!error(nested).is_empty());
    }

    #[test]
    fn what_no_record_could_render_is_refused() {
        let error = |source| template(source).unwrap_err().to_string();
        assert!(
            error("{{ value.x").starts_with("is no template: "),
            "{}",
            error("{{ value.x")
        );
        assert!(error("{% include 'x' %}").starts_with("is no template"));
        assert_eq!(
            error("{{ vaule.x }}"),
            "names `vaule`, which a template does not know"
        );
        assert_eq!(
            error("{{ debug() }}"),
            "names `debug`, which a template does not know"
        );
        assert!(
            error("{{ value.x | tojsn }}").contains("filter"),
            "{}",
            error("{{ value.x | tojsn }}")
        );
        assert!(template("{% set x = value.a %}{{ x }}{{ range(3) | join }}").is_ok());
        assert!(Template::is_in("a {{ b }}") && !Template::is_in("{\"a\": {\"b\": 1}}"));
        assert!(!format!("{:?}", template("hunter2").unwrap()).contains("hunter2"));
    }
}
