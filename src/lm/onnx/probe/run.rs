//! How a model is run whose scores and positions are known: whether steps, pasts and whole runs agree, and
//! which tokens begin and end a sentence.

use super::super::signature::{Layout, Run, sidecar_path};
use super::{Trial, apart};

impl Trial<'_> {
    /// Decides how it is run, and holds steps against whole runs.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        let signature = &self.signature;
        let each = matches!(signature.layout, Layout::Each { .. });
        let (length, batch) = (signature.tokens.length, signature.tokens.batch);
        let free = length.is_none_or(|length| length == 1) && batch.is_none();
        let export = "export it with the scores of all positions and free sizes";
        self.signature.run = if !signature.context.is_empty() {
            if !each && signature.layout != Layout::Sentence {
                return Err(format!("a conditional decoder that gives one position at a time; {export}"));
            }
            Run::Sentences
        } else if signature.grows() {
            // What keeps the past in states can go on from them, a token at a time.
            if each && length.is_none() && (batch.is_some() || !self.continues()) {
                Run::Sentences
            } else {
                Run::Prefixes
            }
        } else if !signature.states.is_empty() {
            match (free, each) {
                (true, _) => Run::Steps,
                (false, true) => Run::Sentences,
                (false, false) => return Err(format!("has states, fixed sizes and few positions; {export}")),
            }
        } else {
            match (signature.layout, length) {
                (Layout::Each { .. }, Some(1)) => Run::Window(1),
                (Layout::Each { .. } | Layout::Sentence | Layout::Targets { .. }, _) => Run::Sentences,
                (Layout::Last, Some(length)) => Run::Window(length),
                (Layout::Last, None) => Run::Prefixes,
                (Layout::First, _) => {
                    return Err(format!("gives the first position only and has no states; {export}"));
                }
            }
        };
        if self.signature.run == Run::Steps && self.signature.tokens.length.is_none() {
            self.steps()?;
        }
        if self.signature.run == Run::Prefixes && self.signature.grows() {
            match each && self.signature.tokens.length.is_none() {
                true => self.signature.found(
                    "tried",
                    "going on from the past agrees with whole runs",
                    "two tokens",
                ),
                false => self.growth()?,
            }
        }
        if self.signature.context.is_empty() && self.signature.run != Run::Steps && each {
            self.signature.found("tried", "causal", "a token changes nothing before it");
        }
        self.specials()
    }

    /// Two steps of one token must give what one run of two gives.
    fn steps(&mut self) -> Result<(), String> {
        if self.agree()? {
            self.signature.found("tried", "steps agree with whole runs", "two tokens");
            return Ok(());
        }
        // States of one shape may have been paired the wrong way round.
        if let [first, second] = &mut self.signature.states[..]
            && self.draft.sidecar.state.is_empty()
            && !self.draft.own
            && first.dims == second.dims
        {
            std::mem::swap(&mut first.output, &mut second.output);
            if self.agree()? {
                self.signature.found("tried", "steps agree once the states are exchanged", "two tokens");
                return Ok(());
            }
        }
        Err("token by token it gives other scores than in one run; its states or length are not what they should be, \
             export it again"
            .to_owned())
    }

    /// Whether a token after a past that is in states scores as it does in one run. Models with a switch
    /// for it, which is left off, look at no past.
    fn continues(&mut self) -> bool {
        let signature = self.signature.clone();
        // States that hold more than the past, or less, are none to go on from.
        let all = signature.states.iter().all(|state| state.grows.is_some());
        let agrees = all && self.agree().unwrap_or(false);
        self.signature = signature;
        agrees
    }

    fn agree(&mut self) -> Result<bool, String> {
        let failed = |what| format!("it failed when it was tried on four tokens: {what}");
        let tokens: Vec<i64> = (1..5).map(|number| self.token(number)).collect();
        let zeros = self.zeros(2);
        let whole = self.run(&tokens, 2, 2, &zeros, 0).map_err(failed)?;
        let (first, second) = ([tokens[0], tokens[2]], [tokens[1], tokens[3]]);
        let one = self.run(&first, 2, 1, &zeros, 0).map_err(failed)?;
        let past = usize::from(self.signature.grows());
        let two = self.run(&second, 2, 1, &one.states, past).map_err(failed)?;
        let near = match (self.facts.dynamic, self.facts.graph.half) {
            (true, _) => return Ok(!self.signature.grows()),
            (false, true) => 1e-2,
            (false, false) => 1e-4,
        };
        let far =
            |a: &[f32], b: &[f32]| a.len() != b.len() || a.iter().zip(b).any(|(a, b)| apart(*a, *b, near));
        let states = || whole.states.iter().zip(&two.states).any(|(a, b)| far(a, b));
        Ok(match self.signature.layout {
            Layout::Each { .. } => !(0..2).any(|row| {
                far(self.of(&whole, 2, 2, row, 0), self.of(&one, 2, 1, row, 0))
                    || far(self.of(&whole, 2, 2, row, 1), self.of(&two, 2, 1, row, 0))
            }),
            Layout::Last => {
                !(0..2).any(|row| far(self.of(&whole, 2, 2, row, 0), self.of(&two, 2, 1, row, 0)))
            }
            // Their scores are of other positions or targets; the states are not.
            Layout::First | Layout::Sentence | Layout::Targets { .. } => !states(),
        })
    }

    /// Whether a growing state goes with the whole history or with its last token.
    fn growth(&mut self) -> Result<(), String> {
        let tokens: Vec<i64> = (1..3).map(|number| self.token(number)).collect();
        let nothing = self.zeros(1);
        let one = self
            .run(&tokens[..1], 1, 1, &nothing, 0)
            .map_err(|what| format!("it failed on one token: {what}"))?;
        if self.signature.tokens.length.is_none() && self.run(&tokens, 1, 2, &one.states, 1).is_ok() {
            self.signature.found("tried", "states grow beside the whole history", "two tokens");
            return Ok(());
        }
        self.run(&tokens[1..], 1, 1, &one.states, 1)
            .map_err(|what| format!("it failed on a second token: {what}; export it again"))?;
        self.signature.tokens.length = Some(1);
        self.signature.found("tried", "states take the place of the history", "two tokens");
        Ok(())
    }

    fn specials(&mut self) -> Result<(), String> {
        let specials = &self.draft.specials;
        let size = self.signature.vocab_size;
        let last = specials.last.then(|| (size as u32 - 1, "custom of the toolkit"));
        let inside = |name: &str, found: Option<(u32, &'static str)>| match found {
            Some((id, source)) if id as usize >= size => Err(format!(
                "{source} says that {name} is {id}, outside the vocabulary of {size}; correct {name} in a file beside it"
            )),
            found => Ok(found),
        };
        let bos = inside("bos", specials.bos.or(last))?;
        let eos = inside("eos", specials.eos.or(last))?;
        let unk = inside("unk", specials.unk)?;
        let (Some(bos), Some(eos)) = (bos, eos) else {
            return Err(format!(
                "which tokens start and end a sentence is not said (bos_id is missing, and no vocabulary file names \
                 them); write `bos = ..` and `eos = ..` in {}",
                sidecar_path(&self.facts.graph.path).display()
            ));
        };
        let signature = &mut self.signature;
        (signature.bos, signature.eos, signature.unk) = (bos.0, eos.0, unk.map(|unk| unk.0));
        signature.found(
            "<s>, </s>",
            format!("{}, {}", bos.0, eos.0),
            if bos.1 == eos.1 { bos.1.to_owned() } else { format!("{}, {}", bos.1, eos.1) },
        );
        if let Some((named, source)) = specials.vocab_size {
            signature.found("vocabulary", format!("{named} tokens"), source);
        }
        signature.tokenizer = specials.tokenizer.clone().unwrap_or_else(|| "words".to_owned());
        // What Keras fills up in front with; others are trained with their start token there.
        if matches!(signature.run, Run::Window(_)) && signature.pad.is_none() {
            let keras = signature.family.starts_with("Keras") || !signature.tokens.ids.dtype.is_integer();
            signature.pad = Some(if keras { 0 } else { signature.bos });
            let value = signature.pad.unwrap_or(0).to_string();
            signature.found(
                "fills up with",
                value,
                if keras { "custom of Keras" } else { "the start token" },
            );
        }
        if self.draft.own {
            signature.cell = self.facts.graph.metadata.get("secondpass.cell").cloned();
        }
        Ok(())
    }
}
