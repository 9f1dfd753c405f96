//! `Quantity`: Kubernetes' fixed-point numbers with suffixes, such as `100m`, `1.5Gi` or `1e3`.
//!
//! Depends on nothing of this package. Reads and writes what Kubernetes' resource.Quantity does, spelling
//! included, because the spelling enters the pod-template hash. Validation and template comparison use it
//! for values.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Decimal digits that a quantity may have: what always fits an `i128`. Kubernetes has no limit here, but
/// nothing that is counted comes near it.
const MAX_DIGITS: usize = 38;

/// Kubernetes reads a number of up to so many digits the fast way, which remembers some spellings.
const FAST_DIGITS: usize = 18;

/// Nothing smaller than 10^-9 is kept; what is smaller is rounded up.
const NANO: i32 = -9;

/// Resource quantities in a pod template are stored with at most three decimals.
const MILLI: i32 = -3;

/// A quantity. Two are equal when they are the same number, whatever their spelling.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// The value is `mantissa * 10^exponent`.
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// The text it was read from, where Kubernetes writes that back instead of the canonical form.
    spelling: Option<Box<str>>,
}

/// The family of suffixes in which a quantity was written and is written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// `n`, `u`, `m`, none, `k`, `M`, ... `E`.
    DecimalSi,
    /// `Ki`, `Mi`, ... `Ei`.
    BinarySi,
    /// `e3`.
    DecimalExponent,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Empty, or characters that are no part of a quantity.
    #[error("a quantity is a number with an optional suffix, such as 100m or 1Gi")]
    Malformed,
    /// A suffix that does not exist.
    #[error("unknown suffix of a quantity")]
    UnknownSuffix,
    /// More digits than anything that is counted has.
    #[error("a quantity with more than {MAX_DIGITS} digits")]
    TooLong,
}

const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

const BINARY_SUFFIXES: [(&str, u32); 6] =
    [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// What a suffix stands for.
#[derive(Clone, Copy)]
enum Suffix {
    /// A power of ten.
    Ten(Format, i32),
    /// A power of two.
    Two(u32),
}

impl Suffix {
    fn parse(text: &str) -> Result<Self, QuantityError> {
        if let Some((_, power)) = DECIMAL_SUFFIXES.iter().find(|(suffix, _)| *suffix == text) {
            return Ok(Self::Ten(Format::DecimalSi, *power));
        }
        if let Some((_, power)) = BINARY_SUFFIXES.iter().find(|(suffix, _)| *suffix == text) {
            return Ok(Self::Two(*power));
        }
        let power = text.strip_prefix(['e', 'E']).and_then(|power| power.parse().ok());
        power.map(|power| Self::Ten(Format::DecimalExponent, power)).ok_or(QuantityError::UnknownSuffix)
    }
}

/// A text taken apart: sign, digits before and after the point, suffix.
struct Parts<'a> {
    negative: bool,
    /// Without leading zeros.
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
    /// Whether there is a digit at all; Kubernetes takes some texts without one for zero.
    has_digits: bool,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let digits =
            |text: &'a str| text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let (whole, rest) = digits(rest);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), digits);
        let exponent = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !exponent.bytes().all(|b| b.is_ascii_digit()) {
            return Err(QuantityError::Malformed);
        }
        let has_digits = !(whole.is_empty() && fraction.is_empty());
        Ok(Self { negative, whole: whole.trim_start_matches('0'), fraction, suffix, has_digits })
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    /// Reads a quantity as Kubernetes' `ParseQuantity` does.
    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Malformed);
        }
        let parts = Parts::of(text)?;
        let suffix = Suffix::parse(parts.suffix)?;
        match Self::read_fast(text, &parts, suffix)? {
            Some(quantity) => Ok(quantity),
            // What has no digits is zero to the fast way and an error to the slow one.
            None if !parts.has_digits => Err(QuantityError::Malformed),
            None => Self::read_slow(&parts, suffix),
        }
    }
}

