//! What holds for the source as text: the import order of the modules, and the rules of the
//! house that no compiler checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The import order: a module imports from lower levels only, and never from its own.
const LEVELS: [(&str, u32); 22] = [
    ("error", 0),
    ("random", 5),
    ("nbest", 10),
    ("lines", 10),
    ("faults", 10),
    ("whole", 15),
    ("formats", 20),
    ("tokens", 30),
    ("trie", 30),
    ("lm", 40),
    ("combine", 50),
    ("consensus", 55), // what the stream writes and `eval` judges
    ("rescorer", 60),
    ("config", 65), // opens what a rescorer is built from
    ("pool", 70),
    ("stream", 80),
    ("eval", 90),
    ("cli", 100),
    ("capi", 100),
    ("python", 100),
    ("lib", 110),
    ("main", 110),
];

/// Where the levels alone say too little: these modules import from nothing but these.
const ONLY: [(&str, &[&str]); 3] = [
    ("tokens", &["error", "faults", "nbest"]),
    ("lm", &["error", "faults", "nbest", "random", "tokens", "trie", "whole"]),
    // Knows nothing of speech.
    ("pool", &["error"]),
];

/// Files that may contain `unsafe`.
const UNSAFE: [&str; 8] = [
    "src/lm/bytes.rs",
    "src/lm/onnx/product/tile.rs",
    "src/lm/onnx/product/dots.rs",
    "src/lm/onnx/product/reduced/mod.rs",
    "src/lm/onnx/product/reduced/int8.rs",
    "src/lm/onnx/product/reduced/bf16.rs",
    "src/lm/prefetch.rs",
    "src/cli/load.rs",
];

/// What library code does not do: it never prints, never exits, never panics on purpose.
const FORBIDDEN: [&str; 12] = [
    "println!",
    "eprintln!",
    "print!",
    "eprint!",
    "dbg!",
    "process::exit",
    "panic!",
    "todo!",
    "unimplemented!",
    "unreachable!",
    ".unwrap()",
    ".expect(",
];

/// Exceptions: file, call, and why it is right there.
const ALLOWED: [(&str, &str, &str); 0] = [];

const MOST_LINES: usize = 700;
const MOST_CRATES: usize = 110;

#[test]
fn imports_go_down_the_list_only() {
    let mut faults = Vec::new();
    let names = reexports(&code("src/lib.rs"));
    for file in library() {
        faults.extend(violations(&file, &code(&file), &names));
    }
    assert!(faults.is_empty(), "{}", report(&faults));
}

/// The test above finds what it is there for.
#[test]
fn a_violation_is_found() {
    let names = reexports("pub use error::{Error, Result}; pub use rescorer::{Builder, Rescorer};");
    assert_eq!(names.len(), 4);
    let found = |file: &str, text: &str| violations(file, &without_tests(&blank(text)), &names);
    let lines = |file: &str, text: &str| -> Vec<String> {
        found(file, text).iter().map(|fault| fault.split(' ').next().unwrap_or("").to_owned()).collect()
    };
    let text =
        "use crate::{Error, lm::{Job, Slot},\n  stream::Event};\n// crate::cli\nfn f() { crate::eval::x(); }";
    assert_eq!(lines("src/rescorer/x.rs", text), ["src/rescorer/x.rs:2:", "src/rescorer/x.rs:4:"]);
    // Through a name of the crate's root, and through `super`.
    assert_eq!(lines("src/tokens/x.rs", "\nuse crate::Rescorer;"), ["src/tokens/x.rs:2:"]);
    assert_eq!(lines("src/pool/x.rs", "use super::super::nbest::Name;"), ["src/pool/x.rs:1:"]);
    assert_eq!(lines("src/trie.rs", "use super::{Error, tokens};"), ["src/trie.rs:1:"]);
    assert_eq!(lines("src/trie.rs", "use crate::*;"), ["src/trie.rs:1:"]);
    // Siblings, and what only a list forbids.
    assert_eq!(lines("src/trie.rs", "use crate::tokens::Vocab;").len(), 1);
    assert_eq!(lines("src/tokens/mod.rs", "use crate::formats::jsonl;").len(), 1);
    assert_eq!(lines("src/nowhere.rs", "use crate::Error;"), ["src/nowhere.rs:"]);
    // What is right.
    let text = "use crate::{Error, lm::onnx as o};\nuse super::flight;\nlet s = \"crate::cli\"; let c = '\"';\n\
        /* crate::cli /* crate::cli */ crate::cli */ fn f<'a>(x: &'a str) {}\n\
        #[cfg(test)]\nmod tests { use crate::cli::X; fn g() { {} } }\npub(crate) fn h() { r#\"crate::cli\"#; }";
    assert_eq!(found("src/rescorer/x.rs", text), [""; 0]);
    assert_eq!(found("src/rescorer/x.rs", &format!("{text}\nuse crate::cli;")).len(), 1);
}

