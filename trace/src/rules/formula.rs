//! Formulas that a profile names (`computed = "ccs"`), in exact arithmetic.

use std::str::FromStr;

use crate::{
    profile::form::Value,
    quantity::{Decimal, divide_rounding},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Formula {
    /// a − b
    Difference,
    /// a − a × b / 100, to whole units: a weight less its percentage of trash.
    LessPercent,
    /// 100 × a / b, to two places.
    Percent,
    /// `pol_cane`(pol of juice, fibre %)
    PolCane,
    /// `brix_cane`(Brix of juice, fibre %)
    BrixCane,
    /// `ccs`(pol in cane, Brix in cane)
    Ccs,
    /// Volume of a tally list with columns `length` (m) and `diameter` (cm), in m³.
    TallyVolume,
    /// Lines of a tally list.
    TallyCount,
    /// Sum of the portions.
    Total,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no formula has this name")]
pub struct UnknownFormula;

impl FromStr for Formula {
    type Err = UnknownFormula;

    fn from_str(name: &str) -> Result<Self, UnknownFormula> {
        Ok(match name {
            "difference" => Self::Difference,
            "less-percent" => Self::LessPercent,
            "percent" => Self::Percent,
            "pol-cane" => Self::PolCane,
            "brix-cane" => Self::BrixCane,
            "ccs" => Self::Ccs,
            "tally-volume" => Self::TallyVolume,
            "tally-count" => Self::TallyCount,
            "total" => Self::Total,
            _ => return Err(UnknownFormula),
        })
    }
}

impl Formula {
    pub const fn arguments(self) -> usize {
        match self {
            Self::TallyVolume | Self::TallyCount | Self::Total => 1,
            _ => 2,
        }
    }

    /// `None` where an argument is of another kind, out of range, or the result does not fit.
    pub fn of(self, arguments: &[&Value]) -> Option<Decimal> {
        match (self, arguments) {
            (Self::TallyVolume, [Value::Table(rows)]) => rows.iter().try_fold(Decimal::ZERO, |sum, row| {
                let (length, diameter) =
                    (row.get("length")?.parse().ok()?, row.get("diameter")?.parse().ok()?);
                sum.checked_add(log_volume(length, diameter)?)
            }),
            (Self::TallyCount, [Value::Table(rows)]) => {
                Some(Decimal::integer(i64::try_from(rows.len()).ok()?))
            }
            (Self::Total, [Value::Portions(portions)]) => {
                portions.iter().try_fold(Decimal::ZERO, |sum, (_, amount)| sum.checked_add(*amount))
            }
            (_, [Value::Number(a), Value::Number(b)]) => self.of_two(*a, *b),
            _ => None,
        }
    }

    fn of_two(self, a: Decimal, b: Decimal) -> Option<Decimal> {
        match self {
            Self::Difference => a.checked_sub(b),
            Self::LessPercent => less_percent(a, b),
            Self::Percent => Decimal::ratio(a.scaled(6)?.checked_mul(100)?, b.scaled(6)?, 2),
            Self::PolCane => pol_cane(a, b),
            Self::BrixCane => brix_cane(a, b),
            Self::Ccs => ccs(a, b),
            Self::TallyVolume | Self::TallyCount | Self::Total => None,
        }
    }
}

fn less_percent(amount: Decimal, percent: Decimal) -> Option<Decimal> {
    let left = Decimal::HUNDRED.checked_sub(percent)?;
    let product = amount.scaled(3)?.checked_mul(left.scaled(4)?)?;
    Decimal::ratio(product, 1_000_000_000, 0)
}

/// Juice → cane: `juice × (100 − fibre − allowance) / 100`, to two places (W. Australia farmnote on CCS).
fn in_cane(juice: Decimal, fibre: Decimal, allowance: i64) -> Option<Decimal> {
    let juice_share = Decimal::HUNDRED.checked_sub(fibre)?.checked_sub(Decimal::integer(allowance))?;
    Decimal::ratio(juice.scaled(4)?.checked_mul(juice_share.scaled(4)?)?, 10_000_000_000, 2)
}

/// Pol in cane %: pol of first expressed juice × (100 − fibre − 5) / 100.
pub fn pol_cane(pol_juice: Decimal, fibre: Decimal) -> Option<Decimal> {
    in_cane(pol_juice, fibre, 5)
}

/// Brix in cane %: Brix of first expressed juice × (100 − fibre − 3) / 100.
pub fn brix_cane(brix_juice: Decimal, fibre: Decimal) -> Option<Decimal> {
    in_cane(brix_juice, fibre, 3)
}

/// Commercial cane sugar %: 1.5 pol in cane − 0.5 Brix in cane, to two places.
pub fn ccs(pol_cane: Decimal, brix_cane: Decimal) -> Option<Decimal> {
    let numerator = pol_cane.scaled(4)?.checked_mul(3)?.checked_sub(brix_cane.scaled(4)?)?;
    Decimal::ratio(numerator, 20_000, 2)
}

/// GB/T 4814: volume of a log in m³ by length L (m) and small-end diameter D (cm), to 0.001 m³ from D = 8 cm on, to
/// 0.0001 m³ below (as the printed tables do).
///
/// D < 14: 0.7854 L (D + 0.45 L + 0.2)² / 10⁴; D ≥ 14: 0.7854 L [D + 0.5 L + 0.005 L² + 0.000125 L (14 − L)² (D − 10)]² / 10⁴.
/// The tables cover L 0.5–20.0 m and D 4–120 cm; L in steps of 0.1 m, D in whole cm.
pub fn log_volume(length: Decimal, diameter: Decimal) -> Option<Decimal> {
    let length_dm = length.scaled(1)?;
    let diameter_cm = diameter.scaled(0)?;
    if !(5..=200).contains(&length_dm) || !(4..=120).contains(&diameter_cm) {
        return None;
    }
    // The bracket in units of 10^-9 cm, where every term is whole: L in dm makes each power of L a power of ten.
    let bracket = if diameter_cm < 14 {
        diameter_cm * 1_000_000_000 + 45_000_000 * length_dm + 200_000_000
    } else {
        let from_14 = 140 - length_dm;
        let taper = 125 * length_dm * from_14 * from_14 * (diameter_cm - 10);
        diameter_cm * 1_000_000_000 + 50_000_000 * length_dm + 50_000 * length_dm * length_dm + taper
    };
    // 0.7854 × L/10 × bracket² × 10^-18 / 10^4, as an integer over 10^27.
    let numerator = bracket.checked_mul(bracket)?.checked_mul(7_854)?.checked_mul(length_dm)?;
    let scale: u8 = if diameter_cm < 8 { 4 } else { 3 };
    let denominator = 10_i128.checked_pow(27 - u32::from(scale))?;
    Decimal::new(i64::try_from(divide_rounding(numerator, denominator)?).ok()?, scale)
}
