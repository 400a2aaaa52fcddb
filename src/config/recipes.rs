//! How to ask a mail service for a mail, as data. A new service is a new file in `recipes/`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Each recipe by its name in the file.
pub(super) const RECIPES: &[(&str, &str)] = &[
    ("generic", include_str!("recipes/generic.toml")),
    ("sendgrid", include_str!("recipes/sendgrid.toml")),
];

/// One recipe.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// Where requests go, unless `with` has another `url`.
    #[serde(default)]
    pub(super) url: Option<String>,
    /// What `with` must have.
    #[serde(default)]
    pub(super) needs: Vec<String>,
    /// What it may have beside that.
    #[serde(default)]
    pub(super) takes: Vec<String>,
    /// Headers as templates over `with`; one that names what `with` does not have is left out.
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    /// What answers mean, where the default does not fit.
    #[serde(default)]
    pub(super) outcomes: BTreeMap<String, String>,
    /// What is sent.
    pub(super) request: Request,
}

/// What is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    /// A template over the mail.
    pub(super) body: String,
}

impl Recipe {
    /// The recipe of that text. They are a part of the program, and a test reads each.
    pub(super) fn parse(text: &str) -> Self {
        toml::from_str(text).expect("every recipe is read by a test")
    }
}

/// A recipe, for somebody who looks for one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeSummary {
    /// Its name in the file.
    pub name: &'static str,
    /// What `with` takes; a `?` behind what may be left out.
    pub with: Vec<String>,
    /// The recipe as it is written.
    pub text: &'static str,
}

/// Every recipe there is.
#[must_use]
pub fn recipes() -> Vec<RecipeSummary> {
    let summary = |(name, text): &(&'static str, &'static str)| {
        let recipe = Recipe::parse(text);
        let mut with = recipe.needs;
        with.extend(recipe.takes.iter().map(|key| format!("{key}?")));
        RecipeSummary { name, with, text }
    };
    RECIPES.iter().map(summary).collect()
}
