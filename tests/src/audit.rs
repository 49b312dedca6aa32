//! What others find in a running house: psql as the auditor, and `suyuan fsck`.

use std::process::{Command, Output};

use demo::stack::Stack;

/// What psql answers as the auditor; nothing while the database is away.
pub fn ask(stack: &Stack, query: &str) -> String {
    let url = stack.database_url("auditor");
    let answer = Command::new("psql").args(["-X", "-A", "-t", "-c", query]).arg(url).output().unwrap();
    String::from_utf8_lossy(&answer.stdout).into_owned()
}

/// Panics unless everything follows from the signed bytes.
pub fn fsck(stack: &Stack) {
    let suyuan = stack.options.programs.join("suyuan");
    let registrar = stack.file("registrar.key");
    let kid = Command::new(&suyuan).args(["keys", "thumbprint"]).arg(registrar).output().unwrap();
    let kid = String::from_utf8(kid.stdout).unwrap();
    let checked = Command::new(suyuan)
        .args(["fsck", "--database-url", &stack.database_url("auditor"), "--registrar", kid.trim()])
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", said(&checked));
}

/// Both outputs of a program, for a message.
pub fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