#[test]
fn every_module_has_a_level() {
    let text = code("src/lib.rs");
    let modules: Vec<&str> = text.lines().filter_map(module).collect();
    assert!(modules.len() > 10, "no modules found in src/lib.rs");
    for name in modules {
        assert!(level(name).is_some(), "module {name} of src/lib.rs has no level in src/tests/layers.rs");
    }
    for word in ["fn ", "impl ", "struct ", "enum ", "trait ", "macro_rules"] {
        assert!(!text.contains(word), "src/lib.rs is prose and re-exports; it contains {word:?}");
    }
}

#[test]
fn the_library_never_prints_exits_or_panics_on_purpose() {
    let mut faults = Vec::new();
    let mut used = BTreeSet::new();
    for file in library().into_iter().filter(|file| !file.starts_with("src/cli/")) {
        for (number, line) in (1..).zip(code(&file).lines()) {
            for call in FORBIDDEN.into_iter().filter(|call| calls(line, call)) {
                let excuse = ALLOWED.iter().find(|(path, allowed, _)| *path == file && *allowed == call);
                match excuse {
                    Some(excuse) => drop(used.insert(excuse)),
                    None => faults.push(format!("{file}:{number}: {call}")),
                }
            }
        }
    }
    let unused = ALLOWED.iter().filter(|excuse| !used.contains(excuse));
    faults.extend(unused.map(|(file, call, _)| format!("{file}: {call} is allowed and does not occur")));
    assert!(faults.is_empty(), "{}", report(&faults));
    assert!(calls("  x.unwrap()", ".unwrap()") && calls("{ panic!(", "panic!"));
    assert!(!calls("eprintln!(", "println!") && !calls("x.unwrap_or(1)", ".unwrap()"));
}

#[test]
fn unsafe_stands_only_where_it_may() {
    let unsafe_lines = |file: String| {
        let text = code(&file);
        let found = (1..).zip(text.lines()).filter(|(_, line)| word(line, "unsafe").is_some());
        let found: Vec<String> = found.map(|(number, _)| format!("{file}:{number}")).collect();
        if UNSAFE.contains(&&*file) { Vec::new() } else { found }
    };
    let faults: Vec<String> = library().into_iter().flat_map(unsafe_lines).collect();
    assert!(faults.is_empty(), "{}", report(&faults));
    assert!(word("unsafe { x }", "unsafe").is_some() && word("unsafe_code", "unsafe").is_none());
}

#[test]
fn names_have_no_get() {
    let getters = |file: String| {
        let text = code(&file);
        let lines = (1..).zip(text.lines()).filter(|(_, line)| line.contains("fn get_"));
        lines.map(|(number, line)| format!("{file}:{number}: {}", line.trim())).collect::<Vec<_>>()
    };
    let faults: Vec<String> = library().into_iter().flat_map(getters).collect();
    assert!(faults.is_empty(), "{}", report(&faults));
}

#[test]
fn files_are_short() {
    let long = |file: String| {
        let lines = read(&file).lines().count();
        (lines > MOST_LINES).then(|| format!("{file}: {lines} lines, over {MOST_LINES}"))
    };
    let faults: Vec<String> = sources("src").into_iter().filter_map(long).collect();
    assert!(faults.is_empty(), "{}", report(&faults));
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    // Put together here, or this file would name them.
    let places = ["home", "root", "work", "Users"].map(|folder| format!("/{folder}/"));
    let files = tracked();
    assert!(files.len() > 50, "only {} files found", files.len());
    let mut faults = Vec::new();
    for file in files {
        let Ok(bytes) = std::fs::read(root().join(&file)) else { continue };
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        if text.contains('\0') {
            continue;
        }
        for (number, line) in (1..).zip(text.lines()) {
            // A place is written on its own, not as a part of a longer path or an address.
            let named =
                |place: &String| line.match_indices(place.as_str()).any(|(at, _)| stands_alone(line, at));
            if let Some(place) = places.iter().find(|place| named(place)) {
                faults.push(format!("{file}:{number}: {place}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", report(&faults));
    assert!(stands_alone("cd /x", 3) && stands_alone("\"/x", 1) && !stands_alone("a.org/x", 5));
}

#[test]
fn the_default_build_has_few_crates() {
    let arguments = "tree --locked --offline --edges normal,build --prefix none --format {p}";
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo).args(arguments.split(' ')).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    // "name v1.2.3", then perhaps "(proc-macro)" and "(*)".
    let crates: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?))
        })
        .filter(|(name, _)| *name != "secondpass")
        .collect();
    assert!(crates.len() > 20, "cargo tree printed {text:?}");
    assert!(crates.len() <= MOST_CRATES, "{} crates, over {MOST_CRATES}", crates.len());
}

