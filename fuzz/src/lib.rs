//! What the targets share: any bytes are an error or a model that gives numbers.

use std::io::Cursor;

use secondpass::lm::ngram::{Ngram, Options, State};
use secondpass::tokens::Vocab;

/// Opens bytes as a KenLM binary of one type: whatever they begin with, the first 88 bytes and the
/// type are right, so that the rest is looked at.
pub fn kenlm(kind: u32, data: &[u8]) {
    let mut bytes = data.to_vec();
    if bytes.len() > 108 {
        bytes[..PREFIX.len()].copy_from_slice(PREFIX);
        bytes[96..100].copy_from_slice(&kind.to_le_bytes());
        bytes[104..108].copy_from_slice(&u32::from(kind > 1).to_le_bytes());
    }
    any(bytes);
}

/// Opens bytes as a compact file: label, version, size and checksums are right, so that the rest is
/// looked at.
pub fn compact(data: &[u8]) {
    let mut bytes = data.to_vec();
    if bytes.len() >= 64 {
        bytes[..32].copy_from_slice(LABEL);
        bytes[32..36].copy_from_slice(&0x0102_0304u32.to_le_bytes());
        bytes[36] = if bytes[36] == 1 { 1 } else { 2 };
        bytes[37..40].fill(0);
        let size = bytes.len() as u64;
        bytes[40..48].copy_from_slice(&size.to_le_bytes());
        secondpass::lm::ngram::compact::reseal(&mut bytes);
    }
    any(bytes);
}

/// Opens any bytes.
pub fn any(bytes: Vec<u8>) {
    let model = match Ngram::from_reader("fuzz", Cursor::new(bytes), &Options::default()) {
        Ok(model) => model,
        Err(error) => {
            assert!(!error.to_string().contains('\n'));
            return;
        }
    };
    model.verify();
    model.info();
    let words = model.words();
    let few = words.len().min(12) as u32;
    let mut next = State::default();
    for start in [model.begin(), State::default()] {
        for first in 0..few {
            let mut state = start.clone();
            for word in (0..few).map(|at| (at * 5 + first) % few).chain([words.eos(), u32::MAX]) {
                let full = model.full_score(&state, word, &mut next);
                assert!(full.log10 < f32::INFINITY, "{full:?}");
                std::mem::swap(&mut state, &mut next);
            }
        }
    }
    let sentence: Vec<u32> = (0..few).chain((0..few).rev()).collect();
    model.score_batch(&model.begin(), &[&sentence, &[], &sentence[..1]], |_, _, full| {
        assert!(full.log10 < f32::INFINITY);
    });
    words.hash();
    words.word(few);
}

const LABEL: &[u8; 32] = b"secondpass n-gram model\n\0\0\0\0\0\0\0\0";
const PREFIX: &[u8; 88] = b"mmap lm http://kheafield.com/code format version 5\n\0\0\0\0\0\
\0\0\0\0\0\0\x80\x3f\0\0\0\xbf\x01\0\0\0\xff\xff\xff\xff\0\0\0\0\x01\0\0\0\0\0\0\0";
