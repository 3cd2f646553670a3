//! The flags about the winner: that it alone is wanted, and that it is confirmed.

use crate::config::Config;
use crate::rescorer::BestOnly;
use crate::{Error, Result};

/// Flags about the winner.
#[derive(clap::Args, Debug, Clone)]
pub struct BestArgs {
    /// Only the winner is wanted: leave out what cannot change it
    ///
    /// Hypotheses are scored in the order of their chance to win, and given up when they have none. These
    /// stand behind the winner in first-pass order, without a total.
    #[arg(long, overrides_with = "no_best_only", help_heading = "Scoring")]
    pub best_only: bool,
    #[arg(long, hide = true)]
    no_best_only: bool,
    /// With --best-only: share of lists whose winner may differ from the one that all scores would give
    ///
    /// 0 is certain. Otherwise hypotheses are given up that are unlikely to win; how far that can be trusted
    /// is said by the file that `tune --write` wrote, for its models and lists of the kind it saw.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = "Scoring")]
    pub risk: f64,
    /// With --best-only: histories of a list that are run side by side (0: as suits --risk)
    ///
    /// Small steps are slow, and large ones run what would not have been needed. Where the winner is certain it
    /// is the same with any; what is known of a risk holds for the number that it was learnt with.
    #[arg(long, value_name = "NUM", default_value_t = 0, hide_short_help = true, help_heading = "Limits")]
    pub width: usize,
    /// With --precision or --output-rank: score hypotheses within NUM of the best total again in f32 (0: none)
    ///
    /// Whoever wins against a rival then has an exact total; all others keep theirs. As the configuration
    /// says, if not given: `tune --precision BITS --write` finds the margin, for its models, weights and
    /// bits.
    #[arg(long, value_name = "NUM", help_heading = "Scoring")]
    pub confirm: Option<f64>,
}

impl BestArgs {
    /// The configuration with the margin of --confirm.
    ///
    /// # Errors
    /// If there is nothing to confirm, or the margin is no distance.
    pub fn confirmed(&self, mut config: Config) -> Result<Config> {
        let inexact = config.in_f32().is_some();
        match self.confirm {
            Some(margin) if !(margin >= 0.0 && margin.is_finite()) => {
                return Err(Error::config("--confirm: expected a distance of totals, from 0 on"));
            }
            Some(margin) if margin > 0.0 && !inexact => {
                return Err(Error::config(
                    "--confirm is about --precision and --output-rank: exact scores need none",
                ));
            }
            Some(margin) => config.confirm = Some(margin).filter(|&margin| margin > 0.0),
            None => return Ok(config),
        }
        config.confirm_is_stale = false;
        Ok(config)
    }

    /// What they say, with what `config` has learnt.
    ///
    /// # Errors
    /// If there is a risk or a width without --best-only.
    pub fn best_only(&self, config: &Config) -> Result<Option<BestOnly>> {
        if !self.best_only {
            if self.risk != 0.0 {
                return Err(Error::config("--risk is about --best-only: add it"));
            }
            if self.width != 0 {
                return Err(Error::config("--width is about --best-only: add it"));
            }
            return Ok(None);
        }
        let tail = config.tail.clone().unwrap_or_default();
        let width = match self.width {
            0 if self.risk == 0.0 => BestOnly::CERTAIN_WIDTH,
            0 => BestOnly::default().width,
            width => width,
        };
        Ok(Some(BestOnly { risk: self.risk, tail, width }))
    }
}
