//! Exact quantities: integers of the smallest unit, and decimals as they were typed. No float decides anything.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The unit in which a lot is counted: one for each physical dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Unit {
    #[serde(rename = "g")]
    Gram,
    #[serde(rename = "cm3")]
    CubicCentimetre,
    #[serde(rename = "piece")]
    Piece,
}

/// A word that is none of `g`, `cm3`, `piece`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a unit that lots are counted in")]
pub struct UnknownUnit;

impl Unit {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gram => "g",
            Self::CubicCentimetre => "cm3",
            Self::Piece => "piece",
        }
    }

    /// The measure that events state it in: kg, m³, or a plain count.
    pub const fn measure(self) -> Measure {
        match self {
            Self::Gram => Measure::KILOGRAM,
            Self::CubicCentimetre => Measure::CUBIC_METRE,
            Self::Piece => Measure::PIECE,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Unit {
    type Err = UnknownUnit;

    fn from_str(word: &str) -> Result<Self, UnknownUnit> {
        match word {
            "g" => Ok(Self::Gram),
            "cm3" => Ok(Self::CubicCentimetre),
            "piece" => Ok(Self::Piece),
            _ => Err(UnknownUnit),
        }
    }
}

/// A UN/ECE Recommendation 20 code that people weigh, scale or count in, and how many of the smallest unit one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    code: &'static str,
    unit: Unit,
    /// One of the measure is 10^`exponent` of the unit.
    exponent: u8,
}

impl Measure {
    pub const GRAM: Self = Self { code: "GRM", unit: Unit::Gram, exponent: 0 };
    pub const KILOGRAM: Self = Self { code: "KGM", unit: Unit::Gram, exponent: 3 };
    pub const TONNE: Self = Self { code: "TNE", unit: Unit::Gram, exponent: 6 };
    pub const CUBIC_METRE: Self = Self { code: "MTQ", unit: Unit::CubicCentimetre, exponent: 6 };
    pub const PIECE: Self = Self { code: "H87", unit: Unit::Piece, exponent: 0 };
    const ALL: [Self; 5] = [Self::GRAM, Self::KILOGRAM, Self::TONNE, Self::CUBIC_METRE, Self::PIECE];

    /// Rec 20 code → measure; `None` for codes that no lot is counted in (temperatures, percentages).
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|measure| measure.code == code)
    }

    pub const fn code(self) -> &'static str {
        self.code
    }

    pub const fn unit(self) -> Unit {
        self.unit
    }

    /// What EPCIS writes as `uom`: absent for a count (EPCIS 2.0 §7.3.3.3.1).
    pub const fn uom(self) -> Option<&'static str> {
        match self.unit {
            Unit::Piece => None,
            _ => Some(self.code),
        }
    }
}

/// A quantity of a lot: never negative where a holding is meant, signed where a difference is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Quantity {
    pub unit: Unit,
    pub amount: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("finer than the smallest unit")]
    TooFine,
    #[error("larger than any holding can be")]
    TooLarge,
    #[error("the units differ")]
    OtherUnit,
}

impl Quantity {
    pub const fn new(unit: Unit, amount: i64) -> Self {
        Self { unit, amount }
    }

    pub const fn grams(amount: i64) -> Self {
        Self::new(Unit::Gram, amount)
    }

    /// `value` of `measure` in whole smallest units, or an error: nothing is rounded.
    pub fn of(value: Decimal, measure: Measure) -> Result<Self, QuantityError> {
        let shift = i32::from(measure.exponent) - i32::from(value.scale);
        let amount = if shift >= 0 {
            pow10(shift.unsigned_abs())
                .and_then(|factor| value.units.checked_mul(factor))
                .ok_or(QuantityError::TooLarge)?
        } else {
            let divisor = pow10(shift.unsigned_abs()).ok_or(QuantityError::TooFine)?;
            if value.units % divisor != 0 {
                return Err(QuantityError::TooFine);
            }
            value.units / divisor
        };
        Ok(Self { unit: measure.unit, amount })
    }

    /// In `measure`, exactly.
    pub fn to_decimal(self, measure: Measure) -> Result<Decimal, QuantityError> {
        if measure.unit != self.unit {
            return Err(QuantityError::OtherUnit);
        }
        Ok(Decimal { units: self.amount, scale: measure.exponent }.trimmed())
    }

