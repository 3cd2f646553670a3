//! The stream over models of a few lines.

use std::io::{self, Read};
use std::sync::Arc;

use super::*;
use crate::lm::ngram::Ngram;
use crate::tokens::TextMap;

fn rescorer() -> Rescorer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.arpa");
    let arpa = "\\data\\\nngram 1=4\n\n\\1-grams:\n-1\t<unk>\n-99\t<s>\n-1\t</s>\n-0.5\ta\n\n\\end\\\n";
    std::fs::write(&path, arpa).unwrap();
    let model = Ngram::open(&path, &Default::default()).unwrap();
    Rescorer::builder().lm("ngram", Arc::new(model), TextMap::default()).weight("ngram", 1.0).build().unwrap()
}

fn run(
    input: Box<dyn Read + Send>,
    earlier: Option<&[u8]>,
    options: &StreamOptions,
    stop: &Stop,
) -> Result<Vec<u8>> {
    let mut output = Vec::new();
    let earlier = earlier.map(|bytes| -> Box<dyn Read + Send> { Box::new(io::Cursor::new(bytes.to_vec())) });
    let (given, names) = (Arc::default(), Default::default());
    let input = Lists::Stream { input, format: None, given, names };
    let streams = Streams { input, earlier, output: &mut output, output_name: "output".into() };
    rescore(&rescorer(), streams, options, stop, &|_| {}).map(|_| output)
}

#[test]
fn resuming_with_carried_states_writes_no_record_twice() {
    let lines = [
        r#"{"id":"1","session":"s","hyps":[{"text":"a","score":-1}]}"#,
        r#"{"id":"2","session":"s","hyps":[{"text":"a","scores":{"ngram":-1}}]}"#,
        r#"{"id":"3","session":"s","hyps":[{"text":"a","score":-1},{"text":"b"}]}"#,
        "no json",
        "",
        r#"{"id":"4","session":"s","hyps":[{"text":"a","score":-1}]}"#,
    ];
    let text = lines.join("\n") + "\n";
    let input = || -> Box<dyn Read + Send> { Box::new(io::Cursor::new(text.clone().into_bytes())) };
    let options = StreamOptions { carry_over: true, ..StreamOptions::default() };
    let whole = run(input(), None, &options, &Stop::default()).unwrap();
    let ends: Vec<usize> =
        whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    assert_eq!(ends.len(), lines.len());
    for (skip, &end) in ends.iter().enumerate() {
        let options = StreamOptions { skip: skip as u64 + 1, ..options.clone() };
        let rest = run(input(), Some(&whole[..end]), &options, &Stop::default()).unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), String::from_utf8_lossy(&whole[end..]), "after {skip}");
    }
}

#[test]
fn an_output_longer_than_its_input_is_another_inputs() {
    let input = Box::new(io::Cursor::new(b"{\"hyps\":[{\"text\":\"a\",\"score\":-1}]}\n".to_vec()));
    let options = StreamOptions { skip: 3, ..StreamOptions::default() };
    let error = run(input, None, &options, &Stop::default()).unwrap_err().to_string();
    assert!(error.contains("3 records, 2 more than the input"), "{error}");
}

#[test]
fn a_stop_inside_a_compressed_input_is_no_error() {
    /// Half a gzip file; a stop is asked for while more is waited for.
    struct Half(io::Cursor<Vec<u8>>, Stop);
    impl Read for Half {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(buffer)?;
            if read == 0 {
                std::thread::sleep(Duration::from_millis(50));
                self.1.ask();
            }
            Ok(read)
        }
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(b"{\"hyps\":[{\"text\":\"a\",\"score\":-1}]}\n{\"hyps\":").unwrap();
    encoder.flush().unwrap();
    let stop = Stop::default();
    let half = Half(io::Cursor::new(encoder.get_ref().clone()), stop.clone());
    let out = run(Box::new(half), None, &StreamOptions::default(), &stop).unwrap();
    assert_eq!(out.iter().filter(|&&byte| byte == b'\n').count(), 1);
}

#[test]
fn a_deadline_leaves_a_model_out_of_the_explanation_too() {
    let input = Box::new(io::Cursor::new(b"{\"hyps\":[{\"text\":\"a\",\"score\":-1}]}\n".to_vec()));
    let deadline = Some(Duration::from_nanos(1));
    let options = StreamOptions { explain: true, deadline, ..StreamOptions::default() };
    let out = run(input, None, &options, &Stop::default()).unwrap();
    let out: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let explain = &out["secondpass"]["explain"]["winner"];
    assert_eq!(out["secondpass"]["status"], "partial");
    assert_eq!(explain, &serde_json::json!({"rank": 1, "score": -1.0, "total": -1.0}));
}
