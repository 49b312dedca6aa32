//! Documents that carry events (EPCIS 2.0 §10.1): for capture, and as the answer to a query.

use serde_json::{Map, Value};

use super::{
    context::{Context, Namespaces},
    event::Event,
    read::{At, EpcisError, Extensions, Fields, Member, Rule, no_further_rule, object},
    value::{Time, Uri, Version},
};

object! {
    /// One attribute of a master data element.
    Attribute + extensions {
        must { id: Uri = "id", }
        may { attribute: Value = "attribute", }
    }
}

object! {
    /// §9.4: an entity and its attributes.
    VocabularyElement + extensions {
        must { id: Uri = "id", }
        may { attributes: Vec<Attribute> = "attributes", children: Vec<Uri> = "children", }
    }
}

object! {
    /// §9.4: entities of one kind.
    Vocabulary + extensions {
        must { kind: Uri = "type", }
        may { elements: Vec<VocabularyElement> = "vocabularyElementList", }
    }
}

object! {
    MasterData + extensions {
        may { vocabulary_list: Vec<Vocabulary> = "vocabularyList", }
    }
}

object! {
    Header + extensions {
        may { master_data: MasterData = "epcisMasterData", }
    }
}

object! {
    CaptureBody {
        must { event_list: Vec<Event> = "eventList", }
    }
}

object! {
    ResultsBody + extensions {
        must { event_list: Vec<Event> = "eventList", }
        may { vocabulary_list: Vec<Vocabulary> = "vocabularyList", }
    }
}

object! {
    /// §8.2.7.1: which query was asked and what it found.
    QueryResults + extensions {
        must { query_name: String = "queryName", results_body: ResultsBody = "resultsBody", }
        may { subscription_id: String = "subscriptionID", }
    }
}

object! {
    QueryBody + extensions {
        must { query_results: QueryResults = "queryResults", }
    }
}

object! {
    DocumentFields + extensions {
        must {
            context: Context = "@context",
            schema_version: Version = "schemaVersion",
            creation_date: Time = "creationDate",
            body: CaptureBody = "epcisBody",
        }
        may {
            id: Uri = "id",
            instance_identifier: String = "instanceIdentifier",
            sender: String = "sender",
            receiver: String = "receiver",
            header: Header = "epcisHeader",
        }
    }
}

object! {
    QueryDocumentFields + extensions {
        must { context: Context = "@context", body: QueryBody = "epcisBody", }
        may { id: Uri = "id", schema_version: Version = "schemaVersion", creation_date: Time = "creationDate", }
    }
}

no_further_rule!(
    Attribute,
    VocabularyElement,
    Vocabulary,
    MasterData,
    Header,
    CaptureBody,
    ResultsBody,
    QueryResults,
    QueryBody,
    DocumentFields,
    QueryDocumentFields
);

/// What a sender may hand in: a document for capture, the answer to a query, or one bare event.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    Capture(Box<DocumentFields>),
    Query(Box<QueryDocumentFields>),
    Event(Box<Event>),
}

impl Document {
    /// Reads a whole document. The JSON is expected to have been parsed strictly, within limits.
    pub fn from_value(value: Value) -> Result<Self, EpcisError> {
        let standard = Namespaces::default();
        let root = At::root(&standard);
        let mut fields = Fields::of(value, &root)?;
        let name: String = fields.required("type", &root)?;
        let declared: Option<Context> = fields.optional("@context", &root)?;
        let namespaces = declared.as_ref().map_or_else(|| standard.clone(), |context| standard.with(context));
        let mut map = Map::new();
        map.extend(declared.map(|context| ("@context".to_owned(), context.write())));
        map.extend(fields.rest());
        let at = root.within(&namespaces);
        match name.as_str() {
            "EPCISDocument" => DocumentFields::read(Value::Object(map), &at).map(Box::new).map(Self::Capture),
            "EPCISQueryDocument" => {
                QueryDocumentFields::read(Value::Object(map), &at).map(Box::new).map(Self::Query)
            }
            _ if !map.contains_key("@context") => Err(root.member("@context").error(Rule::Missing)),
            _ => {
                map.insert("type".to_owned(), Value::from(name));
                Event::read(Value::Object(map), &root).map(Box::new).map(Self::Event)
            }
        }
    }

    pub fn to_value(&self) -> Value {
        let (name, mut value) = match self {
            Self::Capture(document) => ("EPCISDocument", document.write()),
            Self::Query(document) => ("EPCISQueryDocument", document.write()),
            Self::Event(event) => return event.write(),
        };
        if let Value::Object(map) = &mut value {
            map.insert("type".to_owned(), Value::from(name));
        }
        value
    }

    pub fn events(&self) -> &[Event] {
        match self {
            Self::Capture(document) => &document.body.event_list,
            Self::Query(document) => &document.body.query_results.results_body.event_list,
            Self::Event(event) => std::slice::from_ref(event),
        }
    }

    pub fn context(&self) -> Option<&Context> {
        match self {
            Self::Capture(document) => Some(&document.context),
            Self::Query(document) => Some(&document.context),
            Self::Event(event) => event.context.as_ref(),
        }
    }

    pub fn extensions(&self) -> &Extensions {
        match self {
            Self::Capture(document) => &document.extensions,
            Self::Query(document) => &document.extensions,
            Self::Event(event) => &event.extensions,
        }
    }

    /// The prefixes that hold for the document's events.
    pub fn namespaces(&self) -> Namespaces {
        let standard = Namespaces::default();
        self.context().map_or_else(|| standard.clone(), |context| standard.with(context))
    }

    /// The events, each carrying the context in which it was written, so that it can stand alone.
    pub fn into_events(self) -> Vec<Event> {
        let outer = self.context().cloned();
        let events = match self {
            Self::Capture(document) => document.body.event_list,
            Self::Query(document) => document.body.query_results.results_body.event_list,
            Self::Event(event) => vec![*event],
        };
        events.into_iter().map(|event| within(outer.as_ref(), event)).collect()
    }
}

fn within(outer: Option<&Context>, mut event: Event) -> Event {
    event.context = match (outer, event.context) {
        (Some(outer), Some(inner)) if *outer != inner => {
            let mut entries = outer.entries().to_vec();
            for entry in inner.entries() {
                if !entries.contains(entry) {
                    entries.push(entry.clone());
                }
            }
            Some(Context::List(entries))
        }
        (outer, inner) => inner.or_else(|| outer.cloned()),
    };
    event
}

impl Member for Value {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        if value.is_null() { Err(at.error(Rule::Kind("a value"))) } else { Ok(value) }
    }

    fn write(&self) -> Value {
        self.clone()
    }
}
