//! The committed module against this code: whatever a browser signs with it, the ledger must be able to make again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may stop where it stands, and says loudly what it skips"
)]

mod filled;

use std::{path::Path, process::Command};

use filled::{PROFILES, question};
use serde_json::{Value as Json, json};
use trace::{
    keys::{Custody, SecretKey},
    profile::Profile,
    record::statement::{Possession, verify_possession},
};
use wasmi::{Engine, Instance, Linker, Memory, Module, Store};

const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../static/trace.wasm");

/// A module as a page runs it: no import, its own memory.
struct Page {
    store: Store<()>,
    instance: Instance,
    memory: Memory,
}

impl Page {
    fn new(file: &str) -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, std::fs::read(file).unwrap()).unwrap();
        assert_eq!(module.imports().count(), 0, "the module asks nothing of the page");
        let mut store = Store::new(&engine, ());
        let instance = Linker::new(&engine).instantiate_and_start(&mut store, &module).unwrap();
        let memory = instance.get_memory(&store, "memory").unwrap();
        Self { store, instance, memory }
    }

    fn ask(&mut self, question: &[u8]) -> Vec<u8> {
        let Self { store, instance, memory } = self;
        let give = instance.get_typed_func::<u32, u32>(&*store, "give").unwrap();
        let ask = instance.get_typed_func::<(u32, u32), u64>(&*store, "ask").unwrap();
        let release = instance.get_typed_func::<(u32, u32), ()>(&*store, "release").unwrap();
        let length = u32::try_from(question.len()).unwrap();
        let address = give.call(&mut *store, length).unwrap();
        memory.write(&mut *store, address as usize, question).unwrap();
        let answer = ask.call(&mut *store, (address, length)).unwrap();
        let (address, length) = ((answer >> 32) as u32, answer as u32);
        let mut text = vec![0; length as usize];
        memory.read(&*store, address as usize, &mut text).unwrap();
        release.call(&mut *store, (address, length)).unwrap();
        text
    }
}

fn key() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

fn possession() -> Possession {
    Possession {
        aud: filled::LEDGER.to_owned(),
        jti: "01934567-89ab-7def-8123-456789abcdef".parse().unwrap(),
        kid: key().kid(),
        party: filled::AUTHOR.to_owned(),
        custody: Custody::Browser,
    }
}

fn enrolment(possession: &Possession) -> Json {
    json!({"possession": {"possession": possession, "key": trace::hash::Hash(*key().public().as_bytes())}})
}

/// Every step of every profile, both questions, and what is no question.
fn questions() -> Vec<Vec<u8>> {
    let kid = key().kid().to_string();
    let mut questions = vec![b"{".to_vec(), enrolment(&possession()).to_string().into_bytes()];
    for text in PROFILES {
        for step in Profile::parse(text).unwrap().steps() {
            questions.push(question(text, step, &kid).to_string().into_bytes());
        }
    }
    questions
}

fn answers_as_this_code_does(file: &str) {
    let mut page = Page::new(file);
    for question in questions() {
        let (theirs, ours) = (page.ask(&question), browser::answer(&question));
        assert_eq!(
            String::from_utf8_lossy(&theirs),
            String::from_utf8_lossy(&ours),
            "{file} is not what these sources make: run `make wasm`"
        );
    }
}

fn answer_of(question: &Json) -> Json {
    serde_json::from_slice(&browser::answer(question.to_string().as_bytes())).unwrap()
}

#[test]
fn the_committed_module_writes_down_every_step_as_this_code_does() {
    answers_as_this_code_does(COMMITTED);
}

#[test]
fn every_step_can_be_signed_in_a_browser() {
    let kid = key().kid().to_string();
    for text in PROFILES {
        for step in Profile::parse(text).unwrap().steps() {
            let answer = answer_of(&question(text, step, &kid));
            assert!(answer.get("signing_input").is_some(), "{}: {answer}", step.id);
        }
    }
}

#[test]
fn what_cannot_be_asked_for_gets_no_room_and_does_no_harm() {
    let mut page = Page::new(COMMITTED);
    let give = page.instance.get_typed_func::<u32, u32>(&page.store, "give").unwrap();
    assert_eq!(give.call(&mut page.store, u32::MAX).unwrap(), 0);
    assert_eq!(give.call(&mut page.store, 0).unwrap(), 0);
    let answer: Json = serde_json::from_slice(&page.ask(b"null")).unwrap();
    assert!(answer.get("error").is_some());
}

#[test]
fn a_browser_proves_itself_for_its_own_key_in_its_own_custody_alone() {
    let held = answer_of(&enrolment(&possession()));
    let input = held.get("signing_input").and_then(Json::as_str).unwrap();
    let pop = format!("{input}.{}", trace::b64::url(&key().sign(input.as_bytes())));
    verify_possession(&pop, &possession(), &key().public()).unwrap();
    for other in [
        Possession { custody: Custody::Platform, ..possession() },
        Possession { kid: SecretKey::from_seed(&[8; 32]).kid(), ..possession() },
    ] {
        assert!(answer_of(&enrolment(&other)).get("error").is_some());
    }
}

#[test]
fn a_browser_signs_for_no_other_party_and_no_other_ledger() {
    let kid = key().kid().to_string();
    let profile = Profile::parse(PROFILES[0]).unwrap();
    for (pointer, other) in [
        ("/record/grounds/aud", "elsewhere"),
        ("/record/grounds/context/author", "https://id.gs1.org/417/9521234000020"),
    ] {
        let mut asked = question(PROFILES[0], profile.steps().first().unwrap(), &kid);
        assert!(answer_of(&asked).get("signing_input").is_some());
        *asked.pointer_mut(pointer).unwrap() = json!(other);
        assert!(answer_of(&asked).get("signing_input").is_none(), "{pointer}");
    }
}

#[test]
fn the_committed_module_is_what_its_compiler_makes_of_these_sources() {
    let built = std::env::temp_dir().join(format!("suyuan-trace-{}.wasm", std::process::id()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("build");
    let run = Command::new(script).arg(&built).output().unwrap();
    if run.status.code() == Some(3) {
        println!("{}: the module was not built again", String::from_utf8_lossy(&run.stderr).trim());
        return;
    }
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    println!("{}", String::from_utf8_lossy(&run.stdout));
    let from = |file: &str| std::fs::read_to_string(format!("{file}.from")).unwrap();
    let file = built.to_str().unwrap();
    answers_as_this_code_does(file);
    if from(file) == from(COMMITTED) {
        let same = std::fs::read(file).unwrap() == std::fs::read(COMMITTED).unwrap();
        assert!(same, "static/trace.wasm is not what these sources make: run `make wasm`");
    } else {
        println!("SKIPPED: bytes compared; committed by {}, built by {}", from(COMMITTED), from(file));
    }
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(format!("{file}.from")).unwrap();
}

#[test]
fn a_profile_read_in_little_code_is_the_same_profile() {
    for text in PROFILES {
        assert_eq!(Profile::parse_in_little_code(text).unwrap(), Profile::parse(text).unwrap());
        let broken = text.replacen("kind = \"place\"", "kind = \"plaice\"", 1);
        assert!(Profile::parse_in_little_code(&broken).is_err() && Profile::parse(&broken).is_err());
    }
}
