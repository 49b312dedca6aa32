//! Numbers of readings: exact where the sender was.

/// An integer or decimal fraction (CBOR tag 4) is exact; a float is kept as sent and used in no balance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// `mantissa · 10^exponent`.
    Decimal {
        mantissa: i64,
        exponent: i8,
    },
    Float(f64),
}

/// Keeps every exact number printable and clear of overflow.
const EXPONENT_ABS_MAX: i8 = 18;

impl Number {
    pub const fn integer(value: i64) -> Self {
        Self::Decimal { mantissa: value, exponent: 0 }
    }

    pub fn decimal(mantissa: i64, exponent: i64) -> Option<Self> {
        let exponent = i8::try_from(exponent).ok().filter(|exponent| exponent.abs() <= EXPONENT_ABS_MAX)?;
        Some(Self::Decimal { mantissa, exponent })
    }

    /// Finite only.
    pub fn float(value: f64) -> Option<Self> {
        value.is_finite().then_some(Self::Float(value))
    }

    /// `-12.50`, `3e-4`: the decimal number as written.
    pub fn parse(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let exponent = exponent.checked_sub(i64::try_from(fraction.len()).ok()?)?;
        Self::decimal(digits.parse().ok()?, exponent)
    }

    /// A JSON number of at most 15 significant digits is the decimal that its shortest printing shows; one of more was a
    /// double, and is one again.
    pub(crate) fn from_json(number: &serde_json::Number) -> Option<Self> {
        const DIGITS_MAX: usize = 15;
        let text = number.to_string();
        let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
        let digits = mantissa.trim_start_matches(['-', '0', '.']).trim_end_matches(['0', '.']);
        let is_decimal = digits.bytes().filter(u8::is_ascii_digit).count() <= DIGITS_MAX;
        let decimal = is_decimal.then(|| Self::parse(&text)).flatten();
        decimal.or_else(|| number.as_f64().and_then(Self::float))
    }

    /// The nearest double: for charts and thresholds, never for a balance.
    pub fn as_f64(&self) -> f64 {
        match *self {
            Self::Float(value) => value,
            // Parsing rounds correctly; multiplying by a power of ten would round twice.
            Self::Decimal { mantissa, exponent } => {
                format!("{mantissa}e{exponent}").parse().unwrap_or(f64::NAN)
            }
        }
    }

    /// Base value and value (RFC 8428 §4.1): exact if both are.
    pub fn plus(self, other: Self) -> Option<Self> {
        let (Self::Decimal { mantissa: a, exponent: x }, Self::Decimal { mantissa: b, exponent: y }) =
            (self, other)
        else {
            return Self::float(self.as_f64() + other.as_f64());
        };
        let exponent = x.min(y);
        let mantissa = scaled(a, x, exponent)?.checked_add(scaled(b, y, exponent)?)?;
        Some(Self::Decimal { mantissa, exponent })
    }

    /// The product: exact if both are and it fits.
    pub fn times(self, factor: Self) -> Option<Self> {
        let (Self::Decimal { mantissa: a, exponent: x }, Self::Decimal { mantissa: b, exponent: y }) =
            (self, factor)
        else {
            return Self::float(self.as_f64() * factor.as_f64());
        };
        Self::decimal(a.checked_mul(b)?, i64::from(x) + i64::from(y))
    }

    /// In units of `10^exponent`, if that loses nothing.
    pub fn in_units_of(self, exponent: i8) -> Option<i64> {
        match self {
            Self::Decimal { mantissa, exponent: own } if own >= exponent => scaled(mantissa, own, exponent),
            Self::Decimal { mantissa, exponent: own } => {
                let divisor = 10_i64.checked_pow(u32::from(exponent.abs_diff(own)))?;
                (mantissa % divisor == 0).then_some(mantissa / divisor)
            }
            Self::Float(_) => None,
        }
    }

    /// Seconds as microseconds, rounded: a time is only so exact.
    pub(super) fn microseconds(self) -> Option<i64> {
        if let Some(exact) = self.in_units_of(-6) {
            return Some(exact);
        }
        let rounded = format!("{:.0}", (self.as_f64() * 1e6).round());
        rounded.parse().ok()
    }
}

fn scaled(mantissa: i64, from: i8, to: i8) -> Option<i64> {
    mantissa.checked_mul(10_i64.checked_pow(u32::from(from.abs_diff(to)))?)
}
