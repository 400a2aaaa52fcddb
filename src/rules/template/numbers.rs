//! A record's JSON as templates see it: numbers to compute with, each of which is printed as it was written.
//!
//! A template computes with 64-bit floats and has no number that keeps `12345678901234567.89`, or the zero of `19.90`. So where a value holds such a
//! number, each of its floats stands for one text, and where a float comes out of the template its text is printed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use minijinja::value::{Kwargs, Object, ObjectRepr, Value, ValueKind};
use minijinja::{Error, State, filters};

use super::super::json::{Json, Number};

/// What the texts are called in a template's context; no template can write it.
const NAME: &str = "the texts of numbers";
/// So many floats are tried for a number before it cannot be computed with.
const NEIGHBOURS_MAX: usize = 64;

/// The text that each float of a value stands for.
#[derive(Debug, Default)]
struct Texts(BTreeMap<u64, Arc<str>>);

/// A number that is printed and nothing else: too many others have the same float.
#[derive(Debug)]
struct Printed(Arc<str>);

impl Object for Texts {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

impl Object for Printed {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// `json` under `name`, and what else the context needs for it.
pub(in super::super) fn context(name: &'static str, json: &Json) -> Vec<(&'static str, Value)> {
    if !needs_texts(json) {
        return vec![(name, view(json, &mut float))];
    }
    let mut texts = Texts::default();
    let value = view(json, &mut |number| texts.stand_in(number));
    vec![(name, value), (NAME, Value::from_object(texts))]
}

fn needs_texts(json: &Json) -> bool {
    match json {
        Json::Number(number) => number.needs_text(),
        Json::List(entries) => entries.iter().any(needs_texts),
        Json::Object(fields) => fields.values().any(needs_texts),
        Json::Null | Json::Boolean(_) | Json::Text(_) => false,
    }
}

fn float(number: &Number) -> Value {
    Value::from(number.as_float())
}

fn view(json: &Json, float: &mut impl FnMut(&Number) -> Value) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Boolean(flag) => Value::from(*flag),
        Json::Text(text) => Value::from(&**text),
        Json::Number(number) => match number.as_integer() {
            Some(integer) => i64::try_from(integer).map_or(Value::from(integer), Value::from),
            None => float(number),
        },
        Json::List(entries) => entries.iter().map(|entry| view(entry, float)).collect(),
        Json::Object(fields) => {
            let fields = fields.iter();
            Value::from_pairs(fields.map(|(key, field)| (&**key, view(field, float))))
        }
    }
}

impl Texts {
    /// The nearest float that stands for no other text.
    fn stand_in(&mut self, number: &Number) -> Value {
        let text: Arc<str> = Arc::from(number.to_string());
        let mut float = number.as_float();
        for _ in 0..NEIGHBOURS_MAX {
            match self.0.entry(float.to_bits()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(text);
                    return Value::from(float);
                }
                Entry::Occupied(occupied) if *occupied.get() == text => return Value::from(float),
                Entry::Occupied(_) if float > 1.0 => float = float.next_down(),
                Entry::Occupied(_) => float = float.next_up(),
            }
        }
        Value::from_object(Printed(text))
    }
}

/// The text that `value` was written as, where its own is another.
pub(super) fn text(state: &State<'_, '_>, value: &Value) -> Option<Arc<str>> {
    let bits = bits(value)?;
    texts(state)?.0.get(&bits).cloned()
}

/// By what a float is known; nothing of what is none.
fn bits(value: &Value) -> Option<u64> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    let float = is_float.then(|| f64::try_from(value.clone()).ok());
    float.flatten().map(f64::to_bits)
}

fn texts(state: &State<'_, '_>) -> Option<Arc<Texts>> {
    state.lookup(NAME)?.downcast_object()
}

/// `value`, and in lists what is in them, with texts in place of floats: for filters that make texts of them.
pub(super) fn as_texts(state: &State<'_, '_>, value: &Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::Seq && texts(state).is_some() {
        let entries = value.try_iter()?.map(|entry| as_texts(state, &entry));
        return entries.collect();
    }
    Ok(text(state, value).map_or_else(|| value.clone(), |text| Value::from(&*text)))
}

/// `value` as JSON, as minijinja's own filter writes it but for the numbers; `None`: it writes them right by itself.
pub(super) fn json(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<usize>,
) -> Result<Option<String>, Error> {
    let Some(texts) = texts(state) else {
        return Ok(None);
    };
    let mut writer = Writer {
        texts: &texts.0,
        indent,
        depth: 0,
        out: String::new(),
    };
    writer.value(value)?;
    Ok(Some(writer.out))
}

struct Writer<'a> {
    texts: &'a BTreeMap<u64, Arc<str>>,
    indent: Option<usize>,
    depth: usize,
    out: String,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value) -> Result<(), Error> {
        let kind = value.kind();
        if kind == ValueKind::Seq || kind == ValueKind::Iterable {
            let entries = value.try_iter()?;
            return self.enclosed('[', ']', entries, |this, entry| this.value(&entry));
        }
        if kind == ValueKind::Map {
            return self.enclosed('{', '}', value.try_iter()?, |this, key| {
                this.key(&key)?;
                this.out.push_str(": ");
                this.value(&value.get_item(&key)?)
            });
        }
        let printed = value.downcast_object_ref::<Printed>();
        let text = printed.map(|Printed(text)| text);
        match text.or_else(|| self.texts.get(&bits(value)?)) {
            Some(text) => self.out.push_str(text),
            None => self.single(value)?,
        }
        Ok(())
    }

    fn key(&mut self, key: &Value) -> Result<(), Error> {
        let quoted = key.as_str().is_none();
        if quoted {
            self.out.push('"');
        }
        self.single(key)?;
        if quoted {
            self.out.push('"');
        }
        Ok(())
    }

    /// What has nothing within it.
    fn single(&mut self, value: &Value) -> Result<(), Error> {
        let json = filters::tojson(value, None, Kwargs::from_iter::<[(String, Value); 0]>([]))?;
        self.out.push_str(json.as_str().unwrap_or("null"));
        Ok(())
    }

    fn enclosed(
        &mut self,
        open: char,
        close: char,
        entries: impl Iterator<Item = Value>,
        mut write: impl FnMut(&mut Self, Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        self.depth += 1;
        let mut empty = true;
        for entry in entries {
            if !empty {
                self.out.push(',');
            }
            if !empty && self.indent.is_none() {
                self.out.push(' ');
            }
            self.new_line();
            empty = false;
            write(self, entry)?;
        }
        self.depth -= 1;
        if !empty {
            self.new_line();
        }
        self.out.push(close);
        Ok(())
    }

    fn new_line(&mut self) {
        if let Some(indent) = self.indent {
            self.out.push('\n');
            self.out.push_str(&" ".repeat(indent * self.depth));
        }
    }
}
