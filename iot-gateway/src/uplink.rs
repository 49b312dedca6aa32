//! From what a device sent to what the server gets: a signed pack as it is, everything else as one pack per message
//! signed by this gateway, and what cannot be decoded as the bytes that came (the server keeps them as a dead letter).

mod nodes;

pub use nodes::{Command, Nodes};
use trace::{
    keys::SecretKey,
    pack::{
        self, FrameError,
        senml::{self, Reading, SenmlError},
    },
    uplink::{self, UplinkError},
};

use crate::register::{Device, Format, Repeats, Signing};

/// Why a payload goes on as it came. The server finds the reason again by itself; this is for log and counters.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    #[error(transparent)]
    Uplink(#[from] UplinkError),
    #[error("no pack can be written of its readings")]
    Senml(#[from] SenmlError),
    #[error("no pack can be signed of it")]
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
    /// A message that explains itself: every format but Sparkplug, whose births must have been heard.
    pub fn route(&self, device: &Device, topic: &str, payload: &[u8]) -> Result<Routed, RouteError> {
        if device.signing == Signing::Device || device.format == Format::Cose {
            return Ok(Routed::AsReceived);
        }
        let readings = uplink::read(device.format, &device.map, payload)?;
        Ok(Routed::Signed(self.sign(device, topic, payload, readings)?))
    }

    /// The pack of one message: its readings, in this device's name.
    pub fn sign(
        &self,
        device: &Device,
        topic: &str,
        payload: &[u8],
        mut readings: Vec<Reading>,
    ) -> Result<Vec<u8>, RouteError> {
        let base_name = device.name.base_name(self.pen);
        for reading in &mut readings {
            if !reading.name.starts_with(&base_name) {
                // The pack is this device's; a name of the sender's own making stays readable behind it.
                reading.name.insert_str(0, &base_name);
            }
        }
        let cti = counter(device.repeats, topic, payload)?;
        Ok(pack::sign(&cti, &senml::write_cbor(&base_name, &readings)?, &self.key)?)
    }
}

/// `merge`: the same whichever gateway signs, so that a redelivery is recognised. `keep`: every message is its own.
fn counter(repeats: Repeats, topic: &str, payload: &[u8]) -> Result<[u8; 16], RouteError> {
    match repeats {
        Repeats::Merge => Ok(pack::gateway_cti(topic, payload)),
        Repeats::Keep => {
            let mut cti = [0; 16];
            getrandom::fill(&mut cti).map_err(|_| RouteError::Random)?;
            Ok(cti)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trace::{
        pack::{DeviceName, Frame},
        uplink::Map,
    };

    fn device(format: Format, repeats: Repeats) -> Device {
        Device {
            name: DeviceName::new("mill", "s1").unwrap(),
            format,
            signing: Signing::Gateway,
            repeats,
            token: None,
            map: Map::default().into(),
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

    /// ChirpStack's own number of an uplink is in the payload: delivered again it is the same pack, and an equal
    /// measurement of another uplink is another one.
    #[test]
    fn a_chirpstack_uplink_delivered_again_makes_the_same_pack_and_another_uplink_another() {
        let signer = Signer { key: SecretKey::from_seed(&[1; 32]), pen: 32473 };
        let mut device = device(Format::Chirpstack, Repeats::Merge);
        device.map =
            Map::clone(&serde_json::from_str(r#"{"readings":{"/temp":{"n":"temp"}}}"#).unwrap()).into();
        let topic = "application/1/device/0101010101010101/event/up";
        let cti = |id: &str| {
            let event = format!(
                r#"{{"deduplicationId":"{id}","time":"2022-07-18T09:34:15+00:00","object":{{"temp":22.5}}}}"#
            );
            let Routed::Signed(pack) = signer.route(&device, topic, event.as_bytes()).unwrap() else {
                panic!("not signed")
            };
            let cti = Frame::parse(&pack).unwrap().cti.to_vec();
            assert_eq!(cti, pack::gateway_cti(topic, event.as_bytes()));
            cti
        };
        assert_eq!(cti("a"), cti("a"));
        assert_ne!(cti("a"), cti("b"));
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
