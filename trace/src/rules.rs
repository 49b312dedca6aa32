//! The rules of every profile: pure checks with figures, and the formulas that fields are computed by.

pub mod formula;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    profile::{LotFacts, Refusal},
    quantity::{Decimal, Quantity, Unit, divide_rounding},
};

/// GS1 General Specifications §7.9.1: weights 3 and 1 from the right, the last digit makes ten.
pub fn has_check_digit(digits: &str) -> bool {
    let mut sum = 0_u32;
    for (position, character) in digits.chars().rev().enumerate() {
        let Some(digit) = character.to_digit(10) else { return false };
        sum += digit * if position % 2 == 0 { 1 } else { 3 };
    }
    !digits.is_empty() && sum.is_multiple_of(10)
}

/// 100 × `output` / `input`, to two places.
pub fn percent(output: Quantity, input: Quantity) -> Option<Decimal> {
    if output.unit != input.unit {
        return None;
    }
    Decimal::ratio(i128::from(output.amount).checked_mul(100)?, i128::from(input.amount), 2)
}

/// The bounds of a yield and whether they refuse or warn.
#[derive(Debug, Clone, Copy)]
pub struct YieldBounds {
    pub min: Option<Decimal>,
    pub max: Option<Decimal>,
    pub never_over: Decimal,
}

/// Verdict of a rule that may also only warn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Good,
    Warn(Refusal),
    Refuse(Refusal),
}

/// More than physics or the profile lets come out is refused; an unusual yield is accepted and said.
pub fn yield_within(field: &str, output: Quantity, input: Quantity, bounds: YieldBounds) -> Verdict {
    let Some(percent) = percent(output, input) else {
        return Verdict::Refuse(Refusal::new(field, "not-computable"));
    };
    let refusal = |rule, name: &str, bound: Decimal| {
        let base =
            Refusal::new(field, rule).with("percent", percent).with("output", output).with("input", input);
        base.with(name, bound)
    };
    if percent > bounds.never_over {
        return Verdict::Refuse(refusal("over-yield", "max", bounds.never_over));
    }
    if let Some(max) = bounds.max.filter(|max| percent > *max) {
        return Verdict::Warn(refusal("high-yield", "max", max));
    }
    match bounds.min.filter(|min| percent < *min) {
        Some(min) => Verdict::Warn(refusal("low-yield", "min", min)),
        None => Verdict::Good,
    }
}

/// What a permit still allows and when it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermitFacts {
    pub uri: String,
    /// The place it was given for; `None`: any of its holder.
    pub place: Option<String>,
    pub allowed: Quantity,
    pub used: Quantity,
    pub valid_from: chrono::NaiveDate,
    pub valid_until: chrono::NaiveDate,
}

/// Forest Law and its like: what is taken stays within the permitted amount, place and time.
pub fn permit(
    field: &str,
    number: &str,
    facts: &PermitFacts,
    wanted: Quantity,
    place: &str,
    day: chrono::NaiveDate,
) -> Result<(), Refusal> {
    if facts.place.as_deref().is_some_and(|permitted| permitted != place) {
        return Err(Refusal::new(field, "permit-other-place").with("permit", number));
    }
    if day < facts.valid_from || day > facts.valid_until {
        return Err(Refusal::new(field, "permit-not-valid")
            .with("permit", number)
            .with("from", facts.valid_from)
            .with("until", facts.valid_until));
    }
    let unit = || Refusal::new(field, "other-unit");
    let left = facts.allowed.checked_sub(facts.used).map_err(|_| unit())?;
    let after = left.checked_sub(wanted).map_err(|_| unit())?;
    if after.amount < 0 {
        return Err(Refusal::new(field, "over-permit")
            .with("permit", number)
            .with("allowed", facts.allowed)
            .with("used", facts.used)
            .with("left", left)
            .with("wanted", wanted));
    }
    Ok(())
}

/// Nobody gives away more than lies there.
pub fn balance(field: &str, lot: &str, on_hand: Quantity, wanted: Quantity) -> Result<(), Refusal> {
    let left = on_hand.checked_sub(wanted).map_err(|_| Refusal::new(field, "other-unit").with("lot", lot))?;
    if left.amount < 0 {
        return Err(Refusal::new(field, "oversold")
            .with("lot", lot)
            .with("on-hand", on_hand)
            .with("wanted", wanted));
    }
    Ok(())
}

/// Nothing is done to a lot before it exists; a recalled lot is only observed and held.
pub fn usable(
    field: &str,
    lot: &str,
    facts: &LotFacts,
    at: DateTime<Utc>,
    moves: bool,
) -> Result<(), Refusal> {
    if at < facts.made_at {
        return Err(Refusal::new(field, "before-it-was")
            .with("lot", lot)
            .with("made", facts.made_at.to_rfc3339()));
    }
    if moves && facts.recalled {
        return Err(Refusal::new(field, "recalled").with("lot", lot));
    }
    Ok(())
}

