//! What a model file holds, by the field numbers of `sentencepiece_model.proto`.

use prost::Message;

#[derive(Message)]
pub(super) struct Proto {
    #[prost(message, repeated, tag = "1")]
    pub pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    pub trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    pub normalizer: Option<Normalizer>,
}

#[derive(Message)]
pub(super) struct Piece {
    // Bytes: a damaged file is to be refused by what it says, not by how it is spelt.
    #[prost(bytes = "vec", optional, tag = "1")]
    pub piece: Option<Vec<u8>>,
    #[prost(float, optional, tag = "2")]
    pub score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    pub kind: Option<i32>,
}

#[derive(Message)]
pub(super) struct Trainer {
    #[prost(int32, optional, tag = "3")]
    pub model_type: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    pub treat_whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    pub byte_fallback: Option<bool>,
}

#[derive(Message)]
pub(super) struct Normalizer {
    #[prost(bytes = "vec", optional, tag = "2")]
    pub precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    pub add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub escape_whitespaces: Option<bool>,
}

/// What a piece is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

impl Piece {
    pub fn text(&self) -> &[u8] {
        self.piece.as_deref().unwrap_or_default()
    }

    pub fn role(&self) -> Option<Kind> {
        Some(match self.kind.unwrap_or(1) {
            1 => Kind::Normal,
            2 => Kind::Unknown,
            3 => Kind::Control,
            4 => Kind::UserDefined,
            5 => Kind::Unused,
            6 => Kind::Byte,
            _ => return None,
        })
    }
}

impl Proto {
    /// Refuses models whose pieces do not mark where words start.
    pub fn refuse(&self) -> Result<(), String> {
        let trainer = self.trainer.as_ref();
        let normalizer = self.normalizer.as_ref();
        if trainer.and_then(|t| t.treat_whitespace_as_suffix) == Some(true) {
            return Err("was trained with treat_whitespace_as_suffix: its pieces mark where words end, \
                        and only models that mark where they start can be used"
                .into());
        }
        for (name, value) in [
            ("add_dummy_prefix", normalizer.and_then(|n| n.add_dummy_prefix)),
            ("escape_whitespaces", normalizer.and_then(|n| n.escape_whitespaces)),
        ] {
            if value == Some(false) {
                return Err(format!(
                    "was trained with {name}=false: its pieces do not mark where words start; train it without that"
                ));
            }
        }
        Ok(())
    }
}