/// What is wrong with the imports of one file, whose comments, literals and tests are blank.
fn violations(file: &str, text: &str, names: &BTreeMap<String, String>) -> Vec<String> {
    let path = modules(file);
    let own = path.first().map_or("lib", String::as_str);
    let Some(own_level) = level(own) else { return vec![format!("{file}: module {own} has no level")] };
    let mut faults = Vec::new();
    for (at, name) in imports(text, path.len()) {
        let line = text[..at].matches('\n').count() + 1;
        let target = names.get(&name).map_or(&*name, String::as_str);
        if target == own || own == "lib" {
            continue;
        }
        let only = ONLY.iter().find(|(module, _)| *module == own).map(|(_, only)| only);
        match level(target) {
            None => faults.push(format!("{file}:{line}: `crate::{name}` is no known module or re-export")),
            Some(level) if level >= own_level => {
                faults
                    .push(format!("{file}:{line}: {own} imports {target} (`{name}`), which is not below it"));
            }
            Some(_) if only.is_some_and(|only| !only.contains(&target)) => {
                faults.push(format!(
                    "{file}:{line}: {own} imports {target} (`{name}`), which it must not know"
                ));
            }
            Some(_) => {}
        }
    }
    faults
}

/// Every name of the crate's root that the text of a module at this depth uses, and where.
fn imports(text: &str, depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for root in ["crate::", "secondpass::"] {
        for (at, _) in text.match_indices(root).filter(|&(at, _)| begins_word(text, at)) {
            heads(text, at + root.len(), &mut found);
        }
    }
    let mut after = 0;
    for (at, _) in text.match_indices("super::").filter(|&(at, _)| begins_word(text, at)) {
        if at < after {
            continue;
        }
        let mut end = at;
        while text[end..].starts_with("super::") {
            end += "super::".len();
        }
        after = end;
        if (end - at) / "super::".len() >= depth {
            heads(text, end, &mut found);
        }
    }
    found.sort();
    found
}

/// The first names of a path, or of each path in braces, that starts at `at`.
fn heads(text: &str, at: usize, found: &mut Vec<(usize, String)>) {
    let name = |at: usize| -> String {
        let is_name = |c: &char| c.is_alphanumeric() || *c == '_' || *c == '*';
        text[at..].chars().take_while(is_name).collect()
    };
    if !text[at..].starts_with('{') {
        found.push((at, name(at)));
        return;
    }
    let (mut depth, mut fresh) = (0, false);
    for (offset, c) in text[at..].char_indices() {
        match c {
            '{' => {
                depth += 1;
                fresh = depth == 1;
            }
            '}' if depth == 1 => return,
            '}' => depth -= 1,
            ',' => fresh = depth == 1,
            c if c.is_whitespace() => {}
            _ if fresh && depth == 1 => {
                found.push((at + offset, name(at + offset)));
                fresh = false;
            }
            _ => {}
        }
    }
}

/// Names that the crate's root takes from its modules: name to module.
fn reexports(text: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for (at, _) in text.match_indices("pub use ") {
        let path = &text[at + "pub use ".len()..];
        let path = &path[..path.find(';').unwrap_or(path.len())];
        let Some((module, rest)) = path.split_once("::") else { continue };
        for name in rest.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|name| !name.is_empty()) {
            names.insert(name.to_owned(), module.to_owned());
        }
    }
    names
}