/// Shares of a whole: species in a load, claims of a certificate.
pub fn sums_to(field: &str, parts: &[Decimal], total: Decimal) -> Result<(), Refusal> {
    let sum = parts.iter().try_fold(Decimal::ZERO, |sum, part| sum.checked_add(*part));
    match sum {
        Some(sum) if sum == total => Ok(()),
        Some(sum) => Err(Refusal::new(field, "wrong-sum").with("sum", sum).with("total", total)),
        None => Err(Refusal::new(field, "not-computable")),
    }
}

/// Mass is not made: what comes out in the inputs' unit is no more than what went in.
pub fn outputs_within(field: &str, inputs: &[Quantity], outputs: &[Quantity]) -> Result<(), Refusal> {
    let unit = inputs.first().map_or(Unit::Gram, |first| first.unit);
    let total = |quantities: &[Quantity]| {
        let same = quantities.iter().filter(|quantity| quantity.unit == unit);
        same.map(|quantity| i128::from(quantity.amount)).sum::<i128>()
    };
    let (went_in, came_out) = (total(inputs), total(outputs));
    if came_out > went_in {
        let shown = |amount: i128| Quantity::new(unit, i64::try_from(amount).unwrap_or(i64::MAX));
        return Err(Refusal::new(field, "more-out-than-in")
            .with("input", shown(went_in))
            .with("output", shown(came_out)));
    }
    Ok(())
}

/// Drying takes water away and nothing else: out ≤ in × (100 − wet) / (100 − dry) × (1 + tolerance %).
pub fn dry_matter(
    field: &str,
    input: Quantity,
    output: Quantity,
    (wet, dry): (Decimal, Decimal),
    tolerance: Decimal,
) -> Result<(), Refusal> {
    let bound = (|| {
        let kept = Decimal::HUNDRED.checked_sub(wet)?.scaled(4)?;
        let left = Decimal::HUNDRED.checked_sub(dry)?.scaled(4)?;
        let slack = Decimal::HUNDRED.checked_add(tolerance)?.scaled(4)?;
        let numerator = i128::from(input.amount).checked_mul(kept)?.checked_mul(slack)?;
        divide_rounding(numerator, left.checked_mul(1_000_000)?).and_then(|most| i64::try_from(most).ok())
    })();
    let most = bound.ok_or_else(|| Refusal::new(field, "not-computable"))?;
    if output.amount > most {
        return Err(Refusal::new(field, "more-than-dry-matter")
            .with("output", output)
            .with("max", Quantity::new(output.unit, most))
            .with("wet", wet)
            .with("dry", dry));
    }
    Ok(())
}

/// Measured against sent: beyond `max` percent it is said.
pub fn deviation(field: &str, sent: Quantity, measured: Quantity, max: Decimal) -> Verdict {
    let Ok(difference) = measured.checked_sub(sent) else {
        return Verdict::Refuse(Refusal::new(field, "other-unit"));
    };
    let Some(off) = percent(difference, sent) else {
        return Verdict::Refuse(Refusal::new(field, "not-computable"));
    };
    let least = Decimal::ZERO.checked_sub(max).unwrap_or(Decimal::ZERO);
    if off > max || off < least {
        let refusal = Refusal::new(field, "deviates").with("sent", sent).with("measured", measured);
        return Verdict::Warn(refusal.with("percent", off).with("max", max));
    }
    Verdict::Good
}

/// Shares `total` in proportion to `weights`, in whole units that add up (largest remainder; ties go to the earlier).
pub fn largest_remainder(total: i64, weights: &[i64]) -> Option<Vec<i64>> {
    let sum: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    if sum <= 0 || total < 0 || weights.iter().any(|weight| *weight < 0) {
        return None;
    }
    let product = |weight: &i64| i128::from(total) * i128::from(*weight);
    let mut shares: Vec<i64> =
        weights.iter().map(|weight| i64::try_from(product(weight) / sum).ok()).collect::<Option<_>>()?;
    let left = usize::try_from(total - shares.iter().sum::<i64>()).ok()?;
    let mut order: Vec<usize> = (0..weights.len()).collect();
    let remainder = |index: &usize| weights.get(*index).map_or(0, |weight| product(weight) % sum);
    order.sort_by_key(|index| std::cmp::Reverse(remainder(index)));
    for index in order.into_iter().take(left) {
        if let Some(share) = shares.get_mut(index) {
            *share += 1;
        }
    }
    Some(shares)
}

#[cfg(test)]
mod tests;
