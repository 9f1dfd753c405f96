//! JSON text as Go's `encoding/json` writes it, for strings, numbers and values of unknown type.
//!
//! Depends on nothing of this package. `encode.rs` writes typed values with it.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// Appends a string, with the characters escaped that are special in HTML and JavaScript.
pub(super) fn push_string(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => push_escape(out, c),
            _ => out.push(c),
        }
    }
    out.push('"');
}

fn push_escape(out: &mut String, c: char) {
    write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a String does not fail");
}

/// A number as Go writes it: an integer in digits, a float the shortest way, with an exponent only where
/// it is very small or very large.
pub(super) fn number(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => {
            let size = float.abs();
            if size == 0.0 || (1e-6..1e21).contains(&size) {
                return format!("{float}");
            }
            let text = format!("{float:e}");
            if size < 1.0 { text } else { text.replace('e', "e+") }
        }
        _ => number.to_string(),
    }
}

/// What becomes of the keys of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// In the order they have: raw JSON goes through Go as it is.
    AsGiven,
    /// Sorted, so that equal values have equal texts.
    Sorted,
}

/// Appends a value of unknown type, without white space.
pub(super) fn push_value(out: &mut String, value: &Value, keys: Keys) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        Value::Number(value) => out.push_str(&number(value)),
        Value::String(text) => push_string(out, text),
        Value::Array(items) => {
            push_list(out, ['[', ']'], items, |out, item| push_value(out, item, keys));
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            if keys == Keys::Sorted {
                entries.sort_unstable_by_key(|(key, _)| *key);
            }
            push_list(out, ['{', '}'], entries, |out, (key, value)| {
                push_string(out, key);
                out.push(':');
                push_value(out, value, keys);
            });
        }
    }
}

/// Appends items between brackets, separated by commas.
pub(super) fn push_list<I: IntoIterator>(
    out: &mut String,
    brackets: [char; 2],
    items: I,
    mut push: impl FnMut(&mut String, I::Item),
) {
    out.push(brackets[0]);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(brackets[1]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn floats_are_written_as_go_writes_them() {
        // Expected texts printed by Go's json.Marshal.
        let cases = [
            (1.0, "1"),
            (-0.0, "-0"),
            (0.25, "0.25"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e300, "1.5e+300"),
            (1e-6, "0.000001"),
            (1e-7, "1e-7"),
            (-2.5e-9, "-2.5e-9"),
            (5e-324, "5e-324"),
            (123_456_789.123, "123456789.123"),
        ];
        for (float, text) in cases {
            let Value::Number(value) = json!(float) else { unreachable!() };
            assert_eq!(number(&value), text);
        }
    }

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        let mut out = String::new();
        push_string(&mut out, "a<b>&\"\\/\u{1}\u{8}\u{c}\n\r\t\u{7f}\u{2028}\u{2029}é😀");
        assert_eq!(
            out,
            r#""a\u003cb\u003e\u0026\"\\/\u0001\b\f\n\r\t"#.to_owned() + "\u{7f}" + r"\u2028\u2029é😀" + "\""
        );
    }
}
