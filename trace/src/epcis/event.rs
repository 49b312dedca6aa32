//! The five events of EPCIS 2.0 (§7.4) and what they are made of.

use serde_json::{Map, Value};

use super::{
    context::{Context, Namespaces},
    read::{At, EpcisError, Extensions, Fields, Member, Rule, no_further_rule, object, unique},
    value::{Action, Decimal, Hexadecimal, Offset, OneOrMany, Time, Unit, Uri},
    vocabulary::{
        BizStep, BizTransactionType, Component, Disposition, ErrorReason, MeasurementType, SensorAlertType,
        SourceDestType,
    },
};

object! {
    /// §7.3.3.3: a class of objects and how much of it.
    QuantityElement {
        must { epc_class: Uri = "epcClass", }
        may { quantity: Decimal = "quantity", uom: Unit = "uom", }
    }
}

impl QuantityElement {
    fn check(&self, at: &At<'_>) -> Result<(), EpcisError> {
        match &self.quantity {
            None if self.uom.is_some() => Err(at.error(Rule::UnitWithoutQuantity)),
            Some(Decimal(number)) if number.as_f64().is_some_and(|number| number < 0.0) => {
                Err(at.member("quantity").error(Rule::Negative))
            }
            _ => Ok(()),
        }
    }
}

object! {
    /// §7.3.5.2 readPoint and bizLocation.
    Location + extensions {
        must { id: Uri = "id", }
    }
}

object! {
    /// §7.3.5.3
    BizTransaction {
        must { biz_transaction: Uri = "bizTransaction", }
        may { kind: BizTransactionType = "type", }
    }
}

object! {
    /// §7.3.5.4
    Source {
        must { kind: SourceDestType = "type", source: Uri = "source", }
    }
}

object! {
    /// §7.3.5.4
    Destination {
        must { kind: SourceDestType = "type", destination: Uri = "destination", }
    }
}

object! {
    /// §7.4.1.2: the event is withdrawn; see `correctiveEventIDs` for what holds instead.
    ErrorDeclaration + extensions {
        must { declaration_time: Time = "declarationTime", }
        may { reason: ErrorReason = "reason", corrective_event_ids: Vec<Uri> = "correctiveEventIDs", }
    }
}

object! {
    /// §7.3.6: dispositions that hold until they are unset.
    PersistentDisposition {
        may { set: Vec<Disposition> = "set", unset: Vec<Disposition> = "unset", }
    }
}

impl PersistentDisposition {
    fn check(&self, at: &At<'_>) -> Result<(), EpcisError> {
        if self.set.is_none() && self.unset.is_none() {
            return Err(at.error(Rule::NeitherSetNorUnset));
        }
        for (name, words) in [("set", &self.set), ("unset", &self.unset)] {
            let Some(words) = words else { continue };
            let at = at.member(name);
            if words.is_empty() {
                return Err(at.error(Rule::Empty));
            }
            unique(words.iter().map(Disposition::as_str), &at)?;
        }
        Ok(())
    }
}

object! {
    /// §7.3.7: when and by which device the reports of an element were made.
    SensorMetadata + extensions {
        may {
            time: Time = "time",
            start_time: Time = "startTime",
            end_time: Time = "endTime",
            device_id: Uri = "deviceID",
            device_metadata: Uri = "deviceMetadata",
            raw_data: Uri = "rawData",
            data_processing_method: Uri = "dataProcessingMethod",
            biz_rules: Uri = "bizRules",
        }
    }
}

