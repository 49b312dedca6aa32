use coset::{CborSerializable as _, CoseSign1};

use super::*;

fn key() -> SecretKey {
    SecretKey::from_seed(&[3; 32])
}

fn pack() -> Vec<u8> {
    sign(&[0, 0, 0, 9], b"\x81\xa2\x00\x61a\x02\x01", &key()).unwrap()
}

#[test]
fn a_pack_is_read_back_and_another_implementation_agrees() {
    let bytes = pack();
    let frame = Frame::parse(&bytes).unwrap();
    assert_eq!((frame.kid, frame.cti), (key().kid(), &[0, 0, 0, 9][..]));
    assert!(frame.verify(&key().public()).is_ok());
    assert!(frame.verify(&SecretKey::from_seed(&[4; 32]).public()).is_err());

    let foreign = CoseSign1::from_slice(&bytes).unwrap();
    assert_eq!(foreign.protected.header.key_id, key().kid().as_bytes());
    assert_eq!(foreign.payload.as_deref(), Some(frame.payload));
    let verified =
        foreign.verify_signature(b"", |signature, message| key().public().verify_strict(message, signature));
    assert!(verified.is_ok());
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = pack();
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        let passed = Frame::parse(&flipped).is_ok_and(|frame| frame.verify(&key().public()).is_ok());
        assert!(!passed, "bit {at}");
    }
}

#[test]
fn other_encodings_of_the_same_pack_are_refused() {
    let bytes = pack();
    let tagged = [&[0xd2][..], &bytes].concat();
    let trailing = [&bytes[..], &[0]].concat();
    let mut indefinite = bytes.clone();
    indefinite[0] = 0x9f;
    indefinite.push(0xff);
    let long_length = {
        // The protected header's length 0x58 nn written in two bytes.
        let mut long = bytes.clone();
        assert_eq!(long[1], 0x58);
        long.splice(1..2, [0x59, 0x00]);
        long
    };
    let unprotected = {
        let at = 3 + usize::from(bytes[2]);
        assert_eq!(bytes[at], 0xa0);
        let mut with_algorithm = bytes.clone();
        with_algorithm.splice(at..=at, [0xa1, 0x01, 0x27]);
        with_algorithm
    };
    for other in [tagged, trailing, indefinite, long_length, unprotected, Vec::new(), vec![0x84; 20_000]] {
        assert!(Frame::parse(&other).is_err());
    }
    assert_eq!(sign(&[], b"", &key()), Err(FrameError::Cti));
    assert_eq!(sign(&[0; 33], b"", &key()), Err(FrameError::Cti));
    assert_eq!(sign(&[0], &[0; PACK_BYTES_MAX], &key()), Err(FrameError::TooLong));
}

#[test]
fn a_batch_passes_only_if_every_pack_would() {
    let packs: Vec<Vec<u8>> =
        (0..5_u8).map(|cti| sign(&[cti], b"\x81\xa2\x00\x61a\x02\x01", &key()).unwrap()).collect();
    let public = key().public();
    let frames = |packs: &[Vec<u8>]| -> bool {
        let frames: Vec<_> = packs.iter().map(|bytes| (Frame::parse(bytes).unwrap(), &public)).collect();
        verify_batch(&frames)
    };
    assert!(frames(&packs));
    let mut forged = packs.clone();
    let last = forged[3].len() - 1;
    forged[3][last - 40] ^= 1;
    assert!(!frames(&forged));
    assert!(verify_batch(&[]));
}

#[test]
fn a_gateways_number_depends_on_topic_and_message_alone() {
    let cti = gateway_cti("suyuan/v1/mill/scale1/up", b"x");
    assert_eq!(cti, sha256(b"suyuan/v1/mill/scale1/upx").as_bytes()[..16]);
    assert_ne!(cti, gateway_cti("suyuan/v1/mill/scale2/up", b"x"));
}
