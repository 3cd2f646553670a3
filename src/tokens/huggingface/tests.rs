//! Against what the Python library `tokenizers` says (fixtures/tokens/huggingface).

use super::*;
use proptest::prelude::*;

const FILES: [&str; 10] =
    ["gpt2", "llama3", "llama2", "metaspace", "unigram", "korean", "bert", "cased", "level", "marks"];
/// Outputs of the language models; there may be more than tokens.
const SIZE: usize = 600;

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(crate::testing::fixture("tokens/huggingface").join(name)).unwrap()
}

fn load(name: &str) -> HuggingFace {
    HuggingFace::parse(&fixture(&format!("{name}.json")), SIZE, Specials::default()).unwrap()
}

fn encode(vocab: &HuggingFace, text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    for (at, word) in text.split(' ').enumerate() {
        match at {
            0 => vocab.encode_first(word.as_bytes(), &mut ids),
            _ => vocab.encode(word.as_bytes(), &mut ids),
        };
    }
    ids
}

#[test]
fn as_python_encodes() {
    let expected = String::from_utf8(fixture("expected.tsv")).unwrap();
    let mut wrong = Vec::new();
    for name in FILES {
        let vocab = load(name);
        let mut checked = 0;
        for line in expected.lines().filter(|line| line.split('\t').next() == Some(name)) {
            let [_, text, ids] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
            // White space to a vocabulary that joins it to the next word is none alone either.
            let nothing = name == "unigram" && text.trim().is_empty();
            if !nothing && encode(&vocab, text) != ids {
                wrong.push(format!("{line}\n  here {:?}", encode(&vocab, text)));
            }
            checked += 1;
        }
        assert!(checked > 100, "{checked} lines of {name}");
    }
    assert!(wrong.is_empty(), "{} lines:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn word_starts() {
    for name in FILES {
        let vocab = load(name);
        let ids = encode(&vocab, "walking the garden");
        let starts = ids.iter().filter(|&&id| vocab.starts_word(id)).count();
        assert_eq!(starts, 3 - usize::from(vocab.first_differs()), "{name}");
        assert_eq!(vocab.first_differs(), ["gpt2", "llama3"].contains(&name), "{name}");
        assert!(vocab.words() || !vocab.starts_word(vocab.eos()) && !vocab.starts_word(u32::MAX));
    }
    // Whole words, and whole words but for punctuation.
    assert!(load("level").words() && !load("marks").words());
    assert_eq!(encode(&load("marks"), "don't").len(), 3);
    let bert = load("bert");
    let (sep, unk) = (bert.eos(), bert.unk().unwrap());
    assert_eq!((&*bert.symbol(sep).unwrap(), &*bert.symbol(unk).unwrap()), (&b"[SEP]"[..], &b"[UNK]"[..]));
    assert!(!bert.starts_word(sep));
    let mut ids = Vec::new();
    assert_eq!((bert.encode("x\u{65e5}".as_bytes(), &mut ids), ids.last()), (Known::No, Some(&unk)));
    let vocab = load("gpt2");
    assert_eq!(vocab.symbol(vocab.eos()).unwrap(), b"<|endoftext|>");
    let mut ids = Vec::new();
    assert_eq!(vocab.encode(b"a\xff", &mut ids), Known::No);
    // There is no token for what is too long: it is spelled.
    ids.clear();
    assert_eq!(vocab.encode(&[b'a'; 3000], &mut ids), Known::Yes);
    assert!(ids.len() > 1000);
}

#[test]
fn an_unknown_token_takes_the_mark_in_where_it_has_no_piece() {
    let parse = |piece: &str| {
        let json = format!(
            r#"{{"pre_tokenizer":{{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"}},
            "model":{{"type":"Unigram","unk_id":2,
            "vocab":[["<s>",0],["</s>",0],["<unk>",0],["▁a",-1],["{piece}",-2]]}}}}"#
        );
        HuggingFace::parse(json.as_bytes(), 5, Specials::default()).unwrap()
    };
    let (with, without) = (parse("▁"), parse("b"));
    assert_eq!((encode(&with, "a \u{65e5}"), encode(&without, "a \u{65e5}")), (vec![3, 4, 2], vec![3, 2]));
    assert_eq!((with.starts_word(2), without.starts_word(2)), (false, true));
}

#[test]
fn refusals() {
    let text = String::from_utf8(fixture("gpt2.json")).unwrap();
    let error =
        |text: &str, size| HuggingFace::parse(text.as_bytes(), size, Specials::default()).unwrap_err();
    assert!(error(&text, 200).contains("but the model has 200 tokens"));
    assert!(error("{", 500).contains("no usable tokenizer.json"));
    assert!(
        error(r#"{"model":{"type":"WordChunk","vocab":{"a":0}}}"#, 500)
            .contains("its model is \"WordChunk\"")
    );
    let json = |part: &str, value: &str| {
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json[part] = serde_json::from_str(value).unwrap();
        json.to_string()
    };
    for (part, value, what) in [
        (
            "normalizer",
            r#"{"type":"Precompiled","precompiled_charsmap":"AAAA"}"#,
            "its normalisation table is damaged",
        ),
        (
            "normalizer",
            r#"{"type":"Precompiled","precompiled_charsmap":"A"}"#,
            "its normalisation table is not Base64",
        ),
        ("normalizer", r#"{"type":"Nmt"}"#, "its normalizer is \"Nmt\""),
        (
            "normalizer",
            r#"{"type":"Replace","pattern":{"Regex":"[0-9]"},"content":"0"}"#,
            "the pattern \"[0-9]\"",
        ),
        ("pre_tokenizer", r#"{"type":"UnicodeScripts"}"#, "its pre_tokenizer is \"UnicodeScripts\""),
        ("pre_tokenizer", r#"{"type":"BertPreTokenizer"}"#, "do not mark where words start"),
        ("model", r#"{"type":"Unigram","unk_id":0,"vocab":[["a",0],["b",-1]]}"#, "over bytes"),
        (
            "model",
            r#"{"type":"BPE","end_of_word_suffix":"</w>","vocab":{"a":0},"merges":[]}"#,
            "end_of_word_suffix",
        ),
        (
            "pre_tokenizer",
            r#"{"type":"Split","pattern":{"Regex":"\\d"},"behavior":"Isolated"}"#,
            "the pattern \"\\\\d\"",
        ),
        ("added_tokens", r#"[{"id":0,"content":"hello","special":false}]"#, "have \"hello\""),
        ("model", r#"{"type":"BPE","vocab":{"a":0},"merges":["a b"]}"#, "merge 1"),
        ("model", r#"{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}"#, "two tokens have the id 0"),
    ] {
        let error = error(&json(part, value), 500);
        assert!(error.contains(what), "{part}: {error}");
    }
}

proptest! {
    #[test]
    fn any_bytes(word: Vec<u8>, text in "\\PC{0,20}", pieces in "[a-z<>/\u{2581}\u{120}' |]{1,20}") {
        thread_local!(static ALL: Vec<HuggingFace> = FILES.map(load).into());
        ALL.with(|all| {
            for vocab in all {
                for word in [&word, text.as_bytes(), pieces.as_bytes()] {
                    let mut ids = Vec::new();
                    vocab.encode(word, &mut ids);
                    vocab.encode_first(word, &mut ids);
                    assert!(ids.iter().all(|&id| (id as usize) < vocab.size() && id != vocab.eos() && id != vocab.bos()));
                }
            }
        });
    }
}
