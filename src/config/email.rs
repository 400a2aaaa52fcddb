//! `[destinations.NAME.email]`: mails, sent through the HTTP bridge of a mail service.

use std::collections::BTreeMap;

use super::reader::{Reader, Value};
use super::recipes::{RECIPES, Recipe};
use super::refusal::{listed, nearest};
use super::secret::{Secret, string_or_secret};
use super::template::template;
use super::webhook::{OUTCOMES, Sender, placeholder, url};
use crate::rules::{BRIDGE_NAMES, ContentOptions, Envelope, Escape, Template, is_mail_address};
use crate::send::{EndpointUrl, WebhookOptions, header};

/// What `with` holds: each value with its place, so that what is wrong with it is said there.
type With<'a> = BTreeMap<&'a str, (Value<'a>, Option<String>)>;

/// The sender of mails that `section` describes.
pub(super) fn read(section: &Value<'_>) -> Option<Sender> {
    let reader = section.table()?;
    let plain = |value: Value<'_>| template(&value, Escape::Nothing);
    let from = reader.require("from", "write from = \"Shop <shop@example.org>\"");
    let from = from.and_then(|value| address(&value));
    let to = reader.require("to", "write to = [\"{{ value.email }}\"]");
    let to = to.and_then(|value| recipients(&value));
    let subject = reader.require("subject", "write subject = \"Order {{ value.order_id }}\"");
    let mut content = ContentOptions {
        subject: subject.and_then(plain),
        text: reader.take("text").and_then(plain),
        ..ContentOptions::default()
    };
    let html = reader.take("html");
    content.html = html.and_then(|value| template(&value, Escape::Html));
    if !reader.has("text") && !reader.has("html") {
        let message = format!("{} has neither `text` nor `html`", reader.header());
        let hint = "write text = \"{{ value.message }}\", or { file = \"mail.txt\" }";
        reader.error_at_header(&format!("{}.text", reader.path()), message, hint);
    }
    let bridge = reader
        .require(
            "bridge",
            "write bridge = { recipe = \"sendgrid\", with = { api_key = { env = \"SENDGRID_KEY\" } } }",
        )
        .and_then(|value| bridge(&value));
    reader.finish();
    let (webhook, request) = bridge?;
    content.envelope = Some(Envelope {
        from: from?,
        to: to?,
        request,
    });
    Some(Sender { webhook, content })
}

fn recipients(value: &Value<'_>) -> Option<Vec<Template>> {
    let entries = value.list("[\"{{ value.email }}\"]")?;
    // Every entry is looked at, also behind one that is wrong.
    let addresses: Vec<_> = entries.iter().map(address).collect();
    addresses.into_iter().collect()
}

/// A mail address, or a template that makes one. What is no template can be looked at here, before every mail fails for it.
fn address(value: &Value<'_>) -> Option<Template> {
    let template = template(value, Escape::Nothing)?;
    let text = value.node.get_ref().as_str().unwrap_or("{");
    if !text.contains(['{', '$']) && !is_mail_address(text) {
        let hint = "write shop@example.org, or with a name: Shop <shop@example.org>";
        value.error("is not a mail address", hint);
        return None;
    }
    Some(template)
}

/// The request of a recipe: where it goes and with which headers, and the template of its body.
fn bridge(section: &Value<'_>) -> Option<(WebhookOptions, Template)> {
    let reader = section.table()?;
    let recipes: Vec<_> = RECIPES.iter().map(|(name, text)| (*name, *text)).collect();
    let recipe = reader.require("recipe", "write recipe = \"sendgrid\"");
    let recipe = recipe.and_then(|value| value.one_of(&recipes, &[]));
    let with = reader.take("with").and_then(|value| value.table());
    reader.finish();
    let recipe = Recipe::parse(recipe?);
    let with = self::with(with.as_ref(), &recipe);
    for name in &recipe.needs {
        if !with.contains_key(name.as_str()) {
            let hint = format!("write with = {{ {name} = {{ env = \"NAME\" }} }}");
            section.error(
                format!("has no `{name}` in `with`, which the recipe needs"),
                hint,
            );
        }
    }
    let url = match with.get("url") {
        Some((value, _)) => url(value),
        None => recipe.url.as_ref().and_then(|url| url.parse().ok()),
    };
    // What is wrong with the rest is said even when there is no address.
    let options = request_options(url.clone().unwrap_or_else(placeholder), &recipe, &with)?;
    url?;
    let body = compiled(&recipe.request.body, BRIDGE_NAMES);
    Some((options, body))
}

/// Each value of `with` that the recipe knows.
fn with<'a>(table: Option<&Reader<'a>>, recipe: &Recipe) -> With<'a> {
    let mut with = With::new();
    for value in table.into_iter().flat_map(Reader::entries) {
        let known = recipe.needs.iter().chain(&recipe.takes).map(String::as_str);
        let known: Vec<&str> = known.chain(["url"]).collect();
        if !known.contains(&value.key) {
            let hint = match nearest(value.key, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("what the recipe knows: {}", listed(known)),
            };
            value.error_at_key(format!("the recipe does not know `{}`", value.key), hint);
        } else if value.key == "url" {
            with.insert(value.key, (value, None));
        } else {
            let text = string_or_secret(&value).map(Secret::expose);
            with.insert(value.key, (value, text));
        }
    }
    with
}

fn request_options(url: EndpointUrl, recipe: &Recipe, with: &With<'_>) -> Option<WebhookOptions> {
    let mut options = WebhookOptions::new(url);
    set_outcomes(recipe, &mut options);
    let texts = with
        .iter()
        .filter_map(|(name, (_, text))| Some((*name, text.clone()?)));
    let texts: BTreeMap<_, _> = texts.collect();
    for (name, source) in &recipe.headers {
        let names: Vec<&str> = recipe
            .needs
            .iter()
            .chain(&recipe.takes)
            .map(String::as_str)
            .collect();
        let template = compiled(source, &names);
        let used = names.into_iter().find(|name| template.uses(name));
        // Optional and not there, or wrong in itself, which was said already.
        let Ok(text) = template.render_pairs(&texts) else {
            continue;
        };
        match header(name, &text) {
            Ok((name, value)) => {
                options.headers.insert(name, value);
            }
            Err(error) => {
                let (value, _) = used.and_then(|name| with.get(name))?;
                value.error("has a character that no header can carry", error.hint());
            }
        }
    }
    Some(options)
}

/// A template of a recipe.
fn compiled(source: &str, names: &[&str]) -> Template {
    Template::new(source, Escape::Nothing, names).expect("every recipe is read by a test")
}

fn set_outcomes(recipe: &Recipe, options: &mut WebhookOptions) {
    const KNOWN: &str = "every recipe is read by a test";
    for (selector, word) in &recipe.outcomes {
        let outcome = OUTCOMES.iter().find(|(name, _)| name == word);
        let (_, outcome) = outcome.expect(KNOWN);
        let selector = selector.parse().expect(KNOWN);
        options.outcomes.set(selector, *outcome).expect(KNOWN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_is_one() {
        for (name, text) in RECIPES {
            let recipe = Recipe::parse(text);
            let url = "http://h/x".parse().unwrap();
            assert!(
                recipe.url.is_some() || recipe.needs.iter().any(|need| need == "url"),
                "{name}"
            );
            if let Some(url) = &recipe.url {
                assert!(url.parse::<EndpointUrl>().is_ok(), "{name}");
            }
            assert!(
                request_options(url, &recipe, &With::new()).is_some(),
                "{name}"
            );
            Template::new(&recipe.request.body, Escape::Nothing, BRIDGE_NAMES).unwrap();
        }
    }
}
