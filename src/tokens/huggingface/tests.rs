//! Against what the Python library `tokenizers` says (fixtures/tokens/huggingface).

use super::*;
use proptest::prelude::*;

const FILES: [(&str, usize); 4] = [("gpt2", 500), ("llama3", 500), ("llama2", 500), ("metaspace", 500)];

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(crate::testing::fixture("tokens/huggingface").join(name)).unwrap()
}

fn load(name: &str, size: usize) -> HuggingFace {
    HuggingFace::parse(&fixture(&format!("{name}.json")), size, Specials::default()).unwrap()
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
    for (name, size) in FILES {
        let vocab = load(name, size);
        let mut checked = 0;
        for line in expected.lines().filter(|line| line.split('\t').next() == Some(name)) {
            let [_, text, ids] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(encode(&vocab, text), ids, "{line}");
            checked += 1;
        }
        assert!(checked > 100, "{checked} lines of {name}");
    }
}

#[test]
fn word_starts() {
    for (name, size) in FILES {
        let vocab = load(name, size);
        let ids = encode(&vocab, "walking the garden");
        let starts = ids.iter().filter(|&&id| vocab.starts_word(id)).count();
        assert_eq!(starts, 3 - usize::from(vocab.first_differs()), "{name}");
        assert_eq!(vocab.first_differs(), ["gpt2", "llama3"].contains(&name), "{name}");
        assert!(!vocab.starts_word(vocab.eos()) && !vocab.starts_word(u32::MAX));
    }
    let vocab = load("gpt2", 500);
    assert_eq!(vocab.symbol(vocab.eos()).unwrap(), b"<|endoftext|>");
    let mut ids = Vec::new();
    assert_eq!(vocab.encode(b"a\xff", &mut ids), Known::No);
    // There is no token for what is too long: it is spelled.
    ids.clear();
    assert_eq!(vocab.encode(&[b'a'; 3000], &mut ids), Known::Yes);
    assert!(ids.len() > 1000);
}

#[test]
fn refusals() {
    let text = String::from_utf8(fixture("gpt2.json")).unwrap();
    let error =
        |text: &str, size| HuggingFace::parse(text.as_bytes(), size, Specials::default()).unwrap_err();
    assert!(error(&text, 200).contains("but the model has 200 tokens"));
    assert!(error("{", 500).contains("no usable tokenizer.json"));
    assert!(
        error(r#"{"model":{"type":"WordPiece","vocab":{}}}"#, 500).contains("its model is \"WordPiece\"")
    );
    let json = |part: &str, value: &str| {
        let mut json: Value = serde_json::from_str(&text).unwrap();
        json[part] = serde_json::from_str(value).unwrap();
        json.to_string()
    };
    for (part, value, what) in [
        (
            "normalizer",
            r#"{"type":"Precompiled","precompiled_charsmap":""}"#,
            "its normalizer is \"Precompiled\"",
        ),
        ("pre_tokenizer", r#"{"type":"BertPreTokenizer"}"#, "its pre_tokenizer is \"BertPreTokenizer\""),
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
        thread_local!(static ALL: Vec<HuggingFace> = FILES.iter().map(|&(name, size)| load(name, size)).collect());
        ALL.with(|all| {
            for vocab in all {
                for word in [&word, text.as_bytes(), pieces.as_bytes()] {
                    let mut ids = Vec::new();
                    vocab.encode(word, &mut ids);
                    vocab.encode_first(word, &mut ids);
                    assert!(ids.iter().all(|&id| (id as usize) < vocab.size() && id != vocab.eos()));
                }
            }
        });
    }
}
