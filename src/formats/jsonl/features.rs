//! The features of a hypothesis: which key names which, and which of two names counts.

use std::sync::Arc;

use super::names;
use super::read::{MAX_FEATURES, Reader};
use crate::{Error, Name, Result};

/// A key that names a feature.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) key: Box<[u8]>,
    pub(super) name: Name,
    alias: u8,
    /// In `scores` of our own records it is passed over.
    pub(super) ours: bool,
    /// The feature is one that rescoring computes.
    clash: bool,
}

impl Reader {
    /// Where a list speaks of `logit_score` and `lm_score`, as pyctcdecode does, the second is
    /// the sum of both parts: the score.
    pub(super) fn pyctcdecode(&mut self, features: &mut [(Name, f64)]) {
        let named = |feature: &str, alias: u16| {
            let mut all = features.iter().zip(&self.priorities);
            all.position(|((name, _), priority)| &**name == feature && priority / 4 == alias)
        };
        let (Some(_), Some(lm)) = (named("am", 4), named("lm", 1)) else { return };
        let known = self.known(b"score");
        let score = self.known[known].name.clone();
        if !features.iter().any(|(name, _)| *name == score) {
            features[lm].0 = score;
        }
    }

    /// Adds a feature, unless one of a better name has been read: `place` 0 is in `scores`, 1
    /// `feat`, 2 `features`, 3 flat.
    pub(super) fn add(
        &mut self,
        features: &mut Vec<(Name, f64)>,
        known: usize,
        place: u16,
        value: f64,
    ) -> Result<()> {
        let known = &self.known[known];
        if known.clash {
            self.clash.get_or_insert_with(|| known.name.to_string());
        }
        let priority = u16::from(known.alias) * 4 + place;
        if let Some(at) = features.iter().position(|(name, _)| Arc::ptr_eq(name, &known.name)) {
            if self.priorities[at] == priority {
                let key = String::from_utf8_lossy(&known.key);
                return Err(Error::record(format!("two features `{key}` in one hypothesis: keep one")));
            }
            if self.priorities[at] > priority {
                self.priorities[at] = priority;
                features[at].1 = value;
            }
            return Ok(());
        }
        if features.len() >= MAX_FEATURES {
            return Err(Error::record(format!(
                "more than {MAX_FEATURES} features in one hypothesis: drop some"
            )));
        }
        features.push((known.name.clone(), value));
        self.priorities.push(priority);
        Ok(())
    }

    /// The number of a key in `known`.
    pub(super) fn known(&mut self, key: &[u8]) -> usize {
        for guess in [self.last + 1, 0] {
            if self.known.get(guess).is_some_and(|known| &*known.key == key) {
                self.last = guess;
                return guess;
            }
        }
        if let Some(&found) = self.index.get(key) {
            self.last = found;
            return found;
        }
        let (name, alias) = match names::feature(key) {
            Some((name, 0)) => (name.into(), 0),
            // All names of one feature share its allocation: they are compared by address.
            Some((name, alias)) => {
                let first = self.known(name.as_bytes());
                (self.known[first].name.clone(), alias)
            }
            None => (String::from_utf8_lossy(key).into(), 0),
        };
        let clash = self.own.contains(name.as_bytes());
        let ours = key == b"total" || self.own.contains(key);
        self.last = self.known.len();
        self.index.insert(key.into(), self.last);
        self.known.push(Known { key: key.into(), name, alias, ours, clash });
        self.last
    }
}
