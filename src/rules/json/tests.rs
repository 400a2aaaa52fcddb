//! The parser against another one, and where it is kinder than that.

use super::*;

fn json(text: &str) -> Json {
    Json::parse(text.as_bytes(), DuplicateKeys::Last).unwrap()
}

fn fault(text: &str) -> String {
    let parsed = Json::parse(text.as_bytes(), DuplicateKeys::Last);
    parsed.unwrap_err().to_string()
}

/// Takes what `serde_json` takes and refuses what it refuses, in every text that differs from a sound one in one byte.
#[test]
fn what_is_json_is_what_others_take_for_it() {
    let sound =
        r#" {"a": [1, -0.5e+3, true, false, null, "x\n\u00e9\ud83d\ude00 é"], "": {"b": []}}"#;
    let odd = b"\0\t\n \"\\{}[]:,+-.eE0129tfnu/\x7f\xc3\xff";
    let mut taken = 0;
    for at in 0..sound.len() {
        for byte in odd {
            let mut text = sound.as_bytes().to_vec();
            text[at] = *byte;
            let ours = Json::parse(&text, DuplicateKeys::Last);
            match serde_json::from_slice::<serde_json::Value>(&text) {
                Ok(theirs) => {
                    let ours: serde_json::Value =
                        serde_json::from_str(&ours.unwrap().to_string()).unwrap();
                    assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&text));
                    taken += 1;
                }
                Err(error) => {
                    // Half a pair is all that we take beyond.
                    let half = error.to_string().contains("surrogate")
                        || error.to_string().contains("end of hex escape");
                    assert!(ours.is_err() || half, "{}", String::from_utf8_lossy(&text));
                }
            }
        }
    }
    assert!(taken > 300, "{taken}");
}

#[test]
fn a_text_that_ends_too_early_is_no_json_and_said_to_be_so() {
    let sound = r#"{"a": [1.5e3, "x\u00e9", true]}"#;
    for end in 0..sound.len() {
        let cut = Json::parse(&sound.as_bytes()[..end], DuplicateKeys::Last);
        assert!(cut.is_err(), "{}", &sound[..end]);
    }
    assert_eq!(fault(""), "it ends too early at line 1 column 1");
    assert_eq!(
        fault("{\n  \"a\": x}"),
        "a value is expected at line 2 column 8"
    );
    assert_eq!(fault("{} {}"), "more behind its end at line 1 column 4");
    let bytes = Json::parse(b"\"\xff\"", DuplicateKeys::Last);
    let error = bytes.unwrap_err().to_string();
    assert_eq!(error, "what is not UTF-8 at line 1 column 2");
    assert!(fault(&"[".repeat(10_000)).starts_with("it is nested too deeply"));
    let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [126, 127, 128, 129] {
        let theirs = serde_json::from_str::<serde_json::Value>(&deep(depth)).is_ok();
        let ours = Json::parse(deep(depth).as_bytes(), DuplicateKeys::Last).is_ok();
        assert_eq!(ours, theirs, "{depth}");
    }
}

#[test]
fn half_a_surrogate_pair_is_a_replacement_character() {
    for (text, expected) in [
        (r#""\ud83d""#, "\u{fffd}"),
        (r#""\ude00 x""#, "\u{fffd} x"),
        (r#""\ud83dx""#, "\u{fffd}x"),
        (r#""\ud83d\u0041""#, "\u{fffd}A"),
        (r#""\ud83d\n""#, "\u{fffd}\n"),
        (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
        (r#""\uD83D\uDE00""#, "😀"),
    ] {
        assert_eq!(json(text), Json::Text(expected.to_owned()), "{text}");
    }
    assert!(json(r#"{"\ud83d": 1}"#).pointer("/\u{fffd}").is_some());
}

#[test]
fn a_byte_order_mark_is_stepped_over_once() {
    assert_eq!(json("\u{feff}{\"a\": 1}"), json("{\"a\": 1}"));
    assert!(Json::parse("\u{feff}\u{feff}1".as_bytes(), DuplicateKeys::Last).is_err());
    assert!(Json::parse("\u{feff}".as_bytes(), DuplicateKeys::Last).is_err());
}

#[test]
fn of_a_key_that_is_there_twice_the_last_counts_or_none() {
    let twice = r#"{"a": {"id": 1, "id": 2}}"#;
    assert_eq!(json(twice).pointer("/a/id"), Some(&json("2")));
    let refused = Json::parse(twice.as_bytes(), DuplicateKeys::Reject);
    let error = refused.unwrap_err().to_string();
    assert_eq!(error, "an object has one key twice at line 1 column 17");
    let once = r#"[{"id": 1}, {"id": 2}]"#;
    assert!(Json::parse(once.as_bytes(), DuplicateKeys::Reject).is_ok());
}

#[test]
fn pointers_find_what_other_libraries_find() {
    let text = r#"{"a": [1, {"b/c": 2, "~": 3}], "": 4, "0": 5, "01": 6}"#;
    let theirs: serde_json::Value = serde_json::from_str(text).unwrap();
    for pointer in [
        "",
        "/",
        "/a",
        "/a/0",
        "/a/00",
        "/a/+1",
        "/a/1/b~1c",
        "/a/1/~0",
        "/a/2",
        "/0",
        "/01",
        "a",
        "/a/x",
    ] {
        let ours = json(text).pointer(pointer).map(ToString::to_string);
        assert_eq!(
            ours,
            theirs.pointer(pointer).map(ToString::to_string),
            "{pointer}"
        );
    }
}

#[test]
fn numbers_are_written_as_they_came_and_compared_by_their_values() {
    let ordered = [
        "-1e9999999999999999999999",
        "-1e400",
        "-327267367867168100001",
        "-2",
        "-1.5",
        "-1e-400",
        "0",
        "1e-400",
        "0.10",
        "0.5",
        "9007199254740992",
        "9007199254740993",
        "12345678901234567.88",
        "12345678901234567.89",
        "18446744073709551616",
        "327267367867168100001",
        "327267367867168100002",
        "1e400",
        "1e9999999999999999999999",
    ];
    for (a, one) in ordered.iter().enumerate() {
        assert_eq!(json(one).to_string(), *one);
        for (b, two) in ordered.iter().enumerate() {
            let (one, two) = (Number::parse(one).unwrap(), Number::parse(two).unwrap());
            assert_eq!(one.cmp(&two), a.cmp(&b), "{one} {two}");
        }
    }
    for (one, two) in [
        ("7", "7.0"),
        ("7", "70e-1"),
        ("-0", "0.00"),
        ("1e2", "100"),
        ("0.0", "0e99"),
        ("327267367867168100000", "3272673678671681e5"),
    ] {
        assert_eq!(Number::parse(one), Number::parse(two), "{one} {two}");
    }
    for text in [
        "", "-", "01", "1.", ".5", "+1", "1e", "1 ", "NaN", "0x1", "1_000",
    ] {
        assert!(Number::parse(text).is_none(), "{text}");
    }
}
