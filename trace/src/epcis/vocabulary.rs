//! The closed word lists of the Core Business Vocabulary 2.0 and of the GS1 Web Vocabulary, as EPCIS JSON writes them.

use std::fmt;

use serde_json::Value;

use super::{
    read::{At, EpcisError, Member, Rule},
    value::Uri,
};

/// A list of words that a sender may extend by URIs of its own.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident, $list:literal, $iri:literal { $($variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub enum $name {
            $($variant,)+
            /// A word of someone else's, by its URI or compact URI.
            Foreign(Uri),
        }

        impl $name {
            /// The standard's own words.
            pub const WORDS: &[&str] = &[$($word),+];
            /// What stands before a word of the list in its full IRI.
            pub const IRI: &str = $iri;

            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Foreign(uri) => uri.as_str(),
                }
            }

            /// The standard's word, if it is one.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The bare word where a word of the list is written as its IRI or compact IRI.
            #[must_use]
            pub fn canonical(self) -> Self {
                let Self::Foreign(uri) = &self else { return self };
                bare_word(uri.as_str(), Self::IRI).and_then(Self::from_word).unwrap_or(self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Member for $name {
            fn read(value: Value, at: &At<'_>) -> Result<Self, EpcisError> {
                let text = String::read(value, at)?;
                if let Some(word) = Self::from_word(&text) {
                    return Ok(word);
                }
                // EPCIS 2.0 §10.3.1: in JSON the standard's words are bare, never their URNs.
                if text.starts_with("urn:epcglobal:cbv") || !text.contains(':') {
                    return Err(at.error(Rule::Word { list: $list, found: text }));
                }
                Uri::read(Value::String(text), at).map(Self::Foreign)
            }

            fn write(&self) -> Value {
                Value::from(self.as_str())
            }
        }
    };
}

/// `https://ref.gs1.org/cbv/BizStep-shipping` and `cbv:BizStep-shipping` are `shipping`.
fn bare_word<'a>(text: &'a str, iri: &str) -> Option<&'a str> {
    if let Some(word) = text.strip_prefix(iri) {
        return Some(word);
    }
    let (prefix, namespace) = match iri.strip_prefix("https://ref.gs1.org/cbv/") {
        Some(local) => ("cbv:", local),
        None => ("gs1:", ""),
    };
    text.strip_prefix(prefix)?.strip_prefix(namespace)
}

vocabulary! {
    /// CBV 2.0 §7.1: what business process the event was part of.
    BizStep, "business step", "https://ref.gs1.org/cbv/BizStep-" {
        Accepting = "accepting",
        Arriving = "arriving",
        Assembling = "assembling",
        Collecting = "collecting",
        Commissioning = "commissioning",
        Consigning = "consigning",
        CreatingClassInstance = "creating_class_instance",
        CycleCounting = "cycle_counting",
        Decommissioning = "decommissioning",
        Departing = "departing",
        Destroying = "destroying",
        Disassembling = "disassembling",
        Dispensing = "dispensing",
        Encoding = "encoding",
        EnteringExiting = "entering_exiting",
        Holding = "holding",
        Inspecting = "inspecting",
        Installing = "installing",
        Killing = "killing",
        Loading = "loading",
        Other = "other",
        Packing = "packing",
        Picking = "picking",
        Receiving = "receiving",
        Removing = "removing",
        Repackaging = "repackaging",
        Repairing = "repairing",
        Replacing = "replacing",
        Reserving = "reserving",
        RetailSelling = "retail_selling",
        Shipping = "shipping",
        StagingOutbound = "staging_outbound",
        StockTaking = "stock_taking",
        Stocking = "stocking",
        Storing = "storing",
        Transporting = "transporting",
        Unloading = "unloading",
        Unpacking = "unpacking",
        VoidShipping = "void_shipping",
        SensorReporting = "sensor_reporting",
        Sampling = "sampling",
    }
}

vocabulary! {
    /// CBV 2.0 §7.2: the state of the objects after the event.
    Disposition, "disposition", "https://ref.gs1.org/cbv/Disp-" {
        Active = "active",
        ContainerClosed = "container_closed",
        Damaged = "damaged",
        Destroyed = "destroyed",
        Dispensed = "dispensed",
        Disposed = "disposed",
        Encoded = "encoded",
        Expired = "expired",
        InProgress = "in_progress",
        InTransit = "in_transit",
        Inactive = "inactive",
        NoPedigreeMatch = "no_pedigree_match",
        NonSellableOther = "non_sellable_other",
        PartiallyDispensed = "partially_dispensed",
        Recalled = "recalled",
        Reserved = "reserved",
        RetailSold = "retail_sold",
        Returned = "returned",
        SellableAccessible = "sellable_accessible",
        SellableNotAccessible = "sellable_not_accessible",
        Stolen = "stolen",
        Unknown = "unknown",
        Available = "available",
        CompletenessVerified = "completeness_verified",
        CompletenessInferred = "completeness_inferred",
        Conformant = "conformant",
        ContainerOpen = "container_open",
        MismatchInstance = "mismatch_instance",
        MismatchClass = "mismatch_class",
        MismatchQuantity = "mismatch_quantity",
        NeedsReplacement = "needs_replacement",
        NonConformant = "non_conformant",
        Unavailable = "unavailable",
    }
}

