//! EPCIS 2.0 in JSON: documents and events as types, CBV 2.0 words, and the event hash.
//!
//! What is read is checked against the rules of the standard and keeps its own spelling, so that printing gives the
//! same JSON value back. [`normalise`] then turns identifiers into the one form that is signed.

mod context;
mod document;
mod event;
mod hash;
mod import;
mod normalise;
mod read;
mod value;
mod vocabulary;

pub use context::{Context, ContextEntry, EPCIS_CONTEXT, Namespaces};
pub use document::{
    Attribute, CaptureBody, Document, DocumentFields, Header, MasterData, QueryBody, QueryDocumentFields,
    QueryResults, ResultsBody, Vocabulary, VocabularyElement,
};
pub use event::{
    AggregationEvent, AssociationEvent, BizTransaction, Circumstances, Destination, ErrorDeclaration, Event,
    Kind, Location, ObjectEvent, PersistentDisposition, QuantityElement, SensorElement, SensorMetadata,
    SensorReport, Source, TransactionEvent, TransformationEvent,
};
pub use hash::{event_hash, event_hash_uri, prehash};
pub use import::{IMPORT_DECOYS, import_conceal, import_profile_reference};
pub use normalise::normalise;
pub use read::{EpcisError, Extensions, Rule};
pub use value::{Action, Decimal, Hexadecimal, Offset, OneOrMany, Time, Unit, Uri, Version};
pub use vocabulary::{
    BizStep, BizTransactionType, Component, Disposition, ErrorReason, MeasurementType, SensorAlertType,
    SourceDestType,
};

#[cfg(test)]
mod tests;
