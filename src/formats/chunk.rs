//! A piece of the input: what one record was written with.

use std::ops::Range;
use std::sync::Arc;

use super::folder::Folder;
use super::known::Format;
use crate::lines::Ending;

/// The bytes of one record, or of what lies between two.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// Where it begins: its line, or its number in a document or folder, from 1.
    pub number: u64,
    /// Its number among the records of the stream, from 1.
    pub record: u64,
    /// What it was read as.
    pub format: Format,
    /// Its bytes. The ending of the last line is not among them.
    pub bytes: Vec<u8>,
    /// How the last line ended.
    pub ending: Ending,
    /// What is to be done with it.
    pub body: Body,
    /// The id, where something other than the bytes tells.
    pub id: Option<Vec<u8>>,
    /// The reference, likewise.
    pub reference: Option<Vec<u8>>,
    /// The file of a folder that it is all of.
    pub file: Option<String>,
    /// For a folder, the lines that make up the record.
    pub(super) rows: Vec<Row>,
    /// The folder that they come from.
    pub(super) folder: Option<Arc<Folder>>,
}

/// What a chunk is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Body {
    /// A record.
    #[default]
    Record,
    /// Blank lines, or what stands around the records of a document: goes on as it is.
    Between,
    /// A line over the limit, of so many bytes: it was not kept.
    Over(u64),
    /// Lines that go on as they are, for this reason.
    Passed(String),
}

/// One line of a file of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Which of the folder's kinds of file it is from.
    pub kind: usize,
    /// The hypothesis it belongs to, from 1.
    pub place: u32,
    /// Where it lies in the chunk, without its ending.
    pub span: Range<usize>,
}

impl Chunk {
    /// A line of JSON Lines, without its ending.
    pub fn line(bytes: Vec<u8>) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Where it begins, as people say it.
    pub fn place(&self) -> String {
        let what = if self.folder.is_some() || self.file.is_some() || self.format.is_document() {
            "record"
        } else {
            "line"
        };
        format!("{what} {}", self.number)
    }

    /// Whether there is nothing to rescore.
    pub fn is_record(&self) -> bool {
        self.body == Body::Record
    }
}