    pub fn checked_add(self, other: Self) -> Result<Self, QuantityError> {
        if self.unit != other.unit {
            return Err(QuantityError::OtherUnit);
        }
        let amount = self.amount.checked_add(other.amount).ok_or(QuantityError::TooLarge)?;
        Ok(Self { unit: self.unit, amount })
    }

    pub fn checked_sub(self, other: Self) -> Result<Self, QuantityError> {
        self.checked_add(Self {
            unit: other.unit,
            amount: other.amount.checked_neg().ok_or(QuantityError::TooLarge)?,
        })
    }
}

/// In kg, m³ or pieces, for messages: `23640 kg`.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Decimal { units: self.amount, scale: self.unit.measure().exponent }.trimmed();
        match self.unit {
            Unit::Gram => write!(f, "{shown} kg"),
            Unit::CubicCentimetre => write!(f, "{shown} m³"),
            Unit::Piece => write!(f, "{shown}"),
        }
    }
}

/// `units × 10^-scale`, exactly as typed: at most [`Decimal::DIGITS_MAX`] digits, so that it is also an exact JSON number.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    units: i64,
    scale: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    #[error("not a decimal number")]
    Malformed,
    #[error("more than 15 digits")]
    TooLong,
}

impl Decimal {
    /// `formats.md`: ≤ 15 significant digits, what a double keeps (IEEE 754 binary64 round-trips 15).
    pub const DIGITS_MAX: usize = 15;
    pub const ZERO: Self = Self { units: 0, scale: 0 };
    pub const HUNDRED: Self = Self { units: 100, scale: 0 };

    /// `units × 10^-scale`; `None` where the scale or the number of digits is beyond what a JSON number keeps.
    pub fn new(units: i64, scale: u8) -> Option<Self> {
        let fits = usize::from(scale) <= Self::DIGITS_MAX && units.unsigned_abs() < 1_000_000_000_000_000;
        fits.then_some(Self { units, scale })
    }

    pub const fn integer(units: i64) -> Self {
        Self { units, scale: 0 }
    }

    /// `numerator / denominator` to `scale` places, halves away from zero; `None` for a zero denominator or no room.
    pub fn ratio(numerator: i128, denominator: i128, scale: u8) -> Option<Self> {
        let scaled = numerator.checked_mul(10_i128.checked_pow(u32::from(scale))?)?;
        let units = divide_rounding(scaled, denominator)?;
        Self::new(i64::try_from(units).ok()?, scale)
    }

    pub const fn is_negative(self) -> bool {
        self.units < 0
    }

    pub const fn is_zero(self) -> bool {
        self.units == 0
    }

    pub const fn is_integer(self) -> bool {
        self.trimmed().scale == 0
    }

    /// The value × 10^`scale`, or `None` where that is no integer or too large.
    pub fn scaled(self, scale: u8) -> Option<i128> {
        let own = self.trimmed();
        let shift = scale.checked_sub(own.scale)?;
        i128::from(own.units).checked_mul(10_i128.checked_pow(u32::from(shift))?)
    }

    pub fn checked_add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let sum = self.scaled(scale)?.checked_add(other.scaled(scale)?)?;
        Self::new(i64::try_from(sum).ok()?, scale).map(Self::trimmed)
    }

    pub fn checked_sub(self, other: Self) -> Option<Self> {
        self.checked_add(Self { units: other.units.checked_neg()?, scale: other.scale })
    }

    /// Rounded to `scale` places, halves away from zero.
    #[must_use]
    pub fn rounded(self, scale: u8) -> Self {
        if self.scale <= scale {
            return self;
        }
        let divisor = 10_i128.pow(u32::from(self.scale - scale));
        let units =
            divide_rounding(i128::from(self.units), divisor).and_then(|units| i64::try_from(units).ok());
        units.map_or(self, |units| Self { units, scale })
    }

    const fn trimmed(mut self) -> Self {
        while self.scale > 0 && self.units % 10 == 0 {
            self.units /= 10;
            self.scale -= 1;
        }
        self
    }

    /// The same number in JSON; 15 digits survive the double in between.
    pub fn to_json(self) -> serde_json::Value {
        serde_json::from_str(&self.trimmed().to_string()).unwrap_or(serde_json::Value::Null)
    }
}

