//! The header of KenLM's binary files, format version 5.

use super::raw::{f32_at, u32_at, u64_at};
use crate::lm::ngram::arpa::MAX_ORDER;

/// How a file holds its n-grams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Hash tables with linear probing.
    Probing,
    /// The same, with rest costs for decoders that build sentences from the middle.
    RestProbing,
    /// A suffix trie, bit-packed.
    Trie,
    /// A trie with quantised values.
    QuantTrie,
    /// A trie with compressed pointers.
    ArrayTrie,
    /// A trie with quantised values and compressed pointers.
    QuantArrayTrie,
}

/// What a file says about itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Size of hash tables over number of entries; tries carry it without using it.
    pub(crate) multiplier: f32,
    /// Whether the words' spellings follow the n-grams.
    pub(crate) spelled: bool,
    /// Number of n-grams for each order from 1.
    pub(crate) counts: Vec<u64>,
}

impl Kind {
    /// Whether the n-grams are in a trie.
    pub(crate) fn is_trie(self) -> bool {
        !matches!(self, Self::Probing | Self::RestProbing)
    }

    /// Whether values are indices into a table.
    pub(crate) fn quantised(self) -> bool {
        matches!(self, Self::QuantTrie | Self::QuantArrayTrie)
    }

    /// Whether pointers are compressed.
    pub(crate) fn array(self) -> bool {
        matches!(self, Self::ArrayTrie | Self::QuantArrayTrie)
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Probing => "probing",
            Self::RestProbing => "probing with rest costs",
            Self::Trie => "trie",
            Self::QuantTrie => "quantised trie",
            Self::ArrayTrie => "array trie",
            Self::QuantArrayTrie => "quantised array trie",
        }
    }

    /// The trie with or without these two.
    pub(crate) fn trie(quantised: bool, array: bool) -> Self {
        match (quantised, array) {
            (false, false) => Self::Trie,
            (true, false) => Self::QuantTrie,
            (false, true) => Self::ArrayTrie,
            (true, true) => Self::QuantArrayTrie,
        }
    }

    fn search_version(self) -> u32 {
        u32::from(self.is_trie())
    }
}

impl Header {
    /// Reads and checks the header; `bytes` is the whole file.
    ///
    /// # Errors
    /// What is wrong and what to do about it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        check_magic(bytes)?;
        let order = usize::from(bytes[ORDER_AT]);
        if !(2..=MAX_ORDER).contains(&order) {
            return Err(damaged(format!("the order is {order}, and can be 2 to {MAX_ORDER}")));
        }
        if bytes.len() < Self::size(order) {
            return Err(format!("is cut short inside its header; {AGAIN}"));
        }
        let code = u32_at(bytes, KIND_AT);
        let Some(&kind) = KINDS.get(code as usize) else {
            return Err(format!(
                "is of model type {code}, which is not known; types 0 to 5 are: build it again from the ARPA file"
            ));
        };
        let version = u32_at(bytes, SEARCH_VERSION_AT);
        if version != kind.search_version() {
            return Err(format!(
                "has version {version} of the {} search structure, expected {}; build it again from the ARPA file",
                kind.name(),
                kind.search_version()
            ));
        }
        let multiplier = f32_at(bytes, MULTIPLIER_AT);
        let sound = multiplier >= 1.0 && multiplier.is_finite();
        if !sound && !kind.is_trie() {
            return Err(damaged(format!("the probing multiplier is {multiplier}, and must be 1 or more")));
        }
        let counts: Vec<u64> = (0..order).map(|n| u64_at(bytes, COUNTS_AT + 8 * n)).collect();
        // A record takes some bits at least; so sums and products of these stay small.
        let most = (bytes.len() as u64).saturating_mul(8);
        for (&count, n) in counts.iter().zip(1..) {
            if count > most {
                return Err(damaged(format!("the header claims {count} {n}-grams in {} bytes", bytes.len())));
            }
        }
        if !(1..u64::from(u32::MAX) - 1).contains(&counts[0]) {
            return Err(damaged(format!("the header claims {} words", counts[0])));
        }
        Ok(Self { kind, multiplier, spelled: bytes[SPELLED_AT] != 0, counts })
    }

    /// The header as a file has it.
    pub(crate) fn write(&self) -> Vec<u8> {
        let order = self.counts.len();
        let mut bytes = vec![0; Self::size(order)];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, MAGIC);
        put(MAGIC.len(), &TEST_VALUES);
        put(ORDER_AT, &[order as u8]);
        put(MULTIPLIER_AT, &self.multiplier.to_le_bytes());
        let code = KINDS.iter().position(|&kind| kind == self.kind).unwrap_or(0) as u32;
        put(KIND_AT, &code.to_le_bytes());
        put(SPELLED_AT, &[u8::from(self.spelled)]);
        put(SEARCH_VERSION_AT, &self.kind.search_version().to_le_bytes());
        for (n, count) in self.counts.iter().enumerate() {
            put(COUNTS_AT + 8 * n, &count.to_le_bytes());
        }
        bytes
    }

    /// What stands in place of a header of this order while the rest is being written.
    pub(crate) fn incomplete(order: usize) -> Vec<u8> {
        let mut bytes = INCOMPLETE.to_vec();
        bytes.resize(Self::size(order), 0);
        bytes
    }

    /// Bytes that the header of a model of this order takes.
    pub(crate) fn size(order: usize) -> usize {
        (COUNTS_AT + 8 * order).next_multiple_of(8)
    }
}

