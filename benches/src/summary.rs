//! Medians and ranges of what rounds measured.

use serde::Serialize;

use crate::contestant::Contestant;
use crate::round::Round;

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// The spread of at least one value; of an even number of values the median is the mean of the middle two.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        assert!(!values.is_empty(), "a spread needs a value");
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Spread { median, min: values[0], max: values[values.len() - 1] }
    }

    /// `median (min–max)`; the median alone when there was one round.
    pub(crate) fn show(self, decimals: usize) -> String {
        let Spread { median, min, max } = self;
        if min.total_cmp(&max).is_eq() {
            return format!("{median:.decimals$}");
        }
        format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
    }
}

/// What several rounds of the same kind say together.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) contestant: Contestant,
    pub(crate) processes: usize,
    pub(crate) rounds: usize,
    pub(crate) per_second: Spread,
    pub(crate) cpu: Spread,
    pub(crate) server_cpu: Spread,
    pub(crate) postgres_cpu: Spread,
    pub(crate) p50_ms: Spread,
    pub(crate) p99_ms: Spread,
    pub(crate) idle_mib: Spread,
    pub(crate) peak_mib: Spread,
    pub(crate) generator_cpu: Spread,
    pub(crate) foreign_cores: Spread,
    pub(crate) refused: u64,
    pub(crate) deadlocks: u64,
}

impl Summary {
    /// The summary of at least one round.
    pub(crate) fn of(rounds: &[Round]) -> Summary {
        let spread = |field: fn(&Round) -> f64| Spread::of(rounds.iter().map(field));
        Summary {
            contestant: rounds[0].contestant,
            processes: rounds[0].processes,
            rounds: rounds.len(),
            per_second: spread(|round| round.per_second),
            cpu: spread(Round::cpu),
            server_cpu: spread(|round| round.server_cpu),
            postgres_cpu: spread(|round| round.postgres_cpu),
            p50_ms: spread(|round| round.p50_ms),
            p99_ms: spread(|round| round.p99_ms),
            idle_mib: spread(|round| round.idle_mib),
            peak_mib: spread(|round| round.peak_mib),
            generator_cpu: spread(|round| round.generator_cpu),
            foreign_cores: spread(|round| round.foreign_cores),
            refused: rounds.iter().flat_map(|round| round.refused.values()).sum(),
            deadlocks: rounds.iter().map(|round| round.deadlocks).sum(),
        }
    }
}

/// One kind of round against another, round by round: what disturbed the machine in a round disturbed both.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) of: String,
    pub(crate) against: String,
    pub(crate) per_second: Spread,
    pub(crate) cpu: Spread,
}

impl Ratio {
    /// The ratios of rounds that ran in pairs.
    pub(crate) fn of(name: &str, rounds: &[Round], against: &str, others: &[Round]) -> Ratio {
        let paired = |field: fn(&Round) -> f64| {
            Spread::of(rounds.iter().zip(others).map(|(one, other)| field(one) / field(other)))
        };
        Ratio {
            of: name.to_owned(),
            against: against.to_owned(),
            per_second: paired(|round| round.per_second),
            cpu: paired(Round::cpu),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_is_the_middle() {
        let check = |values: &[f64], shown: &str| assert_eq!(Spread::of(values.iter().copied()).show(1), shown);
        check(&[2.0], "2.0");
        check(&[9.0, 1.0, 2.0], "2.0 (1.0–9.0)");
        check(&[4.0, 1.0, 2.0, 9.0], "3.0 (1.0–9.0)");
    }
}
