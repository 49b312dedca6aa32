//! The rules that a step names, and those that hold for every step: balance, order in time, permits, dated limits.

use chrono::Utc;

use super::{Effect, Field, Level, Refusal, Rule, Wiring, build::Maker};
use crate::{
    quantity::{Decimal, Measure, Quantity},
    rules::{self, Verdict, YieldBounds},
};

pub(super) fn check(
    maker: &Maker<'_>,
    effect: &Effect,
    refusals: &mut Vec<Refusal>,
    warnings: &mut Vec<Refusal>,
) {
    for field in &maker.step.fields {
        limits(maker, field, refusals, warnings);
    }
    holdings(maker, effect, refusals);
    for rule in &maker.step.rules {
        match apply(maker, effect, rule) {
            Verdict::Good => {}
            Verdict::Warn(refusal) => warnings.push(refusal),
            Verdict::Refuse(refusal) => refusals.push(refusal),
        }
    }
}

/// Limits of laws and standards in force on the day of the event.
fn limits(maker: &Maker<'_>, field: &Field, refusals: &mut Vec<Refusal>, warnings: &mut Vec<Refusal>) {
    let Some(value) = maker.values.number(&field.id) else { return };
    for limit in field.limits_on(maker.at.date_naive(), |other| maker.values.text(other)) {
        let over = limit.max.filter(|max| value > *max).map(|max| ("over-limit", max));
        let under = limit.min.filter(|min| value < *min).map(|min| ("under-limit", min));
        let Some((rule, bound)) = over.or(under) else { continue };
        let refusal = Refusal::new(&field.id, rule).with("value", value).with("limit", bound);
        let refusal = refusal.with("source", &limit.source);
        match limit.level {
            Level::Refuse => refusals.push(refusal),
            Level::Warn => warnings.push(refusal),
        }
    }
}

/// The fields that name what the effect takes away, for the refusal to point at.
fn source_field(wiring: &Wiring) -> &str {
    match wiring {
        Wiring::Transform { inputs: field, .. }
        | Wiring::Ship { portions: field, .. }
        | Wiring::Pack { children: field, .. }
        | Wiring::Store { quantity: field, .. }
        | Wiring::Loss { quantity: field, .. }
        | Wiring::Commission { lot: field, .. }
        | Wiring::Recall { lot: field, .. }
        | Wiring::Receive { consignment: field, .. }
        | Wiring::Refuse { consignment: field, .. }
        | Wiring::Unpack { parent: field }
        | Wiring::Create { lot: field, .. } => field,
        Wiring::Observe { lots, .. } => lots.first().map_or("lot", String::as_str),
    }
}

fn holdings(maker: &Maker<'_>, effect: &Effect, refusals: &mut Vec<Refusal>) {
    let field = source_field(&maker.step.effect);
    let moves = !matches!(effect, Effect::Observe { .. } | Effect::Recall { .. } | Effect::Loss { .. });
    let taken: Vec<(&str, Quantity)> = match effect {
        Effect::Transform { inputs: portions, .. }
        | Effect::Ship { portions, .. }
        | Effect::Pack { children: portions, .. } => {
            portions.iter().map(|portion| (portion.lot.as_str(), portion.quantity)).collect()
        }
        Effect::Store { lot, quantity, .. } | Effect::Loss { lot, quantity, .. } => vec![(lot, *quantity)],
        _ => Vec::new(),
    };
    for lot in effect.lots() {
        let Some(facts) = maker.context.lots.get(lot) else {
            refusals.push(Refusal::new(field, "unknown-lot").with("lot", lot));
            continue;
        };
        if let Err(refusal) = rules::usable(field, lot, facts, maker.at.with_timezone(&Utc), moves) {
            refusals.push(refusal);
        }
        if let Some((_, wanted)) = taken.iter().find(|(taken, _)| *taken == lot)
            && let Err(refusal) =
                rules::balance(field, lot, Quantity::new(facts.unit, facts.on_hand), *wanted)
        {
            refusals.push(refusal);
        }
    }
    permit(maker, effect, refusals);
    arrival(maker, effect, refusals);
}

fn permit(maker: &Maker<'_>, effect: &Effect, refusals: &mut Vec<Refusal>) {
    let Wiring::Create { permit: Some(field), .. } = &maker.step.effect else { return };
    let Effect::Create { quantity, place, quota: Some(number), .. } = effect else { return };
    let Some(facts) = maker.context.permits.get(number) else { return };
    if let Err(refusal) = rules::permit(field, number, facts, *quantity, place, maker.at.date_naive()) {
        refusals.push(refusal);
    }
}

fn arrival(maker: &Maker<'_>, effect: &Effect, refusals: &mut Vec<Refusal>) {
    let (Effect::Receive { consignment, .. } | Effect::Refuse { consignment, .. }) = effect else { return };
    let Some(facts) = maker.context.consignments.get(consignment) else { return };
    if maker.at < facts.shipped_at {
        let field = source_field(&maker.step.effect);
        refusals.push(Refusal::new(field, "before-it-left").with("shipped", facts.shipped_at.to_rfc3339()));
    }
}

