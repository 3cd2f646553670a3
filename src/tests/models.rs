//! The shipped models are the ones that were measured: `models/SHA256SUMS`, as `sha256sum -c` reads it.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::data::fixture;

const ADVICE: &str =
    "models/SHA256SUMS must list it: in models, `sha256sum en/*.* ko/*.* */lstm/*` without the cards";

#[test]
fn shipped_models_have_the_listed_sums() {
    let models = fixture("../models");
    let list = std::fs::read_to_string(models.join("SHA256SUMS")).expect("models/SHA256SUMS");
    let listed: BTreeMap<&str, &str> = list
        .lines()
        .map(|line| line.split_once("  ").expect("a sum and a name"))
        .map(|(a, b)| (b, a))
        .collect();
    assert!(!listed.is_empty());
    for (name, sum) in &listed {
        let bytes = std::fs::read(models.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&found, sum, "{name} is not the listed file; {ADVICE}");
    }
    for folder in ["en", "ko"] {
        for name in files(&models, folder) {
            let card = name.ends_with(".md") || name.ends_with(".py");
            assert!(card || listed.contains_key(&*name), "{name}: {ADVICE}");
        }
    }
}

/// Files below a folder, named from `root`.
fn files(root: &Path, folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(root.join(folder)).expect("a folder of models");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    names
        .map(|name| format!("{folder}/{name}"))
        .flat_map(|name| if root.join(&name).is_dir() { files(root, &name) } else { vec![name] })
        .collect()
}