/// Whether a file that begins like this is one of KenLM's, in any version or state.
pub(crate) fn is_kenlm(head: &[u8]) -> bool {
    head.starts_with(FAMILY)
}

/// A message about a header or structure that contradicts itself.
pub(crate) fn damaged(what: impl std::fmt::Display) -> String {
    format!("is damaged: {what}; {AGAIN}")
}

fn check_magic(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(INCOMPLETE) {
        return Err("was never finished: the program that built it was stopped; build it again".into());
    }
    let known = bytes.starts_with(MAGIC);
    if !known && let Some(rest) = bytes.strip_prefix(VERSIONED) {
        let version: String =
            rest.iter().take(10).take_while(|b| b.is_ascii_digit()).map(|&b| char::from(b)).collect();
        if version != "5" && !version.is_empty() {
            return Err(format!(
                "is a KenLM binary of format version {version}, and version 5 is read; build it again from the ARPA file"
            ));
        }
    }
    if bytes.len() <= ORDER_AT {
        return Err(format!("is cut short inside its header; {AGAIN}"));
    }
    if known && bytes[MAGIC.len()..ORDER_AT] == BIG_ENDIAN_VALUES {
        return Err(
            "is a KenLM binary of a big-endian machine, and little-endian ones are read; build it again from the ARPA file on a machine like this one"
                .into(),
        );
    }
    if !known || bytes[MAGIC.len()..ORDER_AT] != TEST_VALUES {
        return Err(
            "is a KenLM binary of another kind of machine (of 32 bits?), or damaged; build it again from the ARPA file"
                .into(),
        );
    }
    Ok(())
}

/// In the order of their numbers in the file.
const KINDS: [Kind; 6] =
    [Kind::Probing, Kind::RestProbing, Kind::Trie, Kind::QuantTrie, Kind::ArrayTrie, Kind::QuantArrayTrie];

const FAMILY: &[u8] = b"mmap lm http://kheafield.com/code";
const VERSIONED: &[u8] = b"mmap lm http://kheafield.com/code format version ";
const INCOMPLETE: &[u8] = b"mmap lm http://kheafield.com/code incomplete\n";
/// With the padding up to the test values.
const MAGIC: &[u8] = b"mmap lm http://kheafield.com/code format version 5\n\0\0\0\0\0";
/// 0.0, 1.0, -0.5, 1, 2^32 - 1, 0 in 32 bits each, 1 in 64: other machines write them otherwise.
const TEST_VALUES: [u8; 32] = [
    0, 0, 0, 0, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0, 0, 0,
    0, 0, 0, 0,
];
/// The same where the highest byte comes first.
const BIG_ENDIAN_VALUES: [u8; 32] = [
    0, 0, 0, 0, 0x3f, 0x80, 0, 0, 0xbf, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 1,
];
const ORDER_AT: usize = 88;
const MULTIPLIER_AT: usize = 92;
const KIND_AT: usize = 96;
const SPELLED_AT: usize = 100;
const SEARCH_VERSION_AT: usize = 104;
const COUNTS_AT: usize = 108;
const AGAIN: &str = "copy or build it again";

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header { kind: Kind::Trie, multiplier: 1.5, spelled: true, counts: vec![5, 6, 7] }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (kind, order) in KINDS.into_iter().zip([2, 3, 4, 5, 6, 7]) {
            let counts: Vec<u64> = (1..=order).collect();
            let header = Header { kind, counts, ..header() };
            let mut bytes = header.write();
            // The sizes of orders 2 to 6 are the format's: 128, 136, 144, 152, 160.
            assert_eq!(bytes.len() as u64, 112 + 8 * order);
            bytes.resize(300, 0);
            assert_eq!(Header::read(&bytes).unwrap(), header);
        }
    }

    #[test]
    fn errors_say_what_was_found_and_what_to_do() {
        let told = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = header().write();
            bytes.resize(300, 0);
            change(&mut bytes);
            Header::read(&bytes).unwrap_err()
        };
        let set = |at: usize, value: &'static [u8]| {
            move |bytes: &mut Vec<u8>| {
                bytes[at..at + value.len()].copy_from_slice(value);
            }
        };
        for (text, expected) in [
            (told(&set(49, b"4")), "format version 4, and version 5 is read; build it again"),
            (told(&set(60, b"\x3f\x80\0\0")), "another kind of machine"),
            (told(&set(0, INCOMPLETE)), "was never finished"),
            (told(&set(88, b"\0")), "the order is 0, and can be 2 to 32"),
            (told(&set(88, b"\x21")), "the order is 33"),
            (told(&set(96, b"\x06")), "model type 6, which is not known"),
            (told(&set(104, b"\0")), "version 0 of the trie search structure, expected 1"),
            (told(&set(116, b"\xff\xff\xff\xff")), "claims 4294967295 2-grams in 300 bytes"),
            (told(&set(108, b"\0")), "claims 0 words"),
            (told(&|bytes| bytes.truncate(88)), "cut short inside its header"),
            (told(&|bytes| bytes.truncate(130)), "cut short inside its header"),
        ] {
            assert!(text.contains(expected), "{text}");
        }
        let mut bytes = Header { kind: Kind::Probing, multiplier: f32::NAN, ..header() }.write();
        bytes.resize(300, 0);
        assert!(Header::read(&bytes).unwrap_err().contains("multiplier is NaN"));
    }
}
