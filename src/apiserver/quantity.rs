//! Resource quantities (`500m`, `1Gi`): parsing and the canonical form that the API stores.
//!
//! Depends on nothing. [`super::go_types`] canonicalises quantities while it decodes; validation compares them.
//! The rules are those of apimachinery's `api/resource`.

/// Nanounits in one unit: the finest precision a quantity has.
const NANO: i128 = 1_000_000_000;

/// What the server says of a text that is no quantity.
pub(crate) const MALFORMED: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// A quantity: an exact number and the family of suffixes it was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantity {
    nano: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    DecimalSi,
    DecimalExponent,
    BinarySi,
}

impl Quantity {
    /// Reads a quantity; `None` if the text is none, or beyond the range that 2^63 units span.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits_end =
            text.find(|c: char| !(c.is_ascii_digit() || "+-.".contains(c))).unwrap_or(text.len());
        let (number, suffix) = text.split_at(digits_end);
        let (scale, format) = multiplier(suffix)?;
        let (negative, magnitude) = match number.as_bytes().first()? {
            b'-' => (true, &number[1..]),
            b'+' => (false, &number[1..]),
            _ => (false, number),
        };
        let nano = scaled(magnitude, &scale)?;
        (nano <= i128::from(i64::MAX) * NANO)
            .then_some(Self { nano: if negative { -nano } else { nano }, format })
    }

    pub(crate) fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// Compares the amounts, whatever the suffixes.
    pub(crate) fn exceeds(self, other: Self) -> bool {
        self.nano > other.nano
    }

    /// The form in which the server stores it: no fraction, the largest suffix that loses nothing.
    pub(crate) fn canonical(self) -> String {
        if self.nano == 0 {
            return "0".to_owned();
        }
        let whole = self.nano % NANO == 0;
        if self.format == Format::BinarySi && whole && self.nano.abs() >= 1024 * NANO {
            let mut number = self.nano / NANO;
            let mut suffix = "";
            for (name, _) in BINARY {
                if number % 1024 != 0 {
                    break;
                }
                number /= 1024;
                suffix = name;
            }
            return format!("{number}{suffix}");
        }
        let mut number = self.nano;
        let mut exponent = -9;
        while number % 1000 == 0 && exponent < 18 {
            number /= 1000;
            exponent += 3;
        }
        if self.format == Format::DecimalExponent {
            return if exponent == 0 { number.to_string() } else { format!("{number}e{exponent}") };
        }
        let suffix = DECIMAL.iter().find(|(_, e)| *e == exponent).map_or("", |(name, _)| name);
        format!("{number}{suffix}")
    }
}

enum Scale {
    Ten(i32),
    Two(u32),
}

fn multiplier(suffix: &str) -> Option<(Scale, Format)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((Scale::Ten(*exponent), Format::DecimalSi));
    }
    if let Some((_, bits)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((Scale::Two(*bits), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some((Scale::Ten(exponent), Format::DecimalExponent))
}

/// The number times the scale, in nanounits, rounded up as the API does.
fn scaled(number: &str, scale: &Scale) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    let mut value: i128 = digits
        .trim_start_matches('0')
        .parse()
        .or_else(|e| if digits.bytes().all(|c| c == b'0') { Ok(0) } else { Err(e) })
        .ok()?;
    let mut power = 9 - i32::try_from(fraction.len()).ok()?;
    match scale {
        Scale::Ten(exponent) => power = power.checked_add(*exponent)?,
        Scale::Two(bits) => value = value.checked_mul(1i128.checked_shl(*bits)?)?,
    }
    if value == 0 {
        return Some(0);
    }
    if power >= 0 {
        return value.checked_mul(10i128.checked_pow(u32::try_from(power).ok()?)?);
    }
    let Some(divisor) = 10i128.checked_pow(power.unsigned_abs()) else { return Some(1) };
    Some(value / divisor + i128::from(value % divisor != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_stored_in_canonical_form() {
        let cases = [
            ("0.5", "500m"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("1000", "1k"),
            ("1000m", "1"),
            ("100Ki", "100Ki"),
            ("512", "512"),
            ("0", "0"),
            ("0Mi", "0"),
            ("1e3", "1e3"),
            ("1E3", "1e3"),
            ("12e0", "12"),
            ("1E", "1E"),
            ("0.1n", "1n"),
            (".5", "500m"),
            ("1.", "1"),
            ("+2", "2"),
            ("-1500m", "-1500m"),
            ("0.5Ki", "512"),
            ("1.5Ki", "1536"),
            ("1500Mi", "1500Mi"),
            ("2000000Ki", "2000000Ki"),
        ];
        for (text, canonical) in cases {
            let quantity = Quantity::parse(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(quantity.canonical(), canonical, "{text}");
        }
    }

    #[test]
    fn texts_that_are_no_quantities_are_refused() {
        for text in ["", "abc", "1Q", "1 Gi", "--1", "1.2.3", "Gi", "1e", "99999999999999999999"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_compare_across_suffixes() {
        let quantity = |text| Quantity::parse(text).unwrap();
        assert!(quantity("1Gi").exceeds(quantity("1G")));
        assert!(!quantity("500m").exceeds(quantity("0.5")));
        assert!(quantity("-1").is_negative());
    }
}
