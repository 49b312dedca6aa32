//! From what a device sent to what the server gets: a signed pack as it is, everything else as one pack per message
//! signed by this gateway, and what cannot be decoded as the bytes that came (the server keeps them as a dead letter).

mod map;

pub use map::{Map, MapReading};
use trace::{
    keys::SecretKey,
    pack::{
        self, FrameError,
        senml::{self, Reading, SenmlError},
    },
};

use crate::register::{Device, Format, Repeats, Signing};

/// Why a payload goes on undecoded. The server decides what it is; this is for the log alone.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    #[error("not the JSON of its format")]
    Json(#[from] trace::json::JsonError),
    #[error("not SenML")]
    Senml(#[from] SenmlError),
    #[error("{0}")]
    Shape(&'static str),
    #[error("no pack can be made of it")]
    Pack(#[from] FrameError),
    #[error("no random bytes for a counter")]
    Random,
}

/// What is posted for one message.
#[derive(Debug)]
pub enum Routed {
    /// Signed by the device, or undecodable as far as routing knows: the bytes as received.
    AsReceived,
    /// Signed here.
    Signed(Vec<u8>),
}

/// The gateway's hand: its key and the ledger's private enterprise number.
#[derive(Debug)]
pub struct Signer {
    pub key: SecretKey,
    pub pen: u32,
}

impl Signer {
    pub fn route(&self, device: &Device, topic: &str, payload: &[u8]) -> Result<Routed, UplinkError> {
        if device.signing == Signing::Device || device.format == Format::Cose {
            return Ok(Routed::AsReceived);
        }
        let base_name = device.name.base_name(self.pen);
        let mut readings = readings(device, payload)?;
        for reading in &mut readings {
            if !reading.name.starts_with(&base_name) {
                // The pack is this device's; a name of the sender's own making stays readable behind it.
                reading.name.insert_str(0, &base_name);
            }
        }
        let cti = counter(device.repeats, topic, payload)?;
        Ok(Routed::Signed(pack::sign(&cti, &senml::write_cbor(&base_name, &readings)?, &self.key)?))
    }
}

fn readings(device: &Device, payload: &[u8]) -> Result<Vec<Reading>, UplinkError> {
    match device.format {
        Format::SenmlJson => Ok(senml::parse_json(payload)?),
        Format::SenmlCbor => Ok(senml::parse_cbor(payload)?),
        Format::Chirpstack => map::from_chirpstack(payload, &device.map),
        Format::Json => map::from_json(payload, &device.map),
        Format::Cose => Err(UplinkError::Shape("a signed pack is not decoded here")),
    }
}

/// `merge`: the same whichever gateway signs, so that a redelivery is recognised. `keep`: every message is its own.
fn counter(repeats: Repeats, topic: &str, payload: &[u8]) -> Result<[u8; 16], UplinkError> {
    match repeats {
        Repeats::Merge => Ok(pack::gateway_cti(topic, payload)),
        Repeats::Keep => {
            let mut cti = [0; 16];
            getrandom::fill(&mut cti).map_err(|_| UplinkError::Random)?;
            Ok(cti)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace::pack::{DeviceName, Frame};

    fn device(format: Format, repeats: Repeats) -> Device {
        Device {
            name: DeviceName::new("mill", "s1").unwrap(),
            format,
            signing: Signing::Gateway,
            repeats,
            token: None,
            map: Map::default(),
        }
    }

    fn signed(repeats: Repeats, payload: &[u8]) -> Vec<u8> {
        let signer = Signer { key: SecretKey::from_seed(&[1; 32]), pen: 32473 };
        match signer.route(&device(Format::SenmlJson, repeats), "suyuan/v1/mill/s1/up", payload).unwrap() {
            Routed::Signed(pack) => pack,
            Routed::AsReceived => panic!("not signed"),
        }
    }

    #[test]
    fn the_same_message_makes_the_same_pack_unless_the_profile_keeps_repeats() {
        let payload = br#"[{"n":"t","u":"Cel","v":21.5}]"#;
        assert_eq!(signed(Repeats::Merge, payload), signed(Repeats::Merge, payload));
        assert_ne!(signed(Repeats::Keep, payload), signed(Repeats::Keep, payload));
    }

    #[test]
    fn a_pack_signed_here_verifies_and_names_its_device_whatever_the_sender_called_itself() {
        let topic = "suyuan/v1/mill/s1/up";
        let payload =
            br#"[{"bn":"urn:dev:ow:10e2073a01080063:","bt":1700000000,"n":"t","u":"Cel","v":21.50}]"#;
        let bytes = signed(Repeats::Merge, payload);
        let frame = Frame::parse(&bytes).unwrap();
        frame.verify(&SecretKey::from_seed(&[1; 32]).public()).unwrap();
        assert_eq!(frame.cti, pack::gateway_cti(topic, payload));
        let readings = senml::parse_cbor(frame.payload).unwrap();
        assert_eq!(readings[0].name, "urn:dev:org:32473-mill:s1:urn:dev:ow:10e2073a01080063:t");
        assert_eq!(readings[0].time_us, 1_700_000_000_000_000);
    }

    #[test]
    fn a_signed_pack_is_never_touched_and_nonsense_is_an_error_that_names_itself() {
        let signer = Signer { key: SecretKey::from_seed(&[1; 32]), pen: 32473 };
        assert!(matches!(
            signer.route(&device(Format::Cose, Repeats::Merge), "t", b"anything"),
            Ok(Routed::AsReceived)
        ));
        for payload in
            [&b"\xff\xfe"[..], b"{", b"[]", b"[{\"n\":\"t\",\"n\":\"u\",\"v\":1}]", b"[{\"n\":\"t\"}]"]
        {
            assert!(signer.route(&device(Format::SenmlJson, Repeats::Merge), "t", payload).is_err());
            assert!(signer.route(&device(Format::SenmlCbor, Repeats::Merge), "t", payload).is_err());
        }
    }
}