object! {
    /// §7.3.7: one measured, counted or derived value.
    SensorReport + extensions {
        must { kind: MeasurementType = "type", }
        may {
            exception: SensorAlertType = "exception",
            device_id: Uri = "deviceID",
            device_metadata: Uri = "deviceMetadata",
            raw_data: Uri = "rawData",
            data_processing_method: Uri = "dataProcessingMethod",
            biz_rules: Uri = "bizRules",
            time: Time = "time",
            microorganism: Uri = "microorganism",
            chemical_substance: Uri = "chemicalSubstance",
            coordinate_reference_system: Uri = "coordinateReferenceSystem",
            value: Decimal = "value",
            component: Component = "component",
            string_value: String = "stringValue",
            boolean_value: bool = "booleanValue",
            hex_binary_value: Hexadecimal = "hexBinaryValue",
            uri_value: Uri = "uriValue",
            min_value: Decimal = "minValue",
            max_value: Decimal = "maxValue",
            mean_value: Decimal = "meanValue",
            s_dev: Decimal = "sDev",
            perc_rank: Decimal = "percRank",
            perc_value: Decimal = "percValue",
            uom: String = "uom",
        }
    }
}

object! {
    /// §7.3.7
    SensorElement + extensions {
        must { sensor_report: Vec<SensorReport> = "sensorReport", }
        may { sensor_metadata: SensorMetadata = "sensorMetadata", }
    }
}

impl SensorElement {
    fn check(&self, at: &At<'_>) -> Result<(), EpcisError> {
        if self.sensor_report.is_empty() { Err(at.member("sensorReport").error(Rule::Empty)) } else { Ok(()) }
    }
}

no_further_rule!(
    Location,
    BizTransaction,
    Source,
    Destination,
    ErrorDeclaration,
    SensorMetadata,
    SensorReport
);

/// What one event type has of its own, read from and written to the event's own object.
macro_rules! dimension {
    ($(#[$doc:meta])* $name:ident {
        $(must { $($must:ident: $must_type:ty = $must_name:literal,)* })?
        may { $($may:ident: $may_type:ty = $may_name:literal,)* }
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(pub $must: $must_type,)*)?
            $(pub $may: Option<$may_type>,)*
        }

        impl $name {
            fn take(fields: &mut Fields, at: &At<'_>) -> Result<Self, EpcisError> {
                Ok(Self {
                    $($($must: fields.required($must_name, at)?,)*)?
                    $($may: fields.optional($may_name, at)?,)*
                })
            }

            fn put(&self, map: &mut Map<String, Value>) {
                $($(map.insert($must_name.to_owned(), self.$must.write());)*)?
                $(if let Some(value) = &self.$may {
                    map.insert($may_name.to_owned(), value.write());
                })*
            }
        }
    };
}

dimension! {
    /// §7.4.2: something happened to objects.
    ObjectEvent {
        must { action: Action = "action", }
        may {
            epc_list: Vec<Uri> = "epcList",
            quantity_list: Vec<QuantityElement> = "quantityList",
            persistent_disposition: PersistentDisposition = "persistentDisposition",
            ilmd: Extensions = "ilmd",
        }
    }
}

dimension! {
    /// §7.4.3: objects were put into, or taken out of, a container.
    AggregationEvent {
        must { action: Action = "action", }
        may {
            parent_id: Uri = "parentID",
            child_epcs: Vec<Uri> = "childEPCs",
            child_quantity_list: Vec<QuantityElement> = "childQuantityList",
        }
    }
}

dimension! {
    /// §7.4.6: objects were fixed to another object or to a place.
    AssociationEvent {
        must { action: Action = "action", parent_id: Uri = "parentID", }
        may {
            child_epcs: Vec<Uri> = "childEPCs",
            child_quantity_list: Vec<QuantityElement> = "childQuantityList",
        }
    }
}

dimension! {
    /// §7.4.4: objects became part of a business transaction, or ceased to be.
    TransactionEvent {
        must { action: Action = "action", }
        may {
            parent_id: Uri = "parentID",
            epc_list: Vec<Uri> = "epcList",
            quantity_list: Vec<QuantityElement> = "quantityList",
        }
    }
}