fn apply(maker: &Maker<'_>, effect: &Effect, rule: &Rule) -> Verdict {
    let refuse = |result: Result<(), Refusal>| result.map_or_else(Verdict::Refuse, |()| Verdict::Good);
    let values = maker.values;
    match rule {
        Rule::Yield { of, per, min, max, never_over, .. } => {
            let (Some(output), Some(input)) = (stated(maker, of), stated(maker, per)) else {
                return Verdict::Good;
            };
            rules::yield_within(
                of,
                output,
                input,
                YieldBounds { min: *min, max: *max, never_over: *never_over },
            )
        }
        Rule::NotMore { field, than, strictly } => match (values.number(field), values.number(than)) {
            (Some(value), Some(bound)) if value > bound || (*strictly && value == bound) => {
                Verdict::Refuse(Refusal::new(field, "more-than").with("value", value).with("than", bound))
            }
            _ => Verdict::Good,
        },
        Rule::Sum { fields, total } => {
            let parts: Vec<Decimal> = fields.iter().filter_map(|field| values.number(field)).collect();
            let first = fields.first().map_or("", String::as_str);
            if parts.is_empty() { Verdict::Good } else { refuse(rules::sums_to(first, &parts, *total)) }
        }
        Rule::OutputsWithinInputs { outputs, .. } => {
            let Effect::Transform { inputs, outputs: made, .. } = effect else { return Verdict::Good };
            let inputs: Vec<Quantity> = inputs.iter().map(|portion| portion.quantity).collect();
            let made: Vec<Quantity> = made.iter().map(|output| output.quantity).collect();
            refuse(rules::outputs_within(outputs.first().map_or("", String::as_str), &inputs, &made))
        }
        Rule::DryMatter { input, output, wet, dry, tolerance } => {
            let quantities = (stated(maker, input), stated(maker, output));
            let moistures = (values.number(wet), values.number(dry));
            let ((Some(went_in), Some(came_out)), (Some(wet), Some(dry))) = (quantities, moistures) else {
                return Verdict::Good;
            };
            refuse(rules::dry_matter(output, went_in, came_out, (wet, dry), *tolerance))
        }
        Rule::Deviation { measured, max } => deviation(maker, effect, measured, *max),
        Rule::Within { hours, field } => within(maker, effect, *hours, field),
        Rule::After { field, than } => match (values.time(field), values.time(than)) {
            (Some(later), Some(earlier)) if later <= earlier => {
                Verdict::Refuse(Refusal::new(field, "not-after").with("earlier", earlier.to_rfc3339()))
            }
            _ => Verdict::Good,
        },
    }
}

/// A field as a quantity: a number in its unit (or its product's), or the sum of portions.
fn stated(maker: &Maker<'_>, id: &str) -> Option<Quantity> {
    let field = maker.step.field(id)?;
    let portions = maker.values.portions(id);
    if let Some((first, _)) = portions.first() {
        let product = &maker.context.lots.get(first)?.product;
        let measure = maker.profile.product(product)?.measure();
        let total = portions.iter().try_fold(Decimal::ZERO, |sum, (_, amount)| sum.checked_add(*amount))?;
        return Quantity::of(total, measure).ok();
    }
    let measure = Measure::from_code(field.unit.as_deref()?)?;
    Quantity::of(maker.values.number(id)?, measure).ok()
}

fn deviation(maker: &Maker<'_>, effect: &Effect, field: &str, max: Decimal) -> Verdict {
    let Effect::Receive { consignment, portions, .. } = effect else { return Verdict::Good };
    let Some(facts) = maker.context.consignments.get(consignment) else { return Verdict::Good };
    let sum = |portions: &[crate::profile::effect::Portion]| {
        let first = portions.first()?.quantity;
        portions.iter().skip(1).try_fold(first, |sum, portion| sum.checked_add(portion.quantity).ok())
    };
    match (sum(&facts.lines), sum(portions)) {
        (Some(sent), Some(measured)) => rules::deviation(field, sent, measured, max),
        _ => Verdict::Good,
    }
}

fn within(maker: &Maker<'_>, effect: &Effect, hours: u32, field: &str) -> Verdict {
    let at = maker.at.with_timezone(&Utc);
    let made = effect
        .lots()
        .into_iter()
        .filter_map(|lot| maker.context.lots.get(lot))
        .map(|facts| facts.made_at)
        .min();
    let passed = made.map_or(0, |made| (at - made).num_hours());
    if passed > i64::from(hours) {
        return Verdict::Warn(Refusal::new(field, "too-late").with("hours", passed).with("max", hours));
    }
    Verdict::Good
}
