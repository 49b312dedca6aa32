//! The units that a record may name: IANA's registry "SenML Units" as RFC 8428 and RFC 8798 filled it.

/// RFC 8428 §12.1 and RFC 8798 §2.
const PRIMARY: [&str; 67] = [
    "m", "kg", "g", "s", "A", "K", "cd", "mol", "Hz", "rad", "sr", "N", "Pa", "J", "W", "C", "V", "F", "Ohm",
    "S", "Wb", "T", "H", "Cel", "lm", "lx", "Bq", "Gy", "Sv", "kat", "m2", "m3", "l", "m/s", "m/s2", "m3/s",
    "l/s", "W/m2", "cd/m2", "bit", "bit/s", "lat", "lon", "pH", "dB", "dBW", "Bspl", "count", "/", "%",
    "%RH", "%EL", "EL", "1/s", "1/min", "beat/min", "beats", "S/m", "B", "VA", "VAs", "var", "vars", "J/m",
    "kg/m3", "deg", "NTU",
];
/// RFC 8798 §3.
const SECONDARY: [&str; 33] = [
    "ms", "min", "h", "MHz", "kW", "kVA", "kvar", "Ah", "Wh", "kWh", "varh", "kvarh", "kVAh", "Wh/km", "KiB",
    "GB", "Mbit/s", "B/s", "MB/s", "mV", "mA", "dBm", "ug/m3", "mm/h", "m/h", "ppm", "/100", "/1000", "hPa",
    "mm", "cm", "km", "km/h",
];

/// Whether the registry has `unit`, as primary or secondary; case counts.
pub fn is_registered(unit: &str) -> bool {
    PRIMARY.contains(&unit) || SECONDARY.contains(&unit)
}