dimension! {
    /// §7.4.5: inputs were consumed and outputs made.
    TransformationEvent {
        may {
            input_epc_list: Vec<Uri> = "inputEPCList",
            input_quantity_list: Vec<QuantityElement> = "inputQuantityList",
            output_epc_list: Vec<Uri> = "outputEPCList",
            output_quantity_list: Vec<QuantityElement> = "outputQuantityList",
            transformation_id: Uri = "transformationID",
            persistent_disposition: PersistentDisposition = "persistentDisposition",
            ilmd: Extensions = "ilmd",
        }
    }
}

dimension! {
    /// When, where and why: what every event may have.
    Circumstances {
        must { event_time: Time = "eventTime", event_time_zone_offset: Offset = "eventTimeZoneOffset", }
        may {
            record_time: Time = "recordTime",
            event_id: Uri = "eventID",
            certification_info: OneOrMany<Uri> = "certificationInfo",
            error_declaration: ErrorDeclaration = "errorDeclaration",
            biz_step: BizStep = "bizStep",
            disposition: Disposition = "disposition",
            read_point: Location = "readPoint",
            biz_location: Location = "bizLocation",
            biz_transaction_list: Vec<BizTransaction> = "bizTransactionList",
            source_list: Vec<Source> = "sourceList",
            destination_list: Vec<Destination> = "destinationList",
            sensor_element_list: Vec<SensorElement> = "sensorElementList",
        }
    }
}

/// What happened, by event type.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Object(ObjectEvent),
    Aggregation(AggregationEvent),
    Association(AssociationEvent),
    Transaction(TransactionEvent),
    Transformation(TransformationEvent),
}

/// An EPCIS event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub context: Option<Context>,
    pub kind: Kind,
    pub circumstances: Circumstances,
    pub extensions: Extensions,
}

impl Kind {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Object(_) => "ObjectEvent",
            Self::Aggregation(_) => "AggregationEvent",
            Self::Association(_) => "AssociationEvent",
            Self::Transaction(_) => "TransactionEvent",
            Self::Transformation(_) => "TransformationEvent",
        }
    }

    pub const fn action(&self) -> Option<Action> {
        match self {
            Self::Object(event) => Some(event.action),
            Self::Aggregation(event) => Some(event.action),
            Self::Association(event) => Some(event.action),
            Self::Transaction(event) => Some(event.action),
            Self::Transformation(_) => None,
        }
    }

    fn take(name: &str, fields: &mut Fields, at: &At<'_>) -> Result<Self, EpcisError> {
        match name {
            "ObjectEvent" => ObjectEvent::take(fields, at).map(Self::Object),
            "AggregationEvent" => AggregationEvent::take(fields, at).map(Self::Aggregation),
            "AssociationEvent" => AssociationEvent::take(fields, at).map(Self::Association),
            "TransactionEvent" => TransactionEvent::take(fields, at).map(Self::Transaction),
            "TransformationEvent" => TransformationEvent::take(fields, at).map(Self::Transformation),
            other => Err(at.member("type").error(Rule::Type(other.to_owned()))),
        }
    }

    fn put(&self, map: &mut Map<String, Value>) {
        match self {
            Self::Object(event) => event.put(map),
            Self::Aggregation(event) => event.put(map),
            Self::Association(event) => event.put(map),
            Self::Transaction(event) => event.put(map),
            Self::Transformation(event) => event.put(map),
        }
    }
}

impl Event {
    /// A single event, with its own `@context`.
    pub fn from_value(value: Value) -> Result<Self, EpcisError> {
        Self::read(value, &At::root(&Namespaces::default()))
    }

    pub fn to_value(&self) -> Value {
        self.write()
    }

    /// Rules between members of the event (EPCIS 2.0 §7.4).
    fn check(&self, at: &At<'_>) -> Result<(), EpcisError> {
        match &self.kind {
            Kind::Object(event) => self.check_object(event, at),
            Kind::Aggregation(event) => {
                if event.parent_id.is_none() && event.action != Action::Observe {
                    return Err(at.error(Rule::NoParent));
                }
                check_children(
                    event.child_epcs.as_ref(),
                    event.child_quantity_list.as_ref(),
                    event.action,
                    at,
                )
            }
            Kind::Association(event) => check_children(
                event.child_epcs.as_ref(),
                event.child_quantity_list.as_ref(),
                event.action,
                at,
            ),
            Kind::Transaction(event) => self.check_transaction(event, at),
            Kind::Transformation(event) => check_transformation(event, at),
        }
    }

