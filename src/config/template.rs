//! Templates in the file: of a body, of headers, of a mail.

use std::path::Path;

use super::reader::{Reader, Value};
use super::refusal::{Refusal, listed, nearest};
use super::secret;
use crate::rules::{ContentOptions, Escape, TEMPLATE_NAMES, Template, TemplateError};
use crate::send::header_name;

/// A template as a string, or in a file: `{ file = "path" }`.
pub(super) fn template(value: &Value<'_>, escape: Escape) -> Option<Template> {
    let text = source(value)?;
    value.accept(compiled(value, &text, escape))
}

fn source(value: &Value<'_>) -> Option<String> {
    if !value.is_table() {
        return value.text();
    }
    let reader = value.table()?;
    let file = reader.require("file", "write { file = \"path\" }, or the text itself");
    reader.finish();
    let file = file?;
    let name = file.text()?;
    let folder = file.origin().parent().unwrap_or(Path::new(""));
    let path = folder.join(&name);
    file.reads(&path);
    let text = secret::read(&path).map_err(|reason| {
        let hint = "a relative path begins at the folder of the configuration file";
        Refusal::new(format!("names the file `{name}`, which {reason}"), hint)
    });
    file.accept(text)
}

fn compiled(value: &Value<'_>, text: &str, escape: Escape) -> Result<Template, Refusal> {
    Template::new(text, escape, TEMPLATE_NAMES).map_err(|error| {
        let hint = match &error {
            TemplateError::Syntax(_) => {
                "what is to be replaced stands in {{ … }}; to send the marks themselves, write {% raw %}{{ … }}{% endraw %}"
                    .to_owned()
            }
            TemplateError::Name(name) => match nearest(name, TEMPLATE_NAMES.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("what a template knows: {}", listed(TEMPLATE_NAMES.iter().copied())),
            },
            TemplateError::Function(_) => {
                "there are minijinja's own, such as tojson, default, upper, join, length".to_owned()
            }
        };
        // A variable may hold a secret, and what the compiler says may hold a part of it.
        let hidden = matches!(error, TemplateError::Syntax(_)) && value.raw().contains("${");
        let message = match hidden {
            true => "is no template".to_owned(),
            false => error.to_string(),
        };
        Refusal::new(message, hint)
    })
}

/// What a rule has in place of what its destinations have.
pub(super) fn of_rule(reader: &Reader<'_>) -> ContentOptions {
    let mut content = ContentOptions::default();
    let plain = |value: Value<'_>| template(&value, Escape::Nothing);
    content.body = reader.take("body").and_then(plain);
    content.subject = reader.take("subject").and_then(plain);
    content.text = reader.take("text").and_then(plain);
    let html = reader.take("html");
    content.html = html.and_then(|value| template(&value, Escape::Html));
    let headers = reader.take("headers").and_then(|value| value.table());
    for value in headers.iter().flat_map(Reader::entries) {
        header(&value, &mut content);
    }
    content
}

/// A header made from the record.
pub(super) fn header(value: &Value<'_>, content: &mut ContentOptions) {
    let name = match header_name(value.key) {
        Ok(name) => name.as_str().to_owned(),
        Err(error) => {
            value.error_at_key(format!("`{}` {error}", value.key), error.hint());
            return;
        }
    };
    let Some(text) = value.text() else { return };
    let template = value.accept(compiled(value, &text, Escape::Nothing));
    if let Some(template) = template
        && content.headers.insert(name, template).is_some()
    {
        let message = format!("the header `{}` is set twice", value.key);
        value.error_at_key(message, "capitals make no difference; keep one of them");
    }
}
