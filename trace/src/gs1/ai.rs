//! Which application identifiers exist (GS1 Syntax Dictionary, 2026).

/// Whether `ai` is an assigned application identifier.
pub fn is_assigned(ai: &str) -> bool {
    let digits = ai.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = digits.then(|| ai.parse::<u16>().ok()).flatten() else { return false };
    match ai.len() {
        2 => matches!(number, 0..=3 | 10..=13 | 15..=17 | 20..=22 | 30 | 37 | 90..=99),
        3 => matches!(
            number,
            235 | 240..=243 | 250 | 251 | 253..=255 | 400..=403 | 410..=417 | 420..=427 | 710..=717
        ),
        4 => is_measure(number) || is_assigned_of_four(number),
        _ => false,
    }
}

/// 31nn to 36nn, measures and logistic measures; 39nn, amounts. The last digit places the decimal point.
const fn is_measure(number: u16) -> bool {
    match number / 10 {
        310..=316 | 320..=337 | 340..=357 | 360..=367 | 395 => number % 10 <= 5,
        390..=393 => true,
        394 => number % 10 <= 3,
        _ => false,
    }
}

const fn is_assigned_of_four(number: u16) -> bool {
    matches!(
        number,
        4300..=4326 | 4330..=4333
            | 7001..=7011 | 7020..=7023 | 7030..=7041 | 7230..=7242 | 7250..=7259
            | 8001..=8014 | 8017..=8020 | 8026 | 8030 | 8040..=8043 | 8110..=8112 | 8200
    )
}
