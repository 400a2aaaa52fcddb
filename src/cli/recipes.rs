//! `postrider recipes`: which mail services a bridge knows, and how each is asked.

use clap::Subcommand;

use crate::config;

use super::{Common, complain, exit, say};

/// The recipes for mail services.
#[derive(Debug, clap::Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  postrider recipes list               their names, and what each wants in `with`
  postrider recipes show sendgrid      what is sent there"
)]
pub(super) struct RecipesArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the recipes, and what each wants in `with`.
    List,
    /// Show a recipe.
    Show {
        /// Its name.
        name: String,
    },
}

pub(super) fn main(common: &Common, arguments: &RecipesArguments) -> u8 {
    let recipes = config::recipes();
    match &arguments.what {
        What::List if common.is_json() => {
            let of = |recipe: &config::RecipeSummary| serde_json::json!({ "name": recipe.name, "with": recipe.with });
            let all: Vec<_> = recipes.iter().map(of).collect();
            say(&format!("{}\n", serde_json::Value::from(all)));
            exit::OK
        }
        What::List => {
            for recipe in &recipes {
                let with = recipe.with.join(", ");
                say(&format!("{:12}  with = {{ {with} }}\n", recipe.name));
            }
            exit::OK
        }
        What::Show { name } => {
            if let Some(recipe) = recipes.iter().find(|recipe| recipe.name == name) {
                say(recipe.text);
                return exit::OK;
            }
            let names: Vec<&str> = recipes.iter().map(|recipe| recipe.name).collect();
            let names = names.join(", ");
            complain(&format!("error: no recipe {name}; there are: {names}"));
            exit::NO
        }
    }
}