    fn check_object(&self, event: &ObjectEvent, at: &At<'_>) -> Result<(), EpcisError> {
        let senses = has_any(self.circumstances.sensor_element_list.as_ref())
            && self.circumstances.read_point.is_some();
        if event.epc_list.is_none() && !has_any(event.quantity_list.as_ref()) && !senses {
            return Err(at.error(Rule::NothingObserved));
        }
        if event.ilmd.is_some() && event.action != Action::Add {
            return Err(at.member("ilmd").error(Rule::IlmdNotAdded));
        }
        check_unique(event.epc_list.as_ref(), &at.member("epcList"))
    }

    fn check_transaction(&self, event: &TransactionEvent, at: &At<'_>) -> Result<(), EpcisError> {
        let transactions = self.circumstances.biz_transaction_list.as_ref();
        if !has_any(transactions) {
            let rule = if transactions.is_some() { Rule::Empty } else { Rule::Missing };
            return Err(at.member("bizTransactionList").error(rule));
        }
        let objects = event.epc_list.is_some() || has_any(event.quantity_list.as_ref());
        if objects || event.action == Action::Delete {
            Ok(())
        } else {
            Err(at.error(Rule::NothingInTransaction))
        }
    }
}

fn has_any<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn check_unique(list: Option<&Vec<Uri>>, at: &At<'_>) -> Result<(), EpcisError> {
    list.map_or(Ok(()), |list| unique(list.iter().map(Uri::as_str), at))
}

fn check_children(
    epcs: Option<&Vec<Uri>>,
    quantities: Option<&Vec<QuantityElement>>,
    action: Action,
    at: &At<'_>,
) -> Result<(), EpcisError> {
    let children = has_any(epcs) || has_any(quantities);
    if children || action == Action::Delete { Ok(()) } else { Err(at.error(Rule::NoChildren)) }
}

fn check_transformation(event: &TransformationEvent, at: &At<'_>) -> Result<(), EpcisError> {
    let inputs = has_any(event.input_epc_list.as_ref()) || has_any(event.input_quantity_list.as_ref());
    let outputs = has_any(event.output_epc_list.as_ref()) || has_any(event.output_quantity_list.as_ref());
    let one_run_of_several = event.transformation_id.is_some() && (inputs || outputs);
    if !(inputs && outputs || one_run_of_several) {
        return Err(at.error(Rule::NothingTransformed));
    }
    check_unique(event.input_epc_list.as_ref(), &at.member("inputEPCList"))?;
    check_unique(event.output_epc_list.as_ref(), &at.member("outputEPCList"))
}

impl Member for Event {
    fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
        let mut fields = Fields::of(value, at)?;
        let context: Option<Context> = fields.optional("@context", at)?;
        let namespaces =
            context.as_ref().map_or_else(|| at.namespaces.clone(), |context| at.namespaces.with(context));
        let at = &at.within(&namespaces);
        let name: String = fields.required("type", at)?;
        let event = Self {
            context,
            kind: Kind::take(&name, &mut fields, at)?,
            circumstances: Circumstances::take(&mut fields, at)?,
            extensions: fields.extensions(at)?,
        };
        event.check(at)?;
        Ok(event)
    }

    fn write(&self) -> Value {
        let mut map = Map::new();
        if let Some(context) = &self.context {
            map.insert("@context".to_owned(), context.write());
        }
        map.insert("type".to_owned(), Value::from(self.kind.name()));
        self.circumstances.put(&mut map);
        self.kind.put(&mut map);
        map.extend(self.extensions.0.clone());
        Value::Object(map)
    }
}
