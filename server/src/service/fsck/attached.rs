//! What hangs on a record: its references, its disclosures, and what it says of lots.

use std::collections::BTreeSet;

use serde_json::Value;
use store::fsck::{DisclosureRow, LotPartRow, RefRow};
use trace::{hash::Hash, quantity::Unit};

use super::record::Signed;

/// References are the signed ones, each once.
pub(super) fn check_refs(signed: &Signed<'_>, rows: &[RefRow]) -> Result<(), &'static str> {
    let said: BTreeSet<(&str, &[u8])> = signed
        .record
        .claims()
        .refs
        .iter()
        .map(|one| (one.rel.as_str(), one.leaf.as_bytes().as_slice()))
        .collect();
    let kept: BTreeSet<(&str, &[u8])> =
        rows.iter().map(|row| (row.rel.as_str(), row.target.as_slice())).collect();
    if said == kept { Ok(()) } else { Err("its references are not the signed ones") }
}

/// Each disclosure opens a digest that was signed, and they are numbered through.
pub(super) fn check_disclosures(signed: &Signed<'_>, rows: &[DisclosureRow]) -> Result<(), String> {
    for (position, row) in (0_i16..).zip(rows) {
        if row.position != position {
            return Err(format!("disclosure {position} is missing"));
        }
        let digest = Hash::from_slice(&row.digest).map(|digest| digest.to_string());
        if !digest.is_some_and(|digest| signed.digests.contains(&digest.as_str())) {
            return Err(format!("disclosure {position} opens nothing that was signed"));
        }
        if !row.visibility_fits {
            return Err(format!("disclosure {position} is neither private nor a person's"));
        }
    }
    Ok(())
}

/// What an event says of a lot.
struct Portion<'a> {
    lot: &'a str,
    list: &'static str,
    /// In the unit's smallest part, where it stands in plain.
    quantity: Option<(i64, Unit)>,
}

const EPC_LISTS: [&str; 4] = ["epcList", "childEPCs", "inputEPCList", "outputEPCList"];
const LISTS: [&str; 4] = ["quantityList", "childQuantityList", "inputQuantityList", "outputQuantityList"];

/// Every lot of the event with its quantity, and none that it does not name.
pub(super) fn check_lots(signed: &Signed<'_>, rows: &[LotPartRow]) -> Result<(), String> {
    let Some(event) = signed.record.payload().get("event") else {
        return if rows.is_empty() { Ok(()) } else { Err("a statement that speaks of lots".to_owned()) };
    };
    if !signed.is_ours {
        return rows.iter().try_for_each(|row| check_import(row, event));
    }
    let said = portions(event);
    for row in rows {
        // A recall speaks of everything that its lot went into.
        if !row.recalled_here {
            check_part(row, &said)?;
        }
    }
    let missing = said.iter().find(|portion| !rows.iter().any(|row| row.lot == portion.lot));
    match missing {
        Some(portion) => Err(format!("nothing is kept of what it says of {}", portion.lot)),
        None => Ok(()),
    }
}

/// An import observes the lots that it names, and what stands on the units that it names.
fn check_import(row: &LotPartRow, event: &Value) -> Result<(), String> {
    if row.part != "observed" || row.quantity.is_some() {
        return Err("an import that does more than observe".to_owned());
    }
    let mut named = EPC_LISTS.iter().filter_map(|list| event.get(*list)?.as_array()).flatten();
    let a_unit = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("https://id.gs1.org/00/"));
    let is_named = portions(event).iter().any(|portion| portion.lot == row.lot);
    if is_named || named.any(a_unit) || event.get("parentID").is_some_and(a_unit) {
        Ok(())
    } else {
        Err(format!("it does not speak of {}", row.lot))
    }
}

fn check_part(row: &LotPartRow, said: &[Portion<'_>]) -> Result<(), String> {
    let fits = |portion: &&Portion<'_>| {
        portion.lot == row.lot
            && match row.part.as_str() {
                "input" => portion.list == "inputQuantityList",
                "output" => matches!(portion.list, "outputQuantityList" | "quantityList"),
                "moved" => portion.list == "quantityList",
                "observed" => matches!(portion.list, "quantityList" | "childQuantityList"),
                _ => false,
            }
    };
    let of_lot: Vec<&Portion<'_>> = said.iter().filter(fits).collect();
    if of_lot.is_empty() {
        return Err(format!("it does not speak of {} so", row.lot));
    }
    let Some(kept) = row.quantity else {
        return if row.part == "observed" {
            Ok(())
        } else {
            Err(format!("no quantity of {} is kept", row.lot))
        };
    };
    // A lot may stand on several lines of one list: what is kept is the first of them, or their sum.
    let plain: Option<Vec<(i64, Unit)>> = of_lot.iter().map(|portion| portion.quantity).collect();
    let Some(plain) = plain else { return Ok(()) };
    let sum: i64 = plain.iter().map(|(amount, _)| *amount).sum();
    let is_one = plain.iter().any(|(amount, _)| *amount == kept);
    if (kept == sum || is_one) && plain.iter().all(|(_, unit)| unit.as_str() == row.unit) {
        Ok(())
    } else {
        Err(format!("another quantity of {} is kept than it says", row.lot))
    }
}

fn portions(event: &Value) -> Vec<Portion<'_>> {
    let elements = |list: &'static str| {
        let elements = event.get(list).and_then(Value::as_array).into_iter().flatten();
        elements.map(move |element| (list, element))
    };
    LISTS
        .iter()
        .flat_map(|list| elements(list))
        .filter_map(|(list, element)| {
            Some(Portion { lot: element.get("epcClass")?.as_str()?, list, quantity: quantity(element) })
        })
        .collect()
}

/// Kilograms, cubic metres or pieces (UN/ECE Recommendation 20) in grams, cubic centimetres or pieces: by the text's own
/// digits, not by way of a double.
fn quantity(element: &Value) -> Option<(i64, Unit)> {
    let number = element.get("quantity")?.as_f64()?;
    let (unit, parts) = match element.get("uom").map(Value::as_str) {
        None => (Unit::Piece, 1.0),
        Some(Some("KGM")) => (Unit::Gram, 1e3),
        Some(Some("MTQ")) => (Unit::CubicCentimetre, 1e6),
        Some(_) => return None,
    };
    let amount = (number * parts).round();
    format!("{amount:.0}").parse().ok().map(|amount| (amount, unit))
}
