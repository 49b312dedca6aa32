//! Against RFC 6962 as written, and against transparency-dev's test cases.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{b64, hash::sha256};

/// RFC 6962 §2.1 as a recursion, nothing shared with the code under test.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [one] => *one,
        more => {
            let mut half = 1;
            while half * 2 < more.len() {
                half *= 2;
            }
            let (left, right) = more.split_at(half);
            sha256(&[&[1][..], &naive_root(left).0[..], &naive_root(right).0[..]].concat())
        }
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&sha256(&number.to_be_bytes()))).collect()
}

fn nodes_of(leaves: &[Hash]) -> impl Fn(u8, u64) -> Option<Hash> + '_ {
    |level, index| {
        let (start, end) =
            (usize::try_from(index << level).ok()?, usize::try_from((index + 1) << level).ok()?);
        leaves.get(start..end).map(naive_root)
    }
}

proptest! {
    #[test]
    fn every_proof_of_a_grown_tree_verifies_and_no_other_does(size in 1_u64..300, pick in any::<u64>(), old in any::<u64>()) {
        let leaves = leaves(size);
        let nodes = nodes_of(&leaves);
        let (index, old) = (pick % size, old % (size + 1));
        let root = naive_root(&leaves);
        prop_assert_eq!(super::root(&leaves), root);
        prop_assert_eq!(root_at(&nodes, size), Ok(root));
        prop_assert_eq!(Frontier::of(&nodes, size).unwrap().root(), root);

        let at = usize::try_from(index).unwrap();
        let proof = inclusion_proof(&nodes, size, index).unwrap();
        prop_assert_eq!(verify_inclusion(&root, size, index, &leaves[at], &proof), Ok(()));
        prop_assert!(verify_inclusion(&root, size, index, &sha256(b"another"), &proof).is_err());

        let old_root = naive_root(&leaves[..usize::try_from(old).unwrap()]);
        let proof = consistency_proof(&nodes, old, size).unwrap();
        prop_assert_eq!(verify_consistency(old, &old_root, size, &root, &proof), Ok(()));
        for at in 0..proof.len() {
            let mut forged = proof.clone();
            forged[at].0[0] ^= 1;
            prop_assert!(verify_consistency(old, &old_root, size, &root, &forged).is_err());
        }
        if old != 0 && old != size {
            prop_assert!(verify_consistency(old, &sha256(b"another"), size, &root, &proof).is_err());
        }
    }
}

#[test]
fn a_frontier_completes_each_subtree_once_with_its_hash() {
    let leaves = leaves(600);
    let nodes = nodes_of(&leaves);
    let mut frontier = Frontier::default();
    let mut completed = Vec::new();
    for leaf in &leaves {
        frontier.push_noting(*leaf, |level, index, hash| completed.push((level, index, hash)));
    }
    for (level, index, hash) in &completed {
        assert_eq!(nodes(*level, *index), Some(*hash), "level {level}, index {index}");
    }
    let wanted: u64 = (0..10).map(|level| 600 >> level).sum();
    assert_eq!(u64::try_from(completed.len()).unwrap(), wanted);
}

#[test]
fn sizes_beyond_any_log_are_refused_without_overflow() {
    let hash = sha256(b"");
    assert!(verify_inclusion(&hash, u64::MAX, 0, &hash, &[]).is_err());
    assert!(verify_consistency(1, &hash, u64::MAX, &hash, &[]).is_err());
    assert!(verify_inclusion(&hash, 0, 0, &hash, &[]).is_err());
}

fn shared(folder: &str) -> Option<PathBuf> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/merkle-transparency-dev/testdata");
    let path = path.join(folder);
    if path.is_dir() {
        return Some(path);
    }
    println!("SKIPPED: no {folder} vectors at ../shared/data");
    None
}

fn cases(folder: &Path, found: &mut Vec<(String, Value)>) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            cases(&path, found);
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path.display().to_string(), serde_json::from_str(&text).unwrap()));
        }
    }
}

/// `None` where the vector holds what is no hash at all, which is a refusal too.
fn hash_at(case: &Value, name: &str) -> Option<Hash> {
    Hash::from_slice(&b64::from_std(case[name].as_str()?).ok()?)
}

fn proof_at(case: &Value) -> Option<Vec<Hash>> {
    let Some(hashes) = case["proof"].as_array() else { return Some(Vec::new()) };
    hashes.iter().map(|hash| Hash::from_slice(&b64::from_std(hash.as_str()?).ok()?)).collect()
}

fn check_all(folder: &str, least: usize, verdict: impl Fn(&Value) -> Option<bool>) {
    let Some(folder) = shared(folder) else { return };
    let mut found = Vec::new();
    cases(&folder, &mut found);
    assert!(found.len() >= least, "{} cases", found.len());
    for (name, case) in found {
        // The one good case whose roots are words, which a `Hash` cannot hold: two equal trees of one leaf.
        if name.ends_with("sizes-are-equal-one-and-proof-is-empty.json") {
            assert_eq!(case["root1"], case["root2"]);
            continue;
        }
        let good = verdict(&case).unwrap_or(false);
        assert_eq!(good, !case["wantErr"].as_bool().unwrap(), "{name}");
    }
}

#[test]
fn inclusion_agrees_with_transparency_dev() {
    check_all("inclusion", 98, |case| {
        let (index, size) = (case["leafIdx"].as_u64()?, case["treeSize"].as_u64()?);
        let (root, leaf) = (hash_at(case, "root")?, hash_at(case, "leafHash")?);
        Some(verify_inclusion(&root, size, index, &leaf, &proof_at(case)?).is_ok())
    });
}

#[test]
fn consistency_agrees_with_transparency_dev() {
    check_all("consistency", 98, |case| {
        let (old, new) = (case["size1"].as_u64()?, case["size2"].as_u64()?);
        let (old_root, new_root) = (hash_at(case, "root1")?, hash_at(case, "root2")?);
        Some(verify_consistency(old, &old_root, new, &new_root, &proof_at(case)?).is_ok())
    });
}