/// The module path of a file: `src/lm/onnx/mod.rs` is `lm`, `onnx`.
fn modules(file: &str) -> Vec<String> {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

fn level(module: &str) -> Option<u32> {
    LEVELS.iter().find(|(name, _)| *name == module).map(|&(_, level)| level)
}

/// The module that a line of `lib.rs` declares.
fn module(line: &str) -> Option<&str> {
    let line = line.trim();
    let line = line.strip_prefix("pub ").unwrap_or(line);
    line.strip_prefix("mod ")?.strip_suffix(';')
}

fn calls(line: &str, call: &str) -> bool {
    line.match_indices(call).any(|(at, _)| call.starts_with('.') || begins_word(line, at))
}

/// Where a word stands on its own.
fn word(line: &str, word: &str) -> Option<usize> {
    let ends = |at: usize| !line[at + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
    line.match_indices(word).map(|(at, _)| at).find(|&at| begins_word(line, at) && ends(at))
}

fn begins_word(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

fn stands_alone(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-/~$}{>*".contains(c))
}

/// The code of a file: comments, literals and tests are blank, lines are where they were.
fn code(file: &str) -> String {
    without_tests(&blank(&read(file)))
}

/// Blanks comments and the inside of literals.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let literal = literal(rest, begins_word(text, text.len() - rest.len()));
        let end = literal.unwrap_or(first.len_utf8());
        for c in rest[..end].chars() {
            match literal {
                Some(_) if c != '\n' => out.push(' '),
                _ => out.push(c),
            }
        }
        rest = &rest[end..];
    }
    out
}

/// The length of the comment or literal that the text begins with, if it does.
fn literal(text: &str, word_start: bool) -> Option<usize> {
    let until =
        |end: &str, from: usize| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        let (mut depth, mut at) = (0, 0);
        while at < text.len() {
            match &text.as_bytes()[at..] {
                [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
                [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
                _ => at += 1,
            }
            if depth == 0 {
                break;
            }
        }
        return Some(at);
    }
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| word_start && text.starts_with(prefix));
    if let Some(prefix) = prefix {
        let hashes = text[prefix.len()..].bytes().take_while(|&byte| byte == b'#').count();
        let open = prefix.len() + hashes;
        if text[open..].starts_with('"') {
            return Some(until(&format!("\"{}", "#".repeat(hashes)), open + 1));
        }
    }
    let escaped = |quote: u8, from: usize| {
        let mut at = from;
        while let Some(&byte) = text.as_bytes().get(at) {
            match byte {
                b'\\' => at += 2,
                byte if byte == quote => return at + 1,
                _ => at += 1,
            }
        }
        text.len()
    };
    if text.starts_with('"') {
        return Some(escaped(b'"', 1));
    }
    let mut chars = text.strip_prefix('\'')?.chars();
    let (first, second) = (chars.next()?, chars.next());
    // Otherwise a lifetime.
    (first == '\\' || second == Some('\'')).then(|| escaped(b'\'', 1))
}

/// Blanks every item under `#[cfg(test)]`.
fn without_tests(text: &str) -> String {
    let mut out = text.to_owned();
    for (at, _) in text.match_indices("#[cfg(test)]") {
        let mut depth = 0;
        let mut end = text.len();
        for (offset, c) in text[at..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && (c == '}' || c == ';') {
                end = at + offset + 1;
                break;
            }
        }
        let blank: String = text[at..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        if blank.len() == end - at {
            out.replace_range(at..end, &blank);
        }
    }
    out
}

/// The library's and the program's files, without tests.
fn library() -> Vec<String> {
    let test =
        |file: &str| file.contains("/tests/") || file.ends_with("/tests.rs") || file == "src/testing.rs";
    let files: Vec<String> = sources("src").into_iter().filter(|file| !test(file)).collect();
    assert!(files.len() > 30, "only {} files found", files.len());
    files
}

fn sources(folder: &str) -> Vec<String> {
    let mut files = Vec::new();
    walk(&root().join(folder), &mut files);
    files.retain(|file| file.ends_with(".rs"));
    files
}

/// What git tracks or would; without git, everything but what is built.
fn tracked() -> Vec<String> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(arguments).current_dir(root()).output();
    if let Ok(output) = listed
        && output.status.success()
    {
        return String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    }
    let mut files = Vec::new();
    walk(&root(), &mut files);
    files
}

fn walk(folder: &Path, files: &mut Vec<String>) {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if !["target", ".git", "__pycache__"].iter().any(|skipped| name == *skipped) {
                walk(&path, files);
            }
        } else if let Ok(path) = path.strip_prefix(root()) {
            files.push(path.to_string_lossy().replace('\\', "/"));
        }
    }
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn report(faults: &[String]) -> String {
    format!("{} found\n{}", faults.len(), faults.join("\n"))
}
