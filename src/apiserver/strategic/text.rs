//! Values as Go prints them (`%v`), in which the real server words its refusals of patches.

use std::fmt::{self, Display, Formatter};

use serde_json::Value;

/// A value, printed as Go prints what it read from JSON.
pub(crate) struct GoText<'v>(pub(crate) &'v Value);

impl Display for GoText<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("<nil>"),
            Value::Bool(flag) => write!(f, "{flag}"),
            Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => write_float(f, float),
                None => write!(f, "{number}"),
            },
            Value::String(text) => f.write_str(text),
            Value::Array(items) => GoList(items).fmt(f),
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(name, _)| *name);
                f.write_str("map[")?;
                for (index, (name, value)) in members.into_iter().enumerate() {
                    let gap = if index == 0 { "" } else { " " };
                    write!(f, "{gap}{name}:{}", GoText(value))?;
                }
                f.write_str("]")
            }
        }
    }
}

/// A list of values.
pub(crate) struct GoList<'v>(pub(crate) &'v [Value]);

impl Display for GoList<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, item) in self.0.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{}", GoText(item))?;
        }
        f.write_str("]")
    }
}

/// The shortest text that reads back as the number; very large and very small ones with an exponent.
fn write_float(f: &mut Formatter<'_>, float: f64) -> fmt::Result {
    if float == 0.0 || (1e-4..1e21).contains(&float.abs()) {
        return write!(f, "{float}");
    }
    let text = format!("{float:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    write!(f, "{digits}e{sign}{exponent:0>2}")
}

/// The type of a value as Go names it.
pub(super) fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_printed_as_by_go() {
        let value = json!({"b": [1, "x y", null, true], "a": {"f": 1.5, "big": 1e21, "small": 0.00001}});
        assert_eq!(
            GoText(&value).to_string(),
            "map[a:map[big:1e+21 f:1.5 small:1e-05] b:[1 x y <nil> true]]"
        );
    }
}