impl Quantity {
    /// Kubernetes' fast way, for numbers that surely fit 64 bits; `None` when this is not one of them.
    ///
    /// It remembers the text when a cheap test says that it is canonical already. The test lets some
    /// texts pass that are not (`1.500`, `+5Mi`), and those then stay as they are.
    fn read_fast(text: &str, parts: &Parts<'_>, suffix: Suffix) -> Result<Option<Self>, QuantityError> {
        let whole = if parts.whole.is_empty() { "0" } else { parts.whole };
        let digits = format!("{whole}{}", parts.fraction);
        let (fits, exponent, factor, format) = match suffix {
            Suffix::Ten(format, power) => {
                let exponent = i64::from(power) - i64::try_from(parts.fraction.len()).unwrap_or(i64::MAX);
                let exponent = i32::try_from(exponent).map_err(|_| QuantityError::TooLong)?;
                (digits.len() <= FAST_DIGITS && exponent >= NANO, exponent, 1, format)
            }
            Suffix::Two(power) => {
                // 15 digits less those of the number, of 2^power and one for safety.
                let spare =
                    14_i64 - i64::try_from(whole.len()).unwrap_or(i64::MAX) - i64::from(power * 3 / 10);
                (parts.fraction.is_empty() && spare >= 0, 0, 1_i64 << power, Format::BinarySi)
            }
        };
        if !fits {
            return Ok(None);
        }
        let number: i64 = digits.parse().map_err(|_| QuantityError::Malformed)?;
        let Some(product) = number.checked_mul(factor) else { return Ok(None) };
        let looks_canonical = match suffix {
            Suffix::Two(_) => number & 7 != 0,
            Suffix::Ten(..) => exponent % 3 == 0 && !digits.ends_with("000") && !digits.starts_with('0'),
        };
        let mantissa = i128::from(if parts.negative { -product } else { product });
        let spelling = looks_canonical.then(|| text.into());
        Ok(Some(Self { mantissa, exponent, format, spelling }))
    }

    fn read_slow(parts: &Parts<'_>, suffix: Suffix) -> Result<Self, QuantityError> {
        let fraction = parts.fraction.trim_end_matches('0');
        if parts.whole.len() + fraction.len() > MAX_DIGITS {
            return Err(QuantityError::TooLong);
        }
        let number: i128 =
            format!("0{}{fraction}", parts.whole).parse().map_err(|_| QuantityError::Malformed)?;
        let decimals = i32::try_from(fraction.len()).map_err(|_| QuantityError::TooLong)?;
        let (mantissa, exponent, mut format) = match suffix {
            Suffix::Ten(format, power) => {
                (number, power.checked_sub(decimals).ok_or(QuantityError::TooLong)?, format)
            }
            Suffix::Two(power) => {
                let product = number.checked_mul(1 << power).ok_or(QuantityError::TooLong)?;
                (product, -decimals, Format::BinarySi)
            }
        };
        let mut quantity = Self { mantissa, exponent, format, spelling: None }.rounded_up_to(NANO);
        if format == Format::BinarySi {
            let cap = Self { mantissa: i64::MAX.into(), exponent: 0, format, spelling: None };
            if quantity > cap {
                quantity = cap;
            } else if quantity < Self::whole(1) && !quantity.is_zero() {
                format = Format::DecimalSi;
            }
        }
        quantity.format = format;
        quantity.mantissa = if parts.negative { -quantity.mantissa } else { quantity.mantissa };
        Ok(quantity)
    }

    fn whole(number: i128) -> Self {
        Self { mantissa: number, exponent: 0, format: Format::DecimalSi, spelling: None }
    }

