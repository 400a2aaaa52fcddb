//! Templates: one text that is made anew for each record. Strict about what is missing, bounded in steps and in output.
//!
//! There are no includes, no inheritance and no macros: a template is as long as it looks.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, escape_formatter};
use thiserror::Error as ThisError;

/// The longest text that a template may make.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// What one rendering may spend: a step costs one, and so do 64 bytes that are made on the way, or 4 bytes of JSON.
const FUEL: u64 = 500_000;
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
    #[error("is a template with an {0}")]
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
    pub fn new(source: &str, escape: Escape, names: &[&str]) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_debug(false);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.map_err(|error| TemplateError::Syntax(described(&error)))?);
        environment.remove_global("debug");
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(move |_| match escape {
            Escape::Nothing => AutoEscape::None,
            Escape::Html => AutoEscape::Html,
        });
        environment.set_formatter(|output, state, value| {
            // `null` would be put in as the word "none", into an address even.
            if value.is_none() {
                return Err(Error::new(ErrorKind::InvalidOperation, NULL));
            }
            escape_formatter(output, state, value)
        });
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
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | ']');
        // A range may begin in the middle of a path.
        let part = error.range().and_then(|range| {
            let before = self.source.get(..range.start)?;
            let begin = before.trim_end_matches(is_name).len();
            self.source.get(begin..range.end)
        });
        let part = part.filter(|part| part.len() <= 100 && part.chars().all(is_name));
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
    use minijinja::value::Serde;

    use super::*;

    fn template(source: &str) -> Result<Template, TemplateError> {
        Template::new(source, Escape::Nothing, &["value", "topic"])
    }

    fn render(source: &str, value: serde_json::Value) -> Result<String, String> {
        let context = [
            ("value", Value::from(Serde(value))),
            ("topic", "owner".into()),
        ];
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
