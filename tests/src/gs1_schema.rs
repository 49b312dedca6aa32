//! GS1's own JSON Schema of EPCIS 2.0, for events and documents that this house writes.

use std::path::PathBuf;

use serde_json::Value;

/// The schema, ready to validate.
pub struct Gs1Schema(jsonschema::Validator);

impl Gs1Schema {
    /// `None`, said loudly, where the shared data is missing.
    pub fn read() -> Option<Self> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("../../shared/data/gs1-epcis/EPCIS-JSON-Schema.json");
        let Ok(text) = std::fs::read_to_string(path) else {
            eprintln!("SKIPPED: GS1's EPCIS JSON Schema is missing");
            return None;
        };
        let schema: Value = serde_json::from_str(&text).unwrap();
        Some(Self(jsonschema::validator_for(&schema).unwrap()))
    }

    /// Panics with every violation. A single event must carry its own `@context`.
    pub fn assert_valid(&self, value: &Value) {
        let errors: Vec<String> =
            self.0.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(errors.is_empty(), "{}\n{value:#}", errors.join("\n"));
    }
}
