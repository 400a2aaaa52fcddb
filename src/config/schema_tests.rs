//! The schema for editors against what the reader asks for, and against files that are right. What of JSON Schema it uses is judged here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{Config, SCHEMA};

fn schema() -> Value {
    serde_json::from_str(SCHEMA).unwrap()
}

/// The example and every file of the tests that is right, by name.
fn files() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![folder.join("config.example.toml")];
    let valid = fs::read_dir(folder.join("tests/config/valid")).unwrap();
    paths.extend(valid.map(|entry| entry.unwrap().path()));
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    assert!(paths.len() > 6, "only {} files", paths.len());
    let read = |path: std::path::PathBuf| {
        let name = path.display().to_string();
        (name, fs::read_to_string(path).unwrap())
    };
    paths.into_iter().map(read).collect()
}

/// What may be written in more ways than one, in those that the files leave out. Not a file that is right: the secrets are nowhere.
const FORMS: &str = r#"
[admin]
token = { env = "T" }
[defaults]
order = { by = { file = "b" }, after_dead_letter = "hold" }
rate = { limit = "1/s", burst = 1 }
[notification]
type = { topic = true }
[[notification.override]]
topics = ["t"]
type = [{ topic = true }]
values = { null = "skip" }
[[notification.override]]
type = { topic = true }
[destinations.a]
order = { by = { file = "b" } }
rate = { limit = "1/s" }
[destinations.a.webhook]
url = { env = "U" }
body = { file = "b" }
tls = { client_cert = { file = "c" }, client_key = { env = "K" }, ca = { credential = "a" } }
proxy = { url = { env = "P" }, username = { env = "N" }, password = { env = "W" } }
signing = { scheme = "standard-webhooks", secrets = [{ env = "S", not_after = "2030-01-01T00:00:00Z" }] }
[destinations.b]
rate = [{ limit = "1/s", burst = 1 }]
[destinations.b.email]
from = { file = "f" }
to = [{ file = "t" }]
subject = { file = "s" }
text = { file = "t" }
html = { file = "h" }
bridge = { recipe = "generic", with = { url = { env = "U" }, token = { env = "T" } } }
[[rules]]
body = { file = "b" }
subject = { file = "s" }
text = { file = "t" }
html = { file = "h" }
"#;

/// Every key that the reader asks for, as the contract writes it; but for librdkafka's own.
fn asked() -> BTreeSet<String> {
    let environment = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| "none".to_owned());
    let limit = "{ limit = \"1/s\", burst = 1 }";
    let lists = FORMS.replacen(limit, &format!("[{limit}]"), 1);
    let mut texts = files();
    texts.extend([FORMS.to_owned(), lists].map(|text| ("forms".to_owned(), text)));
    let known = texts
        .into_iter()
        .flat_map(|(name, text)| Config::parse_and_list(&text, Path::new(&name), &environment).1);
    let ours = |key: &String| !key.starts_with("kafka.properties.");
    known.filter(ours).collect()
}

/// The schema that `$ref` names, or the schema itself.
fn follow<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let Some(name) = schema["$ref"].as_str() else {
        return schema;
    };
    let found = root.pointer(name.strip_prefix('#').unwrap());
    found.unwrap_or_else(|| panic!("{name} is nowhere"))
}

/// Every key below, as the contract writes it.
fn keys(schema: &Value, root: &Value, base: &str, found: &mut BTreeSet<String>) {
    let schema = follow(schema, root);
    let join = |key: &str| match base {
        "" => key.to_owned(),
        _ => format!("{base}.{key}"),
    };
    for (key, below) in schema["properties"].as_object().into_iter().flatten() {
        found.insert(join(key));
        keys(below, root, &join(key), found);
    }
    if schema["additionalProperties"].is_object() {
        keys(&schema["additionalProperties"], root, &join("*"), found);
    }
    keys_of_list(schema, root, base, found);
}

fn keys_of_list(schema: &Value, root: &Value, base: &str, found: &mut BTreeSet<String>) {
    if schema["items"].is_object() {
        keys(&schema["items"], root, &format!("{base}[]"), found);
    }
    for way in ["anyOf", "allOf"] {
        for below in schema[way].as_array().into_iter().flatten() {
            keys(below, root, base, found);
        }
    }
}

#[test]
fn the_schema_has_every_key_that_is_read_and_no_other() {
    let root = schema();
    let mut written = BTreeSet::new();
    keys(&root, &root, "", &mut written);
    let asked = asked();
    assert!(asked.len() > 60, "only {} keys were asked for", asked.len());
    let missing: Vec<_> = asked.difference(&written).collect();
    assert!(missing.is_empty(), "not in schema.json: {missing:?}");
    let unasked: Vec<_> = written.difference(&asked).collect();
    assert!(unasked.is_empty(), "in schema.json alone: {unasked:?}");
}