vocabulary! {
    /// CBV 2.0 §7.3.
    BizTransactionType, "business transaction type", "https://ref.gs1.org/cbv/BTT-" {
        Bol = "bol",
        Cert = "cert",
        Desadv = "desadv",
        Inv = "inv",
        Pedigree = "pedigree",
        Po = "po",
        Poc = "poc",
        Prodorder = "prodorder",
        Recadv = "recadv",
        Rma = "rma",
        Testprd = "testprd",
        Testres = "testres",
        Upevt = "upevt",
    }
}

vocabulary! {
    /// CBV 2.0 §7.4.
    SourceDestType, "source or destination type", "https://ref.gs1.org/cbv/SDT-" {
        OwningParty = "owning_party",
        PossessingParty = "possessing_party",
        Location = "location",
    }
}

vocabulary! {
    /// CBV 2.0 §7.5.
    ErrorReason, "error reason", "https://ref.gs1.org/cbv/ER-" {
        DidNotOccur = "did_not_occur",
        IncorrectData = "incorrect_data",
    }
}

vocabulary! {
    /// CBV 2.0 §7.7: the axis or coordinate that a measurement is of.
    Component, "sensor component", "https://ref.gs1.org/cbv/Comp-" {
        X = "x",
        Y = "y",
        Z = "z",
        AxialDistance = "axial_distance",
        Azimuth = "azimuth",
        Height = "height",
        SphericalRadius = "spherical_radius",
        PolarAngle = "polar_angle",
        ElevationAngle = "elevation_angle",
        Easting = "easting",
        Northing = "northing",
        Latitude = "latitude",
        Longitude = "longitude",
        Altitude = "altitude",
    }
}

vocabulary! {
    /// GS1 Web Vocabulary `MeasurementType`.
    MeasurementType, "measurement type", "https://gs1.org/voc/" {
        AbsoluteHumidity = "AbsoluteHumidity",
        AbsorbedDose = "AbsorbedDose",
        AbsorbedDoseRate = "AbsorbedDoseRate",
        Acceleration = "Acceleration",
        Radioactivity = "Radioactivity",
        Altitude = "Altitude",
        AmountOfSubstance = "AmountOfSubstance",
        AmountOfSubstancePerUnitVolume = "AmountOfSubstancePerUnitVolume",
        Angle = "Angle",
        AngularAcceleration = "AngularAcceleration",
        AngularMomentum = "AngularMomentum",
        AngularVelocity = "AngularVelocity",
        Area = "Area",
        Capacitance = "Capacitance",
        Conductance = "Conductance",
        Conductivity = "Conductivity",
        Count = "Count",
        Density = "Density",
        Dimensionless = "Dimensionless",
        DoseEquivalent = "DoseEquivalent",
        DoseEquivalentRate = "DoseEquivalentRate",
        DynamicViscosity = "DynamicViscosity",
        ElectricCharge = "ElectricCharge",
        ElectricCurrent = "ElectricCurrent",
        ElectricCurrentDensity = "ElectricCurrentDensity",
        ElectricFieldStrength = "ElectricFieldStrength",
        Energy = "Energy",
        Exposure = "Exposure",
        Force = "Force",
        Frequency = "Frequency",
        Illuminance = "Illuminance",
        Inductance = "Inductance",
        Irradiance = "Irradiance",
        KinematicViscosity = "KinematicViscosity",
        Length = "Length",
        LinearMomentum = "LinearMomentum",
        Luminance = "Luminance",
        LuminousFlux = "LuminousFlux",
        LuminousIntensity = "LuminousIntensity",
        MagneticFlux = "MagneticFlux",
        MagneticFluxDensity = "MagneticFluxDensity",
        MagneticVectorPotential = "MagneticVectorPotential",
        Mass = "Mass",
        MassConcentration = "MassConcentration",
        MassFlowRate = "MassFlowRate",
        MassPerAreaTime = "MassPerAreaTime",
        MemoryCapacity = "MemoryCapacity",
        MolalityOfSolute = "MolalityOfSolute",
        MolarEnergy = "MolarEnergy",
        MolarMass = "MolarMass",
        MolarVolume = "MolarVolume",
        Power = "Power",
        Pressure = "Pressure",
        RadiantFlux = "RadiantFlux",
        RadiantIntensity = "RadiantIntensity",
        RelativeHumidity = "RelativeHumidity",
        Resistance = "Resistance",
        Resistivity = "Resistivity",
        SolidAngle = "SolidAngle",
        SpecificVolume = "SpecificVolume",
        Speed = "Speed",
        SurfaceDensity = "SurfaceDensity",
        SurfaceTension = "SurfaceTension",
        Temperature = "Temperature",
        Time = "Time",
        Torque = "Torque",
        Voltage = "Voltage",
        Volume = "Volume",
        VolumeFlowRate = "VolumeFlowRate",
        VolumeFraction = "VolumeFraction",
        VolumetricFlux = "VolumetricFlux",
        Wavenumber = "Wavenumber",
    }
}

vocabulary! {
    /// GS1 Web Vocabulary `SensorAlertType`.
    SensorAlertType, "sensor alert type", "https://gs1.org/voc/" {
        AlarmCondition = "ALARM_CONDITION",
        ErrorCondition = "ERROR_CONDITION",
    }
}
