//! What was checked, in plain words, one line a layer.

use std::io::{self, Write};

use trace::bundle::{Layer, Outcome, Report, Verdict};

pub fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    for checked in &report.layers {
        let (mark, why) = match &checked.outcome {
            Outcome::Good => ("ok       ", ""),
            Outcome::Bad(why) => ("BAD      ", why.as_str()),
            Outcome::Unchecked(why) => ("unchecked", why.as_str()),
        };
        let (name, proves) = words(checked.layer);
        writeln!(out, "{mark}  {name} ({}): {}", checked.count, if why.is_empty() { proves } else { why })?;
    }
    writeln!(out, "{}", verdict(report.verdict))?;
    writeln!(
        out,
        "This proves who stated what and that it was not changed; not that what was stated is true, nor that it is about \
         the package in your hand."
    )
}

const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Valid => "VALID",
        Verdict::Invalid => "INVALID",
        Verdict::CouldNotCheck => "COULD NOT CHECK",
    }
}

/// A layer's name, and what it proves where it is good.
const fn words(layer: Layer) -> (&'static str, &'static str) {
    match layer {
        Layer::Log => ("log", "the heads are signed by a log that you trust"),
        Layer::Witnesses => ("witnesses", "enough witnesses saw the same history"),
        Layer::Signature => ("signatures", "each statement is signed by the key that it names, to the byte"),
        Layer::Inclusion => ("inclusion", "each statement stands in its log"),
        Layer::Enrolment => {
            ("enrolment", "each key was enrolled for its party by a registrar that you trust")
        }
        Layer::Roster => ("roster", "no key was revoked when the roster after its statement was made"),
        Layer::Seen => ("freshness", "the heads that authors had seen are ones that the log grew from"),
        Layer::Chain => ("chain", "the heads are on the chain"),
    }
}
