//! What goes out for a record, with and without templates.

use bytes::Bytes;

use super::*;
use crate::clock::Timestamp;
use crate::record::Header;
use crate::rules::{Escape, OnError, TypePart};

const ID: DeliveryId = DeliveryId([7; 16]);

fn template(text: &str) -> Template {
    Template::new(text, Escape::Nothing, TEMPLATE_NAMES).unwrap()
}

fn body(text: &str) -> ContentOptions {
    ContentOptions {
        body: Some(template(text)),
        ..ContentOptions::default()
    }
}

fn record(value: &[u8]) -> Record {
    Record {
        topic: "owner".into(),
        partition: 3,
        offset: 41,
        timestamp: Some(Timestamp(1_700_000_000_123)),
        key: Some(Bytes::from_static(b"k7")),
        value: Some(Bytes::copy_from_slice(value)),
        headers: vec![
            Header {
                name: "trace".into(),
                value: Some("first".into()),
            },
            Header {
                name: "trace".into(),
                value: Some("last".into()),
            },
            Header {
                name: "binary".into(),
                value: Some(Bytes::from_static(b"\xff")),
            },
        ],
    }
}

fn renderer(content: ContentOptions) -> Renderer {
    let read = ReadOptions {
        type_parts: vec![TypePart::Topic, TypePart::Field("/type".to_owned())],
        ..ReadOptions::default()
    };
    Renderer::new(content, &[], read)
}

fn bytes(record: &Record) -> Bytes {
    record.value.clone().unwrap_or_default()
}

fn rendered(content: ContentOptions, record: &Record) -> Result<String, String> {
    let made = renderer(content).render(record, bytes(record), "rest", ID, 2);
    made.map(|made| String::from_utf8(made.body.to_vec()).unwrap_or_default())
        .map_err(|error| error.to_string())
}

#[test]
fn without_templates_the_bytes_go_out_as_they_are() {
    let record = record(b"\xff not JSON");
    let made = renderer(ContentOptions::default())
        .render(&record, bytes(&record), "rest", ID, 1)
        .unwrap();
    assert_eq!(made.body, record.value.clone().unwrap());
    assert!(made.headers.is_empty());
    // A template that does not look into the value does not mind what it is.
    assert_eq!(rendered(body("{{ topic }}"), &record).unwrap(), "owner");
    let error = rendered(body("{{ value }}"), &record).unwrap_err();
    assert!(error.starts_with("the value is not JSON"), "{error}");
}

