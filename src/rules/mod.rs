//! Rules: which records go where. Pure.
//!
//! [`matcher`] judges a record for one destination; [`kind`] reads a record's type; [`pattern`] is the `*` of `types`.
//! [`content`] makes what is sent for it, by [`template`]s where the file has them.

mod content;
mod kind;
mod mailbox;
mod matcher;
mod options;
mod pattern;
mod template;

pub use content::{BRIDGE_NAMES, ContentOptions, Envelope, Rendered, Renderer, TEMPLATE_NAMES};
pub use matcher::Matcher;
pub use options::{ReadFormat, ReadOptions, RuleOptions, TypePart, ValuePolicy};
pub use template::{Escape, RenderError, Template, TemplateError};
