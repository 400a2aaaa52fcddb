//! From what the rules make of a record to what the sender sends.

use crate::delivery::DeliveryId;
use crate::record::Record;
use crate::rules::Renderer;
use crate::send::Content;

/// What goes out for this delivery; else why nothing can.
pub(super) fn content(
    renderer: &Renderer,
    record: &Record,
    rule: &str,
    (id, number): (DeliveryId, u32),
) -> Result<Content, String> {
    let rendered = renderer
        .render(record, rule, id, number)
        .map_err(|error| error.to_string())?;
    let mut content = Content::new(rendered.body);
    for (name, value) in &rendered.headers {
        content
            .set_header(name, value)
            .map_err(|error| format!("header {name}: {error}"))?;
    }
    Ok(content)
}