/// Halves away from zero (GB/T 8170 allows it where a standard says nothing else); `None` for a zero divisor.
pub fn divide_rounding(numerator: i128, denominator: i128) -> Option<i128> {
    if denominator == 0 {
        return None;
    }
    let (quotient, remainder) = (numerator.checked_div(denominator)?, numerator.checked_rem(denominator)?);
    let away = if (numerator < 0) == (denominator < 0) { 1 } else { -1 };
    let half_or_more = remainder.unsigned_abs().checked_mul(2)? >= denominator.unsigned_abs();
    if half_or_more { quotient.checked_add(away) } else { Some(quotient) }
}

fn pow10(exponent: u32) -> Option<i64> {
    10_i64.checked_pow(exponent)
}

impl FromStr for Decimal {
    type Err = DecimalError;

    /// `-?digits(.digits)?`, no exponent, no sign `+`, no grouping.
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return Err(DecimalError::Malformed);
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        if whole.len() + fraction.len() > Self::DIGITS_MAX {
            return Err(DecimalError::TooLong);
        }
        let joined = format!("0{whole}{fraction}");
        let units: i64 = joined.parse().map_err(|_| DecimalError::TooLong)?;
        let scale = u8::try_from(fraction.len()).map_err(|_| DecimalError::TooLong)?;
        Ok(Self { units: if negative { -units } else { units }, scale })
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, magnitude) = (if self.units < 0 { "-" } else { "" }, self.units.unsigned_abs());
        if self.scale == 0 {
            return write!(f, "{sign}{magnitude}");
        }
        let places = usize::from(self.scale);
        let padded = format!("{magnitude:0>width$}", width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        write!(f, "{sign}{whole}.{fraction}")
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        // 15 digits on either side and 15 places of shift fit 128 bits.
        let aligned =
            |value: &Self, scale: u8| i128::from(value.units) * 10_i128.pow(u32::from(scale - value.scale));
        let scale = self.scale.max(other.scale);
        aligned(self, scale).cmp(&aligned(other, scale))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Equal as numbers: 1.50 is 1.5.
impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From text, so that a profile's limits stay exact.
impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_typed_is_kept_exactly_and_nothing_else_is_a_number() {
        assert_eq!(decimal("0012.3400").to_string(), "12.34");
        assert_eq!(decimal("-0.05").to_string(), "-0.05");
        assert_eq!(decimal("0").to_json(), serde_json::json!(0));
        assert_eq!(decimal("13.37").to_json().to_string(), "13.37");
        for text in ["", "1.", ".5", "1e3", "+1", "1,000", "NaN", "１", "--1"] {
            assert_eq!(text.parse::<Decimal>(), Err(DecimalError::Malformed), "{text}");
        }
        assert_eq!("1234567890123456".parse::<Decimal>(), Err(DecimalError::TooLong));
    }

    #[test]
    fn a_quantity_is_never_rounded() {
        assert_eq!(Quantity::of(decimal("23.64"), Measure::TONNE), Ok(Quantity::grams(23_640_000)));
        assert_eq!(Quantity::of(decimal("0.0005"), Measure::KILOGRAM), Err(QuantityError::TooFine));
        assert_eq!(Quantity::of(decimal("0.5"), Measure::PIECE), Err(QuantityError::TooFine));
        assert_eq!(Quantity::of(decimal("99999999999999"), Measure::TONNE), Err(QuantityError::TooLarge));
        let volume = Quantity::of(decimal("0.153"), Measure::CUBIC_METRE).unwrap();
        assert_eq!(volume, Quantity::new(Unit::CubicCentimetre, 153_000));
        assert_eq!(volume.to_string(), "0.153 m³");
        assert_eq!(volume.checked_add(Quantity::grams(1)), Err(QuantityError::OtherUnit));
    }

    #[test]
    fn decimals_compare_and_round_as_numbers() {
        assert_eq!(decimal("1.50"), decimal("1.5"));
        assert!(decimal("-2") < decimal("-1.99"));
        assert!(decimal("0.000000000000001") < decimal("999999999999999"));
        assert_eq!(Decimal::ratio(2, 3, 4).unwrap().to_string(), "0.6667");
        assert_eq!(Decimal::ratio(-1, 2, 0).unwrap().to_string(), "-1");
        assert_eq!(Decimal::ratio(1, 0, 2), None);
        assert_eq!(decimal("2.345").rounded(2).to_string(), "2.35");
    }
}