#[test]
fn files_that_are_right_are_right_by_the_schema() {
    let root = schema();
    for (name, text) in files() {
        let file = with_texts_for_times(toml::from_str(&text).unwrap());
        judge(&file, &root, &root, "").unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn what_is_wrong_is_wrong_by_the_schema() {
    let root = schema();
    let (_, example) = files().swap_remove(0);
    for (right, wrong) in [
        ("commit_interval", "comit_interval"),
        ("commit_interval = \"500ms\"", "commit_interval = 500"),
        ("\"classic\"", "\"modern\""),
        ("partitions = 4", "partitions = 0"),
        ("jitter = 0.2", "jitter = 2.0"),
        ("prefix = \"postrider\"", ""),
        ("404 = \"retry\"", "404 = \"again\""),
        ("{ topic = true }", "{ topic = true, field = \"/x\" }"),
        ("drain = \"30s\"", "drain = \"half a minute\""),
    ] {
        let text = example.replacen(right, wrong, 1);
        assert_ne!(text, example, "{right}");
        let file: Value = toml::from_str(&text).unwrap();
        assert!(judge(&file, &root, &root, "").is_err(), "{wrong}");
    }
}

/// TOML's own times, as an editor hands them to the schema.
fn with_texts_for_times(value: toml::Value) -> Value {
    match value {
        toml::Value::Datetime(time) => Value::from(time.to_string()),
        toml::Value::Array(list) => list.into_iter().map(with_texts_for_times).collect(),
        toml::Value::Table(table) => {
            let below = table
                .into_iter()
                .map(|(key, below)| (key, with_texts_for_times(below)));
            Value::Object(below.collect())
        }
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(word) => Value::from(word),
    }
}

/// Whether `value` is right; else where it is not.
fn judge(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    let schema = follow(schema, root);
    let ensure = |holds: bool, word: &str| match holds {
        true => Ok(()),
        false => Err(format!("{at}: {word} of {schema}")),
    };
    if !schema["type"].is_null() {
        ensure(has_type(value, &schema["type"]), "type")?;
    }
    if let Some(list) = schema["enum"].as_array() {
        ensure(list.contains(value), "enum")?;
    }
    if let Some(only) = schema.get("const") {
        ensure(only == value, "const")?;
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str()) {
        let fits = regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text));
        ensure(fits, "pattern")?;
    }
    if let Some(number) = value.as_f64() {
        ensure(
            schema["minimum"].as_f64().is_none_or(|m| number >= m),
            "minimum",
        )?;
        ensure(
            schema["maximum"].as_f64().is_none_or(|m| number <= m),
            "maximum",
        )?;
    }
    if let Some(list) = value.as_array() {
        let least = schema["minItems"].as_u64().unwrap_or(0);
        ensure(list.len() as u64 >= least, "minItems")?;
        for (n, entry) in list.iter().enumerate() {
            judge(entry, &schema["items"], root, &format!("{at}[{n}]"))?;
        }
    }
    judge_table(value, schema, root, at)?;
    let all = schema["allOf"].as_array();
    all.into_iter()
        .flatten()
        .try_for_each(|way| judge(value, way, root, at))?;
    let any = schema["anyOf"].as_array();
    let fits = |ways: &Vec<Value>| ways.iter().any(|way| judge(value, way, root, at).is_ok());
    ensure(any.is_none_or(fits), "anyOf")
}

fn judge_table(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    let Some(table) = value.as_object() else {
        return Ok(());
    };
    let size = table.len() as u64;
    let most = schema["maxProperties"].as_u64().unwrap_or(u64::MAX);
    if size < schema["minProperties"].as_u64().unwrap_or(0) || size > most {
        return Err(format!("{at}: {size} keys"));
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        if !table.contains_key(key.as_str().unwrap_or_default()) {
            return Err(format!("{at}: no {key}"));
        }
    }
    for (key, below) in table {
        let at = format!("{at}.{key}");
        judge(&Value::from(&**key), &schema["propertyNames"], root, &at)?;
        match schema["properties"].get(key) {
            Some(known) => judge(below, known, root, &at)?,
            None if schema["additionalProperties"] == Value::Bool(false) => {
                return Err(format!("{at}: unknown"));
            }
            None => judge(below, &schema["additionalProperties"], root, &at)?,
        }
    }
    Ok(())
}

fn has_type(value: &Value, wanted: &Value) -> bool {
    let is = |wanted: &Value| match wanted.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("{other} is no type"),
    };
    wanted
        .as_array()
        .map_or_else(|| is(wanted), |ways| ways.iter().any(is))
}