    /// Whether it is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// Whether it is less than zero.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.mantissa < 0
    }

    /// Rounded away from zero to three decimals: how the API server stores the resources of a pod
    /// template.
    #[must_use]
    pub fn rounded_up_to_milli(self) -> Self {
        self.rounded_up_to(MILLI)
    }

    fn rounded_up_to(mut self, exponent: i32) -> Self {
        if self.exponent >= exponent {
            return self;
        }
        self.spelling = None;
        let places = exponent.abs_diff(self.exponent);
        // Beyond the digits that there are, only «more than nothing» is left.
        let divisor = 10_i128.checked_pow(places).unwrap_or(i128::MAX);
        let rest = self.mantissa % divisor;
        self.mantissa = self.mantissa / divisor + rest.signum();
        self.exponent = exponent;
        self
    }

    /// Without trailing zeros: the smallest mantissa, and its exponent; zero is `(0, 0)`.
    fn reduced(&self) -> (i128, i32) {
        if self.mantissa == 0 {
            return (0, 0);
        }
        let (mut mantissa, mut exponent) = (self.mantissa, self.exponent);
        while mantissa % 10 == 0 {
            mantissa /= 10;
            exponent = exponent.saturating_add(1);
        }
        (mantissa, exponent)
    }

    /// The value as an integer, when it is one that fits.
    fn as_integer(&self) -> Option<i128> {
        let (mantissa, exponent) = self.reduced();
        mantissa.checked_mul(10_i128.checked_pow(u32::try_from(exponent).ok()?)?)
    }

    /// Kubernetes' canonical form.
    ///
    /// As there, a decimal suffix beyond `E` or below `n` does not exist and is left out.
    #[must_use]
    pub fn canonical(&self) -> String {
        if self.is_zero() {
            return "0".to_owned();
        }
        let (mantissa, exponent) = self.reduced();
        if self.format == Format::BinarySi
            && let Some(integer) = self.as_integer()
            && integer.unsigned_abs() >= 1024
        {
            return canonical_binary(integer);
        }
        let surplus = exponent.rem_euclid(3);
        let exponent = exponent - surplus;
        let zeros = if surplus == 0 { "" } else { &"00"[..if surplus == 1 { 1 } else { 2 }] };
        let suffix = match self.format {
            Format::DecimalExponent if exponent == 0 => String::new(),
            Format::DecimalExponent => format!("e{exponent}"),
            Format::DecimalSi | Format::BinarySi => {
                let known = DECIMAL_SUFFIXES.iter().find(|(_, power)| *power == exponent);
                known.map_or("", |(suffix, _)| suffix).to_owned()
            }
        };
        format!("{mantissa}{zeros}{suffix}")
    }
}

fn canonical_binary(mut integer: i128) -> String {
    let mut times = 0;
    while integer % 1024 == 0 {
        integer /= 1024;
        times += 10;
    }
    let suffix = BINARY_SUFFIXES.iter().find(|(_, power)| *power == times).map_or("", |(suffix, _)| suffix);
    format!("{integer}{suffix}")
}

impl fmt::Display for Quantity {
    /// As Kubernetes writes it: the remembered spelling where there is one, else the canonical form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spelling {
            Some(spelling) => f.write_str(spelling),
            None => f.write_str(&self.canonical()),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((ours, our_exponent), (theirs, their_exponent)) = (self.reduced(), other.reduced());
        let by_sign = ours.signum().cmp(&theirs.signum());
        if by_sign != Ordering::Equal || ours == 0 {
            return by_sign;
        }
        // Of two numbers of one sign, the one whose first digit stands higher is the larger in size.
        let height =
            |mantissa: i128, exponent: i32| i64::from(mantissa.unsigned_abs().ilog10()) + i64::from(exponent);
        let by_height = height(ours, our_exponent).cmp(&height(theirs, their_exponent));
        let by_size = by_height.then_with(|| {
            // At the same height the exponents differ by no more than the number of digits.
            let shift = |mantissa: i128, from: i32, to: i32| {
                mantissa.unsigned_abs() * 10_u128.pow(u32::try_from(from - to).unwrap_or(0))
            };
            let least = our_exponent.min(their_exponent);
            shift(ours, our_exponent, least).cmp(&shift(theirs, their_exponent, least))
        });
        if ours < 0 { by_size.reverse() } else { by_size }
    }
}