#[test]
fn every_name_stands_for_what_it_says() {
    let record = record(br#"{"type": "upload", "n": 9007199254740993}"#);
    let all = "{{ topic }} {{ partition }} {{ offset }} {{ timestamp }} {{ key }} {{ headers.trace }} \
               {{ type }} {{ rule }} {{ attempt }} {{ value.n }} {{ id }}";
    let expected = format!(
        "owner 3 41 2023-11-14T22:13:20.123Z k7 last owner.upload rest 2 9007199254740993 {ID}"
    );
    assert_eq!(rendered(body(all), &record).unwrap(), expected);
    let error = rendered(body("{{ headers.binary }}"), &record).unwrap_err();
    assert_eq!(error, "body: `headers.binary` is missing (line 1)");
}

#[test]
fn what_python_and_javascript_write_is_no_reason_for_a_dead_letter() {
    let value =
        "\u{feff}{\"text\": \"hi \\ud83d\", \"id\": 327267367867168100001, \"price\": 19.90}";
    let record = record(value.as_bytes());
    let all = "{{ value.text }} {{ value.id }} {{ value.price }}";
    let expected = "hi \u{fffd} 327267367867168100001 19.90";
    assert_eq!(rendered(body(all), &record).unwrap(), expected);
}

#[test]
fn a_key_that_is_no_text_is_base64() {
    let mut record = record(b"{}");
    record.key = Some(Bytes::from_static(&[0xff, 0, 7]));
    assert_eq!(rendered(body("{{ key }}"), &record).unwrap(), "/wAH");
}

#[test]
fn a_null_or_empty_value_is_null() {
    let empty = record(b"");
    let null = Record {
        value: None,
        key: None,
        ..empty.clone()
    };
    for record in [empty, null.clone()] {
        assert_eq!(
            rendered(body("{{ value | tojson }}"), &record).unwrap(),
            "null"
        );
        assert!(rendered(body("{{ value.x }}"), &record).is_err());
    }
    assert!(rendered(body("{{ key }}"), &null).is_err());
}

#[test]
fn a_rule_has_the_last_word_on_body_and_headers() {
    let mut content = body("destination");
    content.headers = [("a", "da"), ("b", "db")]
        .map(|(n, v)| (n.to_owned(), template(v)))
        .into();
    let of_rule = ContentOptions {
        headers: [("b".to_owned(), template("{{ value.n }}"))].into(),
        ..body("{{ rule }}")
    };
    let rule = |name: &str, content| RuleOptions {
        name: name.into(),
        topics: vec![],
        types: vec![],
        conditions: Vec::new(),
        default: false,
        on_error: OnError::DeadLetter,
        deliver_to: vec![],
        content,
    };
    let rules = [
        rule("own", of_rule),
        rule("plain", ContentOptions::default()),
    ];
    let renderer = Renderer::new(content, &rules, ReadOptions::default());
    let made = |rule| {
        let record = record(br#"{"n": 1}"#);
        renderer
            .render(&record, bytes(&record), rule, ID, 1)
            .unwrap()
    };
    let headers = |b: &str| {
        vec![
            ("a".to_owned(), "da".to_owned()),
            ("b".to_owned(), b.to_owned()),
        ]
    };
    assert_eq!(
        (&*made("own").body, made("own").headers),
        (&b"own"[..], headers("1"))
    );
    assert_eq!(
        (&*made("plain").body, made("plain").headers),
        (&b"destination"[..], headers("db"))
    );
}

fn mail(to: &[&str], subject: &str) -> ContentOptions {
    let request = "{{ {'from': from, 'to': to, 'subject': subject, 'text': text, 'html': html, 'id': id} | tojson }}";
    ContentOptions {
        subject: Some(template(subject)),
        html: Some(Template::new("<p>{{ value.m }}", Escape::Html, TEMPLATE_NAMES).unwrap()),
        envelope: Some(Envelope {
            from: template("GraphSpace <noreply@g.example>"),
            to: to.iter().map(|text| template(text)).collect(),
            request: Template::new(request, Escape::Nothing, BRIDGE_NAMES).unwrap(),
        }),
        ..ContentOptions::default()
    }
}

#[test]
fn a_mail_is_what_its_templates_make() {
    let record = record(
        br#"{"to": "Anna <anna@g.example>", "again": "ANNA@g.example", "none": "", "m": "<b>\n"}"#,
    );
    let content = mail(
        &["{{ value.to }}", "{{ value.again }}", "{{ value.none }}"],
        "News: {{ value.m }}",
    );
    let made: serde_json::Value =
        serde_json::from_str(&rendered(content, &record).unwrap()).unwrap();
    let expected = serde_json::json!({
        "from": {"name": "GraphSpace", "email": "noreply@g.example"},
        "to": [{"name": "Anna", "email": "anna@g.example"}],
        "subject": "News: <b>",
        "text": null,
        "html": "<p>&lt;b&gt;\n",
        "id": ID.to_string(),
    });
    assert_eq!(made, expected);
}

#[test]
fn a_mail_to_nobody_cannot_be_made() {
    let record =
        record(br#"{"none": null, "blank": " ", "bad": "anna@g.example, eve@g.example", "m": ""}"#);
    let error = |to| rendered(mail(&[to], "s"), &record).unwrap_err();
    assert!(error("{{ value.none }}").starts_with("to: `value.none` is null"));
    assert_eq!(error("{{ value.blank }}"), "to: names no recipient");
    assert_eq!(error("{{ value.bad }}"), "to: is not a mail address");
}
